"""Rows METHOD+sam from the command to the tables: the same fits and maps, masks of their own, and what SAM brought."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner
from uasbench import api
from uasbench.benchmark.commands import logs
from uasbench.benchmark.commands.status import status
from uasbench.benchmark.planning import refinement
from uasbench.benchmark.planning.options import OptionError, experiment_options, validated
from uasbench.benchmark.planning.plan import PlanError
from uasbench.benchmark.refinement.prompts import PROMPTS
from uasbench.benchmark.refinement.refining import Healthy, refine, to_bytes
from uasbench.benchmark.refinement.sam import PUBLISHED, SamPredictor, file_sha256
from uasbench.benchmark.runs.map_store import read_mask
from uasbench.benchmark.stages import refine as stage
from uasbench.benchmark.stages.apart import Here
from uasbench.benchmark.verification import measuring
from uasbench.cli import app
from uasbench.datasets.anatomy import find_anatomy

from .in_process import InProcess
from .tiny_sam import write

FEW = {"profile": "smoke", "seeds": [0], "trials": 1}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sam") / "tiny.pth", trusts=0.9)


@pytest.fixture(scope="module")
def before(small_run, tmp_path_factory):
    """A finished run without refined rows."""
    return shutil.copytree(small_run.path, tmp_path_factory.mktemp("refined") / "run")


@pytest.fixture(scope="module")
def seals(before):
    """Its maps, as they were before anything was refined."""
    return {path: path.read_bytes() for path in (before / "maps").glob("*/map.json")}


@pytest.fixture(scope="module")
def done(quick_run, root, cache, weights, before, seals):
    """The same run with another method, and refined rows whose weights are not the published ones."""
    refining = {"refine": "sam", "sam_weights": weights, "allow_overlap": True}
    found = quick_run("ae,hu-deviation", "lits", data_root=root, cache=cache, out=before, **refining, **FEW)
    assert not found.failures
    return found


def values(record, protocol, metric):
    return {v.case: v.value for v in record.per_case if (v.protocol, v.metric) == (protocol, metric)}


def test_refined_rows_share_the_fit_and_the_map_and_have_masks_of_their_own(done):
    records = {r.cell.method: r for r in done.records}
    rows = [f"{name}{prompt}" for name in ("ae", "hu-deviation") for prompt in ("", "+sam")]
    assert set(records) == {*rows, "random"}
    assert [records[name].method.trivial for name in rows] == [False, False, True, False]
    base, own = records["ae"], records["ae+sam"]
    assert own.ids.fits == base.ids.fits
    assert own.ids.map != base.ids.map
    for protocol, metric in (("healthy-q95", "dice"), ("none", "auroc"), ("val", "dice")):
        assert values(own, protocol, metric) == values(base, protocol, metric)
    assert all(value is not None for value in values(own, "native", "dice").values())
    for case in base.data.cases:
        np.testing.assert_array_equal(done.map("ae+sam", case), done.map("ae", case))


def test_masks_and_dice_are_those_of_the_function_at_the_healthy_threshold(done, weights):
    (base,) = [r for r in done.records if r.cell.method == "ae"]
    (threshold,) = [t.threshold for t in base.thresholds if t.protocol == "healthy-q95"]
    (own,) = [r for r in done.records if r.cell.method == "ae+sam"]
    predictor, changed = SamPredictor(weights), []
    for case in base.data.cases:
        opened = done.case(case)
        scores = done.map("ae", case)
        pixels = to_bytes(opened.image, find_anatomy("liver").window)
        mask = refine(pixels, opened.roi, scores, Healthy(threshold, 0.0), predictor, "sam").mask
        found = done.prediction(own.cell.method, case, "native")
        np.testing.assert_array_equal(found, mask)
        truth = opened.truth & opened.roi
        dice = 2 * np.sum(mask & truth) / (mask.sum() + truth.sum())
        assert values(own, "native", "dice")[case] == pytest.approx(dice)
        changed.append(not np.array_equal(found, (scores > np.float32(threshold)) & opened.roi))
    assert any(changed)


def test_the_record_says_which_weights_and_how_many_answers_were_kept(done, weights):
    (own,) = [r for r in done.records if r.cell.method == "ae+sam"]
    (base,) = [r for r in done.records if r.cell.method == "ae"]
    assert own.provenance["SHA-256 of SAM"] == file_sha256(weights) == own.config["sam_weights"]
    assert own.provenance["weights of SAM"] == "tiny.pth, of unknown origin and licence"
    assert " masks of SAM kept, above " in own.provenance["refinement"]
    assert own.config["refine"] == "sam"
    assert own.cost.params == base.cost.params + SamPredictor(weights).params
    assert own.cost.score_s > base.cost.score_s
    assert own.cost.fit_s == base.cost.fit_s
    assert (own.method.overlap, base.method.overlap) == ("masks", "none")
    assert own.method.pretraining.startswith("masks: lits (weights of SAM of unknown origin")
    assert json.loads((done.path / "run.json").read_text())["options"]["refine"] == ["sam"]


def test_a_table_has_what_sam_has_brought(done):
    records = {r.cell.method: r for r in done.records}
    before = np.mean(list(values(records["ae"], "healthy-q95", "dice").values()))
    table = done.tables.refined.set_index(["method", "metric", "unit"])
    row = table.loc["ae+sam", "dice", "patient"]
    after = np.mean(list(values(records["ae+sam"], "native", "dice").values()))
    assert (row["without"], row["refined"]) == (pytest.approx(before), pytest.approx(after))
    assert row["mean_diff"] == pytest.approx(after - before)
    assert row["n_family"] == 2
    assert set(table["protocol"]) == {"native"}
    flags = done.table("summary").groupby("method")["flags"].first()
    assert [name for name in flags.index if "refined" in flags[name].split(";")] == ["ae+sam", "hu-deviation+sam"]
    assert "| ae+sam ºˢ |" in (done.path / "tables" / "refined.md").read_text()
    assert (done.path / "tables" / "refined.csv").is_file()
    assert "What has SAM brought?" in (done.path / "report.html").read_text()


def test_a_run_without_refinement_has_no_such_table(done):
    from uasbench.reports.tables import Tables

    assert Tables([r for r in done.records if r.cell.method not in ("ae", "hu-deviation")]).refined.empty
    assert Tables([r for r in done.records if r.cell.method in ("ae", "hu-deviation")]).refined.empty


def test_what_was_done_before_is_left_as_it_was(done, seals):
    assert len(seals) == 3
    assert all(path.read_bytes() == before for path, before in seals.items())


def test_the_run_verifies_and_its_stages_are_told(done, cache, root, monkeypatch):
    monkeypatch.setattr(measuring, "find_executor", lambda name: InProcess)
    assert api.verify(done.path, data_root=root, cache=cache).outcome == "verified"
    assert status(done.folder, 0.0).counts()["refine"]["done"] == 2
    listed = logs.logs(done.folder, logs.cell_named(done.folder, "ae+sam"))
    assert [name for name, _ in listed] == ["fit", "map", "refine", "measure"]
    assert all(path.is_file() for _, path in listed)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_other_test_scans_change_no_mask(done, plan, weights, tmp_path, prompt):
    """Nothing is normalised over the test set."""
    _, cells = plan("ae", refine=prompt, sam_weights=weights, allow_overlap=True)
    task, maps = cells[f"ae+{prompt}"].refine, done.folder.map_dir(done.records[0].cell)
    assert done.records[0].cell.method == "ae"
    task = task.model_copy(update={"base": maps, "base_id": done.records[0].ids.map})
    for name, cases in (("all", task.cases), ("one", task.cases[1:])):
        stage.run(task.model_copy(update={"cases": cases, "out": tmp_path / name}), Here(lambda *_: None))
    id_ = task.cases[1].id
    alone, among = (read_mask(tmp_path / name / f"{id_}.mask") for name in ("one", "all"))
    np.testing.assert_array_equal(alone, among)
    assert not (tmp_path / "one" / f"{task.cases[0].id}.mask").exists()
    if prompt == "sam":
        np.testing.assert_array_equal(among, done.prediction(f"ae+{prompt}", id_, "native"))


class TestRefused:
    def test_unknown_weights_are_skipped_with_the_reason(self, plan, weights):
        task, cells = plan("ae,hu-deviation", refine="sam", sam_weights=weights)
        assert set(cells) == {"ae", "hu-deviation"}
        reasons = {skip.method: skip.reason for skip in task.skipped}
        assert set(reasons) == {"ae+sam", "hu-deviation+sam"}
        assert "tiny.pth is none of the files that were published with SAM" in reasons["ae+sam"]
        assert "MedSAM" in reasons["ae+sam"]

    def test_the_published_weights_have_seen_no_scan(self, plan, weights, monkeypatch):
        monkeypatch.setitem(PUBLISHED, file_sha256(weights), "sam_vit_b_01ec64.pth")
        _, cells = plan("ae", refine=["sam", "sam-point"], sam_weights=weights)
        assert list(cells) == ["ae", "ae+sam", "ae+sam-point"]
        method = cells["ae+sam"].measure.method
        assert (method.name, method.overlap) == ("ae", "none")
        assert method.pretraining == "none (SAM: licensed photographs of SA-1B with masks)"
        assert cells["ae+sam"].maps is cells["ae"].maps
        assert len({cell.measured.id for cell in cells.values()}) == 3

    def test_without_held_out_scans_there_is_no_threshold(self, plan, weights):
        task, cells = plan("ae", refine="sam", sam_weights=weights, allow_overlap=True, calibration="none")
        assert set(cells) == {"ae"}
        (skip,) = task.skipped
        assert (skip.method, "threshold comes from healthy scans" in skip.reason) == ("ae+sam", True)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"refine": "sam"}, "needs --sam-weights FILE"),
            ({"refine": "sam", "sam_weights": "/nowhere/sam.pth"}, "there is no such file"),
            ({"sam_weights": "/nowhere/sam.pth"}, "without --refine"),
        ],
    )
    def test_what_is_missing_is_said_before_anything_is_prepared(self, plan, options, said):
        with pytest.raises((OptionError, PlanError), match=said):
            plan("ae", **options)

    def test_a_missing_package_is_named(self, plan, weights, monkeypatch):
        monkeypatch.setattr(refinement, "PACKAGE", "no_such_package")
        with pytest.raises(OptionError, match=r"pip install 'uasbench\[sam\]'"):
            plan("ae", refine="sam", sam_weights=weights)

    def test_prompts_that_do_not_exist_and_labels_that_look_like_rows(self):
        with pytest.raises(OptionError, match=r"--refine 'nose'.*sam-centre"):
            validated(datasets=["lits"], refine="sam,nose")
        with pytest.raises(OptionError, match="named twice"):
            validated(datasets=["lits"], refine="sam,sam")
        with pytest.raises(OptionError, match="choose another label"):
            validated(datasets=["lits"], variants=["x+sam:ae.size=32"])

    def test_the_rows_of_an_experiment_may_be_refined(self, weights):
        shown = CliRunner().invoke(app, ["reproduce", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        assert {"--refine", "--sam-weights"} <= set(shown.split())
        options = experiment_options("liver/table2", refine="sam,sam-centre", sam_weights=weights)
        assert (options.refine, options.sam_weights) == (["sam", "sam-centre"], weights)

    def test_files_that_changed_after_the_plan_are_not_used(self, done, weights, plan, tmp_path):
        copy = tmp_path / "sam.pth"
        copy.write_bytes(weights.read_bytes())
        _, cells = plan("ae", refine="sam", sam_weights=copy, allow_overlap=True)
        maps = done.folder.map_dir(next(r.cell for r in done.records if r.cell.method == "ae"))
        task = cells["ae+sam"].refine.model_copy(update={"base": maps, "out": tmp_path / "out"})
        with pytest.raises(stage.RefineError, match="other maps"):
            stage.run(task.model_copy(update={"base_id": "another"}), Here(lambda *_: None))
        task = task.model_copy(update={"base_id": json.loads((maps / "map.json").read_text())["id"]})
        write(copy, seed=1)
        with pytest.raises(stage.RefineError, match="another file"):
            stage.run(task, Here(lambda *_: None))
        assert not (tmp_path / "out").exists()


def test_the_stage_may_open_no_truth(plan, weights):
    _, cells = plan("ae", refine="sam", sam_weights=weights, allow_overlap=True)
    cell = cells["ae+sam"]
    assert cell.refine is not None
    places = stage._places(cell.refine, cell.refine.out)
    assert weights in places.reads
    truths = [truth.path.resolve() for truth in cell.measure.truths.values()]
    assert truths
    for truth in truths:
        assert not any(truth == place.resolve() or place.resolve() in truth.parents for place in places.reads)
