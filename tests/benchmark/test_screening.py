"""Screening: everybody of a healthy set is mapped by methods that did not learn from them, and shown on a page."""

from itertools import pairwise

import pandas as pd
import pytest
from uasbench.benchmark.commands.screening import screen
from uasbench.benchmark.planning.tasks import screening_tasks
from uasbench.common.errors import UasbenchError
from uasbench.reports.screening import chosen, ranked_slices, write_screening


@pytest.fixture(scope="module")
def screened(root, cache, tmp_path_factory):
    from uasbench.benchmark.planning.options import validated

    out = tmp_path_factory.mktemp("screening")
    options = validated(
        methods="ae,hu-threshold,vae", datasets=["btcv"], data_root=root, cache=cache, profile="smoke", seeds=[0]
    )
    return screen(options, "btcv", 2, out), options, out


def test_nobody_is_mapped_by_a_method_that_learned_from_them(root, cache, smoke):
    tasks = screening_tasks(smoke("ae,hu-threshold,asc-net", datasets=["btcv"]), "btcv", 2, 1)
    held = [case.id for task in tasks for case, _ in task.data.calibrating()]
    assert sorted(held) == sorted(case.id for case in tasks[0].data.healthy)
    for task in tasks:
        assert not {c.id for c, _ in task.data.training()} & {c.id for c, _ in task.data.calibrating()}
        assert [candidate.label for candidate in task.candidates] == ["ae"]
        assert {skip.method for skip in task.skipped} == {"hu-threshold", "asc-net"}


def test_every_slice_with_the_organ_is_ranked_by_every_method(screened):
    found, _, _ = screened
    frame = ranked_slices(found)
    slices = sum(len(scan.case.roi_slices()) for scan in found.scans)
    assert len(frame) == slices
    assert len(frame[["case", "z"]].drop_duplicates()) == slices
    assert frame["mean"].is_monotonic_decreasing
    for method in ("ae", "vae"):
        assert frame[method].max() == pytest.approx(100)
        assert frame[method].gt(0).all()


def test_the_page_shows_slices_that_lie_apart_and_a_second_call_trains_nothing(screened):
    found, options, out = screened
    table, page = write_screening(found, out, "bench data audit btcv", most=4)
    html = page.read_text(encoding="utf-8")
    assert html.count("<figure>") == len(chosen(ranked_slices(found), found.scans, 4)) > 1
    assert "synthetic and healthy by construction" in html
    assert "Networks have barely learned" in html
    assert "hu-threshold: does not learn from healthy scans" in html
    assert set(pd.read_csv(table).columns) == {"case", "fold", "z", "area_cm2", "ae", "vae", "mean", "agree"}
    fits = {path: path.stat().st_mtime_ns for path in out.rglob("fit.json")}
    assert fits
    assert screen(options, "btcv", 2, out) == found
    assert {path: path.stat().st_mtime_ns for path in out.rglob("fit.json")} == fits


def test_slices_of_a_scan_lie_fifteen_millimetres_apart(screened):
    found, _, _ = screened
    case = found.scans[0].case
    frame = pd.DataFrame({"case": case.id, "z": [4, 5, 3, 9, 1], "mean": [5.0, 4, 3, 2, 1]})
    kept = chosen(frame, found.scans, 10)["z"].tolist()
    assert kept[0] == 4
    places = sorted(z * case.spacing[0] for z in kept)
    assert all(b - a >= 15 for a, b in pairwise(places))
    assert chosen(frame, found.scans, 1)["z"].tolist() == [4]


def test_a_set_with_lesions_and_nobody_who_learns_are_refused(smoke, tmp_path):
    with pytest.raises(UasbenchError, match="its scans have lesions"):
        screen(smoke("ae"), "lits", 2, tmp_path / "a")
    with pytest.raises(UasbenchError, match="no method can run on btcv"):
        screen(smoke("hu-threshold", datasets=["btcv"]), "btcv", 2, tmp_path / "b")
    with pytest.raises(UasbenchError, match="cannot be held out in 50 folds"):
        screen(smoke("ae", datasets=["btcv"]), "btcv", 50, tmp_path / "c")
