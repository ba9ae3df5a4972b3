"""The catalogues of metrics and protocols: every reader knows what they hold; a new one needs an entry alone."""

import ast
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.ndimage import distance_transform_edt
from uasbench.benchmark.protocols.catalogue import PROTOCOLS, Protocol, deciding, is_oracle
from uasbench.benchmark.protocols.measuring import HealthyMap, MeasureOptions, measure
from uasbench.benchmark.runs.records import Threshold
from uasbench.benchmark.scoring.metrics import METRICS, NO_LESION, MaskedCase, Metric, Undefined, sign
from uasbench.reports.columns import FLAG_LEGEND
from uasbench.reports.compare import compare
from uasbench.reports.console import headline as console_headline
from uasbench.reports.grid import headline_grid
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables

ROOT = Path(__file__).parents[2]
SLICES_ONLY = "the set has slice labels only"


@pytest.fixture
def measured(make):
    """Return ``measured(anatomy, slices=…, level=…)``: four cases, the last without a lesion."""

    def call(anatomy: str, *, slices: bool = False, level: float = 1.5):
        healthy, cases = make(9, lesion=False), [make(k, lesion=k != 3, level=level) for k in range(4)]
        if slices:
            cases = [make(k, slices=case.truth.lesion.any(axis=(1, 2))) for k, case in enumerate(cases)]
        options = MeasureOptions(trials=2, anatomy=anatomy, native_threshold=1.0, min_size_mm3=(0.0,))
        return measure(cases, [HealthyMap(healthy.scan, healthy.map)], options)

    return call


def page_rows(name: str) -> list[str]:
    """The rows of the table of a page that lists a catalogue."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    table = next(block for block in text.split("\n\n") if block.startswith(("| metric |", "| id |")))
    return table.splitlines()[2:]


def catalogue_rows() -> dict[str, list[str]]:
    """The rows that each page has to hold."""
    metrics = [
        f"| `{m.id}` | {m.title} | {m.family} | {m.meaning} | {m.unit} | {m.direction or 'neither'} | {m.undefined} "
        f"| {m.pooled} |"
        for m in METRICS.values()
    ]
    protocols = [
        f"| `{p.id}` | {p.legend} | {p.sees_labels} | {', '.join(p.anatomies or ('all',))} |"
        for p in PROTOCOLS.values()
    ]
    return {"metrics.md": metrics, "protocols.md": protocols}


def test_the_docs_hold_the_catalogues_and_every_flag():
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert [flag for flag in FLAG_LEGEND if f"`{flag}`" not in page] == []
    assert {name: page_rows(name) for name in catalogue_rows()} == catalogue_rows()


@pytest.mark.parametrize("slices", [False, True])
@pytest.mark.parametrize("anatomy", ["liver", "lung"])
def test_what_is_measured_is_what_the_catalogues_hold_and_lies_in_its_unit(anatomy, slices, measured):
    result = measured(anatomy, slices=slices)
    protocols = {p.id for p in PROTOCOLS.values() if p.anatomies is None or anatomy in p.anatomies}
    metrics = [m for m in METRICS.values() if m.anatomies is None or anatomy in m.anatomies]
    metrics = [m for m in metrics if not slices or m.of_slices or m.always_listed]
    assert {row.protocol for row in (*result.per_case, *result.pooled)} == protocols
    assert {t.protocol for t in result.thresholds} == protocols - {"none"}
    assert {row.metric for row in result.per_case} == {m.id for m in metrics if m.per_case}
    assert {row.metric for row in result.pooled} == {m.id for m in metrics if m.pooled != "no"}
    if slices:
        voxel = [row for row in (*result.per_case, *result.pooled) if not METRICS[row.metric].of_slices]
        assert {(row.value, row.reason) for row in voxel} == {(None, SLICES_ONLY)}
        assert {(t.threshold, t.reason) for t in result.thresholds} == {(None, SLICES_ONLY)}
    for row in result.per_case:
        if row.value is not None:
            assert 0 <= row.value <= (1 if METRICS[row.metric].unit == "share" else np.inf), row


def test_only_thresholds_are_not_compared_and_no_upper_bound_decides():
    assert [m for m in METRICS if not sign(m)] == ["prevalence", "chance_dice", "slice_prevalence", "slice_threshold"]
    assert {m for m in METRICS if sign(m) < 0} >= {"fp_components", "fp_volume_ml", "healthy_fp_volume_ml"}
    assert deciding() == ["val", "healthy-q95", "healthy-q99", "native"]
    assert not any(is_oracle(protocol) for protocol in deciding())
    assert all("upper bound" in p.legend for p in PROTOCOLS.values() if p.is_oracle)
    assert [p for p in PROTOCOLS if is_oracle(p)] == ["oracle", "oracle-pooled", "paper-lung"]
    assert is_oracle("of another version")


def test_ids_stand_in_the_catalogues_alone():
    told = {p for p in PROTOCOLS if "-" in p or p == "val"} | {m for m in METRICS if "fp_" in m}
    homes = {"catalogue.py", "metrics.py"}
    said = [
        f"{path}: {node.value}"
        for room in ("benchmark", "reports")
        for path in (ROOT / room).rglob("*.py")
        if path.name not in homes
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in told
    ]
    assert not said


def farthest(case: MaskedCase) -> float | Undefined:
    """Return the 95 % quantile of the distances of mask voxels to the lesion, in mm."""
    if not case.totals.lesions or not case.mask.any():
        return Undefined(NO_LESION)
    distance = np.asarray(distance_transform_edt(~case.lesion, sampling=case.spacing))
    return float(np.quantile(distance[case.mask], 0.95))


def greedy(protocol: Protocol, evidence):
    return [Threshold(protocol=protocol.id, threshold=0.5, patients=evidence.patients)], None


@pytest.fixture
def added(monkeypatch):
    """A metric and an upper bound, each by its entry."""
    metric = Metric("far_mm", "Far (mm)", "lower", "mask", farthest, "distance", "no lesion", unit="mm")
    protocol = Protocol("peek", "0.5, seen on the test labels", sees_labels="yes", find=greedy, headline=True)
    monkeypatch.setitem(METRICS, metric.id, metric)
    monkeypatch.setitem(PROTOCOLS, protocol.id, protocol)


@pytest.mark.usefixtures("added")
class TestANewMetricAndANewProtocol:
    @pytest.fixture
    def records(self, make_record, measured):
        found = []
        for method, level in (("hu-deviation", 2.0), ("hu-threshold", 1.0), ("ae", 0.0)):
            result = measured("liver", level=level)
            made = make_record(method, dice={f"c{k}": 0.0 for k in range(4)}, protocols=[])
            found.append(made.model_copy(update={"per_case": result.per_case, "pooled": result.pooled}))
        return found

    def test_are_measured(self, measured, make):
        result = measured("liver")
        (threshold,) = [t for t in result.thresholds if t.protocol == "peek"]
        assert threshold.threshold == 0.5
        rows = {(v.case, v.protocol, v.metric): v for v in result.per_case}
        case = make(0)
        distance = np.asarray(distance_transform_edt(~case.truth.lesion, sampling=case.spacing))
        called = (case.map > 0.5) & case.scan.roi
        assert rows["c0", "peek", "far_mm"].value == pytest.approx(np.quantile(distance[called], 0.95))
        assert rows["c3", "val", "far_mm"].reason == NO_LESION
        assert {m for _, p, m in rows if p == "peek"} >= {"dice", "psc", "sen", "lesion_sen", "fp_components", "far_mm"}
        assert ("peek", "dice") in {(v.protocol, v.metric) for v in result.pooled}
        assert "far_mm" not in {v.metric for v in result.pooled}
        rows = {(v.case, v.protocol, v.metric): v for v in measured("lung", slices=True).per_case}
        assert rows["c0", "val", "far_mm"].reason == rows["c0", "peek", "dice"].reason == SLICES_ONLY

    def test_are_tabulated_ranked_tested_printed_and_marked(self, records, make_run, tmp_path):
        tables = Tables(records, info={"references": {"lits": "hu-deviation"}})
        assert {"far_mm", "peek"} <= {*tables.per_case["metric"], *tables.per_case["protocol"]}
        summary = tables.summary.set_index(["protocol", "metric", "unit", "method"]).sort_index()
        near = summary.loc[("val", "far_mm", "patient")]["mean"]
        best = "hu-deviation" if near["hu-deviation"] < near["hu-threshold"] else "hu-threshold"
        assert "best-trivial" in summary.loc[("val", "far_mm", "patient", best)]["flags"]
        for frame in (tables.summary, tables.per_case, tables.paired_tests):
            marked = frame["flags"].str.split(";").map(lambda flags: "oracle" in flags)
            assert marked[frame["protocol"] == "peek"].all()
            assert not marked[frame["protocol"] == "val"].any()
        assert summary["oracle_gap"].loc[("peek", "dice", "patient")].isna().all()
        (found,) = headlines(tables.summary)
        grid = headline_grid(found)
        assert grid is not None
        assert grid.headers.index("Dice peek (upper bound)") in grid.muted
        assert any(line == "peek: threshold is 0.5, seen on the test labels." for line in grid.legend)
        folder = make_run(tmp_path, records)
        console = Console(width=160)
        with console.capture() as captured:
            console.print(console_headline(folder))
        assert "(!) peek: 0.5, seen on the test labels." in captured.get()
        assert set(compare(folder, "ae", "far_mm")["protocol"]) == {"val"}

    def test_are_missed_in_the_docs(self):
        with pytest.raises(AssertionError):
            test_the_docs_hold_the_catalogues_and_every_flag()
        assert [len({*rows} - {*page_rows(name)}) for name, rows in catalogue_rows().items()] == [1, 1]
