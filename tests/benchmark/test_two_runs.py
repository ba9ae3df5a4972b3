"""Two runs side by side: equal where everything is the same, near where the machine is another, named where not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from uasbench import api
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.runs.records import Record, write_json
from uasbench.benchmark.verification.findings import Part
from uasbench.benchmark.verification.two_runs import compare_runs


@pytest.fixture
def changed(small_run: RunFolder, tmp_path: Path) -> Callable[[Callable[[Record], object]], dict[str, Part]]:
    """Return the parts of the comparison with a copy of which every record is changed."""

    def call(change: Callable[[Record], object]) -> dict[str, Part]:
        other = RunFolder.open(shutil.copytree(small_run.path, tmp_path / "other"))
        for record in other.records():
            change(record)
            write_json(other.record_path(record.cell), record)
        return {part.name: part for part in compare_runs(small_run, other).parts}

    return call


def a_dice(record: Record):
    return next(row for row in record.per_case if (row.protocol, row.metric) == ("oracle", "dice"))


def add(record: Record, much: float) -> None:
    a_dice(record).value += much


def elsewhere(record: Record, *, mapped: bool = True) -> None:
    record.environment["instruction_set"]["numpy"] = "another"
    if mapped:
        record.environment["made_on"] = ["another"]


def test_a_run_agrees_with_itself_to_the_last_bit(small_run):
    found = api.verify_against(small_run.path, small_run.path)
    assert (found.outcome, found.parts[0].counts) == ("verified", {"cells in both": 3})
    assert "no number differs" in found.parts[-1].remarks


def test_on_the_same_machine_numbers_have_to_be_equal(changed):
    numbers = changed(lambda record: add(record, 1e-12))["numbers"]
    assert len(numbers.differences) == 3
    assert "oracle dice volume-0" in numbers.differences[0].where


@pytest.mark.parametrize(
    ("mapped", "much", "outcome"),
    [(False, 1e-8, "verified"), (False, 1e-4, "differs"), (True, 1e-3, "verified"), (True, 0.02, "differs")],
)
def test_on_another_machine_they_may_differ_as_far_as_is_stated(changed, mapped, much, outcome):
    def change(record: Record) -> None:
        elsewhere(record, mapped=mapped)
        add(record, much)

    parts = changed(change)
    assert parts["numbers"].outcome == outcome
    assert parts["identity"].outcome == "verified", "another machine is no fault"
    assert any("another" in remark for remark in parts["identity"].remarks)
    assert any(f"dice: largest difference {much:.3g}" in remark for remark in parts["numbers"].remarks)


@pytest.mark.parametrize(("much", "outcome"), [(0.05, "verified"), (0.3, "differs")])
def test_what_was_trained_elsewhere_is_compared_by_its_means(changed, much, outcome):
    """A case may differ by anything, as after another seed."""

    def change(record: Record) -> None:
        elsewhere(record)
        record.cost.updates = {"fit": 600}
        add(record, 2 * much)  # one of two cases

    numbers = changed(change)["numbers"]
    assert numbers.outcome == outcome
    if numbers.differences:
        assert "random on lits after btcv, mean oracle dice over 2 seeds" in [one.where for one in numbers.differences]


def test_counts_and_thresholds_after_other_smoothing_are_not_compared_across_machines(changed):
    def change(record: Record) -> None:
        elsewhere(record)
        for row in (*record.per_case, *record.pooled):
            if row.metric in ("fp_components", "fp_volume_ml") and row.value is not None:
                row.value += 100
        for threshold in record.thresholds:
            if threshold.protocol == "val":
                threshold.threshold, threshold.smoothing_mm = 1e6, 9.0

    assert changed(change)["numbers"].outcome == "verified"


def test_a_value_that_one_run_lacks_differs_by_its_reason(changed):
    def change(record: Record) -> None:
        elsewhere(record)
        a_dice(record).value, a_dice(record).reason = None, "no lesion"

    assert "undefined (no lesion)" in [one.found for one in changed(change)["numbers"].differences]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda record: record.data.cases.update({"volume-0": "other"}), "lits volume-0, scan"),
        (lambda record: record.data.truth.update({"volume-1": "other"}), "lits volume-1, labels"),
        (lambda record: record.data.split.update({"hash": "other"}), "lits after btcv, split"),
        (lambda record: record.config.update({"size": 7}), "hu-deviation__lits__btcv__s0, config"),
    ],
)
def test_runs_of_other_things_are_told_apart(changed, change, named):
    identity = changed(change)["identity"]
    assert named in [one.where for one in identity.differences]


def test_cells_of_one_run_alone_are_named(small_run, folder):
    record = folder.records()[0]
    folder.record_path(record.cell).unlink()
    found = compare_runs(small_run, folder)
    assert found.outcome == "not verified"
    assert found.parts[0].unverified == [f"{record.cell.slug}: only in {small_run.path}"]
