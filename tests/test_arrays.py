"""Arrays of a run: what a user is given is what was measured, and where it cannot be given the message says why."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import uasbench
from uasbench.benchmark.commands.arrays import NotInRunError, RunCase, pick
from uasbench.benchmark.protocols.catalogue import PROTOCOLS
from uasbench.benchmark.scoring.metrics import NO_NATIVE
from uasbench.common.errors import DataError, UasbenchError


@pytest.fixture(scope="module")
def run(quick_run, coarse_methods, root, cache, tmp_path_factory) -> uasbench.Run:
    """A run of two classes of a module on the path, and of a method of the package, on data of its own."""
    home = tmp_path_factory.mktemp("arrays")
    shutil.copytree(root, home / "data")
    (home / "site").mkdir()
    (home / "site" / "loose_methods.py").write_text(coarse_methods)
    options = {"data_root": home / "data", "cache": cache, "profile": "smoke", "seeds": [0, 1], "trials": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(home / "site"))
        loose = importlib.import_module("loose_methods")
        patch.delitem(sys.modules, "loose_methods")
        patch.setitem(sys.modules, "loose_methods", loose)
        methods = [loose.Bright, "hu-deviation", loose.Everywhere]
        return quick_run(methods, "lits", out=home / "run", **options)


@pytest.fixture(scope="module")
def cases(run) -> list[str]:
    return list(run.records[0].data.cases)


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))


@pytest.mark.parametrize("method", ["bright", "everywhere", "hu-deviation"])
def test_predictions_have_the_dice_of_per_case_under_every_protocol(run, cases, method):
    printed = pd.read_csv(run.path / "tables" / "per_case.csv", dtype={"value": str})
    rows = printed[(printed.method == method) & (printed.metric == "dice")].dropna(subset="value")
    exact = run.table("per_case").set_index(["method", "seed", "case", "protocol", "metric"]).value
    record = pick(run.records, method=method)
    masked = {t.protocol for t in record.thresholds if PROTOCOLS[t.protocol].grid is None}
    masked -= {t.protocol for t in record.thresholds if t.reason == NO_NATIVE}
    assert set(rows.protocol) == masked
    assert set(rows.case) == set(cases)
    for row in rows.itertuples():
        case = run.case(row.case)
        region = case.roi if method != "everywhere" else case.roi.any(axis=(1, 2), keepdims=True)
        mask = run.prediction(method, row.case, row.protocol, row.seed)
        assert mask.dtype == bool
        assert not (mask & ~region).any()
        found = dice(mask, case.truth & region)
        assert f"{found:.9g}" == row.value
        assert found == exact[method, row.seed, row.case, row.protocol, "dice"]


def test_a_case_is_the_scan_that_was_mapped_with_its_truth_and_place(run, cases):
    for name in cases:
        case = run.case(name)
        assert isinstance(case, RunCase)
        (file,) = (run.path.parent / "data").rglob(f"{name}.nii*")
        image = nib.load(file)
        labels = nib.load(next((run.path.parent / "data").rglob(file.name.replace("volume", "segmentation"))))
        stored, truth = np.asarray(image.dataobj), np.asarray(labels.dataobj) == 2
        # Lesion voxels at the same millimetres have the same values.
        to_file = np.linalg.inv(image.affine) @ case.affine
        places = np.argwhere(case.truth)
        there = np.rint((np.c_[places, np.ones(len(places))] @ to_file.T)[:, :3]).astype(int)
        assert len(places) == np.count_nonzero(truth)
        assert truth[tuple(there.T)].all()
        assert np.array_equal(case.image[case.truth], stored[tuple(there.T)].astype(np.float32))
        assert np.allclose(np.linalg.norm(case.affine[:3, :3], axis=0), case.spacing, atol=1e-3)
        assert name in repr(case)


def test_a_map_is_what_the_method_made_of_the_scan(run, cases):
    assert not np.array_equal(run.map("hu-deviation", cases[0]), run.map("hu-deviation", cases[1]))
    everywhere, bright = run.map("everywhere", cases[0], 1), run.map("bright", cases[0], 1)
    roi = run.case(cases[0]).roi
    assert everywhere.dtype == np.float32
    assert everywhere.shape == roi.shape
    assert np.abs(everywhere[roi] - bright[roi]).mean() < 0.1
    assert np.array_equal(run.map("bright", cases[0]), run.map("bright", cases[0], 0))


def test_a_copy_of_the_run_gives_maps_without_any_data_and_says_what_lacks_for_the_rest(run, cases, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    info["options"] |= {"data_root": str(tmp_path / "gone"), "cache": str(tmp_path / "no cache")}
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    for plan in (tmp_path / "run" / "cells").glob("*.json"):
        plan.unlink()
    alone = uasbench.open_run(tmp_path / "run", cache=tmp_path / "empty")
    assert np.array_equal(alone.map("bright", cases[0]), run.map("bright", cases[0]))
    with pytest.raises(DataError, match=r"data root .*gone is not a folder"):
        alone.case(cases[0])
    with pytest.raises(DataError, match="data root"):
        alone.prediction("bright", cases[0], "val")
    where = {"data_root": run.path.parent / "data", "cache": tmp_path / "empty"}
    again = uasbench.open_run(tmp_path / "run", **where)
    assert np.array_equal(again.prediction("bright", cases[1]), run.prediction("bright", cases[1]))
    assert np.array_equal(again.case(cases[1]).affine, run.case(cases[1]).affine)


def test_other_scans_than_those_of_the_run_are_refused(run, cases, tmp_path):
    shutil.copytree(run.path.parent / "data", tmp_path / "data")
    (file,) = (tmp_path / "data").rglob(f"{cases[0]}.nii*")
    image = nib.load(file)
    changed = np.asarray(image.dataobj).copy()
    changed[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(changed, image.affine, image.header), file)
    shutil.copytree(run.path, tmp_path / "run")
    for plan in (tmp_path / "run" / "cells").glob("*.json"):
        plan.unlink()
    other = uasbench.open_run(tmp_path / "run", data_root=tmp_path / "data", cache=tmp_path / "cache")
    with pytest.raises(DataError, match="is not the scan"):
        other.case(cases[0])


def test_names_that_are_not_there_are_named_with_those_that_are(run, cases):
    for call, said in [
        (lambda: run.map("brigth", cases[0]), r"no method 'brigth' in this run; did you mean 'bright'\?"),
        (lambda: run.map("bright", "volume-77"), f"no case 'volume-77' .*{cases[0]}"),
        (lambda: run.map("bright", cases[0], 7), "no seed 7 in this run.* It has: 0, 1"),
        (lambda: run.case(cases[0], dataset="btcv"), "no dataset 'btcv'.* It has: lits"),
        (lambda: run.prediction("bright", cases[0], "vall"), "no protocol 'vall'.*did you mean 'val'"),
        (lambda: run.prediction("bright", cases[0], "paper-liver"), "a grid of its own"),
        (lambda: run.table("sumary"), "no table 'sumary'"),
        (lambda: run.show(cases[0], "bright", z=999), "z=999: .* has slices 0 to"),
    ]:
        with pytest.raises(NotInRunError, match=said):
            call()


def test_the_same_case_name_in_two_sets_has_to_be_told_apart(run, cases):
    record = run.records[0]
    twin = record.model_copy(update={"cell": record.cell.model_copy(update={"dataset": "other"})})
    with pytest.raises(NotInRunError, match="one of lits and of other; say which: dataset='lits'"):
        pick([record, twin], case=cases[0])
    assert pick([record, twin], case=cases[0], dataset="other") is twin


def test_maps_that_are_gone_are_told(run, cases, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "maps")
    with pytest.raises(UasbenchError, match=r"does not hold the maps of .*; call uasbench\.run\(\) again"):
        uasbench.open_run(tmp_path / "run").map("bright", cases[0])


def test_thresholds_are_a_frame_with_a_row_for_each(run):
    frame = run.thresholds()
    assert len(frame) == sum(len(record.thresholds) for record in run.records)
    record = pick(run.records, method="bright", seed=1)
    own = frame[(frame.method == "bright") & (frame.seed == 1)]
    for threshold in record.thresholds:
        same = (own.protocol == threshold.protocol) & (
            own.fold.fillna(-1) == (-1 if threshold.fold is None else threshold.fold)
        )
        (row,) = own[same].itertuples()
        assert row.patients == tuple(threshold.patients)
        assert (row.threshold == threshold.threshold) or (np.isnan(row.threshold) and threshold.threshold is None)
    assert frame.threshold.dtype == np.float64


def test_a_figure_has_a_row_for_each_method_and_is_a_picture_in_a_notebook(run, cases):
    figure = run.show(cases[0], ["bright", "hu-deviation"], protocol="oracle")
    axes = figure.get_axes()
    assert len(axes) == 6
    value = run.table("per_case").query(
        "method == 'bright' and seed == 0 and metric == 'dice' and protocol == 'oracle'"
    )
    shown = f"{100 * value.set_index('case').value[cases[0]]:.1f} %"
    assert shown in axes[0].get_ylabel()
    assert len(run.show(cases[0]).get_axes()) == 9
    png = figure._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 10_000


def test_a_slice_without_a_lesion_shows_no_outline_of_one(run, cases):
    case = run.case(cases[0])
    empty = int(np.flatnonzero(case.roi.any(axis=(1, 2)) & ~case.truth.any(axis=(1, 2)))[0])
    lesioned = int(case.truth.sum(axis=(1, 2)).argmax())

    def blue(z: int) -> int:
        panel = run.show(cases[0], "bright", z=z).get_axes()[2].get_images()[0].get_array()
        return int((np.asarray(panel)[..., 2].astype(int) - np.asarray(panel)[..., 0] > 100).sum())

    assert blue(empty) == 0
    assert blue(lesioned) > 0


def test_a_notebook_shows_tables_in_place_of_walls_of_text(run):
    html = run._repr_html_()
    assert "<table>" in html
    assert "hu-deviation" in html
    assert "synthetic data" in html
    of_record = pick(run.records, method="bright")._repr_html_()
    assert of_record.count("<tr>") == 1 + len({t.protocol for t in pick(run.records, method="bright").thresholds})
    assert len(repr(run.records[0])) < 100
    assert repr(run) == f"Run({str(run.path)!r}: 5 cells, 0 failed)"


def test_what_needs_no_record_reads_none(run, monkeypatch):
    opened = uasbench.open_run(run.path)
    monkeypatch.setattr(type(opened.folder), "records", lambda self: pytest.fail("records were read"))
    assert "5 cells" in repr(opened)
    assert opened.table("skipped").empty
    assert opened.table("failures").empty
    assert opened.info["profile"] == "smoke"


def test_the_source_of_a_class_stays_with_the_run(run, coarse_methods):
    told = run.info["sources"]
    assert told["bright"] == {"class": "loose_methods:Bright", "files": ["sources/bright/loose_methods.py"]}
    assert (run.path / "sources/bright/loose_methods.py").read_text() == coarse_methods
    assert "hu-deviation" not in told
    assert Path(run.path, "sources", "everywhere").is_dir()
