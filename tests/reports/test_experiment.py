"""The page of an experiment: what was printed beside ours, and its figures."""

import json

import numpy as np
import pandas as pd
import pytest
from uasbench.benchmark.catalogue.printed import Printed
from uasbench.benchmark.commands.embedding import KINDS
from uasbench.benchmark.experiments import Figure, Page
from uasbench.benchmark.runs.records import Failure
from uasbench.reports.build import build
from uasbench.reports.columns import FLAG_LEGEND
from uasbench.reports.experiment import printed_and_ours
from uasbench.reports.figures.checkpoints import checkpoint_figure
from uasbench.reports.figures.gallery import GalleryError, read_gallery
from uasbench.reports.figures.panels import FOUND, Slice, compose
from uasbench.reports.figures.series import ERROR_KINDS

EVIL = "<script>alert('x')</script>"
PRINTED = Printed(row="two-stage", dataset="lits", metric="dice", protocol="val", unit="patient", value=53.0, std=1.8)


ERRORS = {"missed_ml": 1.0, "false_ml": 2.0, "gap_ml": 0.5, "trained_slice_mm": 2.5}


def picture(name, roi, truth, prediction, made):
    map_ = np.where(roi, np.linspace(0, 1, roi.size).reshape(roi.shape), 0).astype(np.float32)
    arrays = {"image": np.full(roi.shape, 90, np.uint8), "roi": roi, "truth": truth, "prediction": prediction}
    restored = {f"restored/{k}": np.full(roi.shape, 0.5, np.float32) for k in range(made)}
    return {f"{name}/{part}": array for part, array in (arrays | restored | {"map": map_}).items()}


def write_gallery(path, made=2, **about):
    roi = np.zeros((40, 50), bool)
    roi[5:35, 8:45] = True
    truth, prediction = np.zeros_like(roi), np.zeros_like(roi)
    truth[12:20, 15:25] = prediction[16:24, 15:25] = True
    names = ("best", "series-1", "series-2", "missed-1", "gap-1", "dense-1")
    arrays, meta = {}, dict(about)
    told = {"lesion_ml": 1.2, "contrast_hu": -40.0, "noise_hu": 12.0, "ml": 1.0, "hu": -300.0, "slices": 2}
    for name in names:
        arrays |= picture(name, roi, truth, prediction, made)
        where = {"case": "c", "patient": EVIL, "z": 3, "protocol": "native", "threshold": None, "slice_mm": 5.0}
        meta[name] = where | told | {"restored": ["restoration", EVIL][:made]}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays, meta=np.array(json.dumps(meta)))


@pytest.fixture
def built(make_run, liver_records, tmp_path):
    figures = [
        Figure(kind="patients", title="Easy to hard", pictures=["restoration"]),
        Figure(kind="methods", title="Side by side"),
        Figure(kind="errors", title="Errors"),
        Figure(kind="embedding", title=EVIL),
    ]
    page = Page(name="liver/mine", title=EVIL, notes="of 2023", figures=figures, printed=[PRINTED])

    def build_it(phantom=None, embedding=True, failed=()):
        kept = [r for r in liver_records if (r.cell.method, r.cell.seed) not in failed]
        failures = [Failure(cell=r.cell, stage="fit", error=EVIL) for r in liver_records if r not in kept]
        info = {"experiment": page.model_dump(mode="json"), "phantom": phantom}
        folder = make_run(tmp_path, kept, failures, **info)
        for record in liver_records:
            if record.cell.method in ("two-stage", "hu-deviation"):
                made = 2 if record.cell.method == "two-stage" else 0
                write_gallery(folder.gallery_path(record.cell), made, errors=ERRORS)
        if embedding:
            places = {kind: [[0.0, i], [1.0, i]] for i, kind in enumerate(KINDS)}
            shares = {kind: dict.fromkeys(places, 1 / 3) for kind in places}
            told = {"method": "two-stage", "places": places, "neighbours": shares}
            folder.embedding.write_text(json.dumps(told))
        return folder, build(folder)

    return build_it


def test_a_page_of_real_data_prints_both_numbers_and_their_difference_with_its_interval(built):
    folder, files = built()
    text = folder.page_html.read_text()
    assert EVIL not in text
    assert "Phantom." not in text
    assert "are left out" not in text
    assert "failed-cells" not in text
    assert "53.0 ± 1.8" in text
    assert "<th" in text
    assert "Difference" in text
    assert text.count("<img") == 2 + 2 + 3 * 2 + 1  # patients, methods, kinds of errors by method; the embedding
    assert all(called in text for called in ERROR_KINDS.values())
    assert "0.5 (over 2.5 mm)" in text
    assert folder.page_html in files
    assert files[-1] == folder.report_html


def test_a_page_of_a_phantom_greys_what_was_printed_and_speaks_of_no_difference(built):
    text = built(phantom={"seed": 0})[0].page_html.read_text()
    assert "Phantom." in text
    assert "Difference" not in text
    assert 'class="n muted"' in text


def test_a_failed_seed_is_named_and_marked(built):
    text = built(failed=[("two-stage", 2)])[0].page_html.read_text()
    assert "Failures: exclude. Cells that failed or are missing are left out: two-stage on lits after btcv" in text
    assert "small-n, failed-cells, missing-seeds</td>" in text
    assert f"failed-cells: {FLAG_LEGEND['failed-cells']}." in text


def test_what_is_not_there_yet_is_said(built):
    text = built(embedding=False)[0].page_html.read_text()
    assert "draws it once all cells are done" in text


def test_a_run_that_is_no_experiment_has_no_page(make_run, liver_records, tmp_path):
    folder = make_run(tmp_path, liver_records)
    assert not any(path.name == "experiment.html" for path in build(folder))


@pytest.mark.parametrize("phantom", [False, True])
def test_asterisks_have_columns_where_a_table_has_any(phantom):
    row = {
        "row": "a", "dataset": "lits", "metric": "Dice", "printed": "1.0", "here": "2.0", "ci_low": 1.0, "ci_high": 3.0,
        "difference": "+1.0", "diff_low": np.nan, "diff_high": np.nan, "stars": "*", "stars_here": "n/a", "flags": "",
        "p_here": 0.02, "n_cases": 4, "n_seeds": 3, "of": "", "reason": "",
    }  # fmt: skip
    starred = printed_and_ours(pd.DataFrame([row]), phantom=phantom)
    plain = printed_and_ours(pd.DataFrame([row | {"stars": ""}]), phantom=phantom)
    assert len(starred.headers) == len(plain.headers) + 2 == len(starred.rows[0].cells) == len(starred.rows[0].under)
    assert "[1.0, 3.0]" in starred.rows[0].under
    assert starred.muted == ({3} if phantom else set())
    nearest = printed_and_ours(pd.DataFrame([row | {"of": "whole bodies"}]), phantom=phantom)
    assert nearest.muted == {3}
    assert "Difference" not in nearest.headers
    assert nearest.rows[0].under[3] == "whole bodies"
    assert len(nearest.headers) == len(nearest.rows[0].cells) == len(nearest.rows[0].under)
    mixed = printed_and_ours(pd.DataFrame([row, row | {"of": "whole bodies"}]), phantom=phantom)
    assert mixed.headers == starred.headers


def test_checkpoints_are_lines_by_number(tmp_path):
    def row(method, mean, std=0.01):
        return {
            "method": method, "metric": "dice", "protocol": "paper-liver", "unit": "pooled", "mean": mean, "std": std,
        }  # fmt: skip

    summary = pd.DataFrame([row("two-stage@epoch-6", 0.4), row("two-stage@epoch-1", 0.5, np.nan), row("ae", 0.1)])
    printed = [
        Printed(
            row=f"two-stage@epoch-{n}", dataset="lits", metric="dice", protocol="paper-liver", unit="pooled", value=54.0
        )
        for n in (1, 6)
    ]
    path = checkpoint_figure(printed, summary, "t", tmp_path / "c.png")
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    assert checkpoint_figure(printed, summary.iloc[2:], "t", tmp_path / "none.png") is None


def test_the_outcome_tells_found_missed_and_false_apart():
    square = np.zeros((20, 20), bool)
    square[2:18, 2:18] = True
    truth, marked = np.zeros_like(square), np.zeros_like(square)
    truth[4:8, 4:12] = marked[4:8, 8:16] = True
    one = Slice(np.zeros((20, 20), np.uint8), square, truth, square.astype(np.float32), marked, {})
    seen = {tuple(colour) for colour in np.array(one.outcome()).reshape(-1, 3)}
    assert seen == {(0, 0, 0), (0x00, 0x9E, 0x73), (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)}
    assert FOUND == "#009e73"
    assert one.made("nothing") is None


def test_rows_may_lack_a_panel(tmp_path):
    roi = np.ones((9, 9), bool)
    one = Slice(np.zeros((9, 9), np.uint8), roi, roi, roi.astype(np.float32), roi, {})
    path = compose(
        "t", ("a", "b"), [("x", [one.input(), None]), ("y", [one.input(), one.scores(0, 0)])], tmp_path / "t.png"
    )
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_gallery_without_a_picture_of_its_titles_is_damaged(tmp_path):
    write_gallery(tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz") as stored:
        arrays = {name: stored[name] for name in stored.files if name != "best/restored/1"}
    np.savez_compressed(tmp_path / "g.npz", **arrays)
    with pytest.raises(GalleryError, match="bench rescore"):
        read_gallery(tmp_path / "g.npz")
