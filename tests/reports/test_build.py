"""The whole build: files, stable bytes, escaping, damaged inputs, empty runs."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from uasbench.benchmark.runs.records import CellKey, Failure, Skip
from uasbench.reports.build import build
from uasbench.reports.compare import CompareError, compare, compared
from uasbench.reports.figures.cost_plot import pareto_front
from uasbench.reports.figures.curves import MAX_POINTS, thin
from uasbench.reports.figures.gallery import GalleryError, gallery_figure, label_of, read_gallery
from uasbench.reports.figures.panels import PANEL, compose, outline
from uasbench.reports.figures.pictures import Pictures
from uasbench.reports.formats import fixed, points

EVIL = "<script>alert('x')</script>"


def write_gallery(path, names=("best", "median", "worst")):
    rng = np.random.default_rng(0)
    arrays = {}
    for name in names:
        roi = np.zeros((40, 50), bool)
        roi[5:35, 8:45] = True
        truth = np.zeros_like(roi)
        truth[12:20, 15:25] = True
        arrays |= {
            f"{name}/image": rng.integers(0, 255, roi.shape, dtype=np.uint8),
            f"{name}/roi": roi,
            f"{name}/truth": truth,
            f"{name}/map": (truth + rng.random(roi.shape)).astype(np.float32) * roi,
            f"{name}/prediction": truth,
        }
    meta = {n: {"case": "c", "patient": EVIL, "z": 3, "dice": 0.5, "protocol": "val", "threshold": 0.4} for n in names}
    arrays["meta"] = np.array(json.dumps(meta))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


@pytest.fixture(scope="module")
def built(make_run, liver_records, tmp_path_factory):
    failure = Failure(
        cell=CellKey(method="vae", dataset="lits", train="btcv", seed=1), stage="fit", error=EVIL, log="l"
    )
    folder = make_run(
        tmp_path_factory.mktemp("run"), liver_records, [failure], [Skip(method="knn", dataset="lits", reason=EVIL)],
        warnings=[EVIL], environment={"python": "3.11", "versions": {"numpy": EVIL}}, command=f"bench run {EVIL}",
    )  # fmt: skip
    first = next(r for r in liver_records if r.cell.method == "two-stage")
    write_gallery(folder.map_dir(first.cell) / "gallery.npz")
    curves = folder.fit_dir(first.ids.fit) / "curves.csv"
    curves.parent.mkdir(parents=True)
    curves.write_text("step,name,value\n0,loss,1.0\n1,loss,0.5\n2,loss,0.4\n0,lr,0.001\n")
    broken = next(r for r in liver_records if r.cell.method == "draem")
    (folder.map_dir(broken.cell)).mkdir(parents=True)
    (folder.map_dir(broken.cell) / "gallery.npz").write_bytes(b"not a zip")
    return folder, build(folder)


def test_files_and_that_building_again_changes_no_byte(built):
    folder, files = built
    names = {str(f.relative_to(folder.path)) for f in files}
    assert {f"tables/{t}.csv" for t in ("summary", "per_case", "paired_tests", "cost", "failures", "skipped")} <= names
    assert {f"tables/headline-lits-btcv.{x}" for x in ("md", "tex")} <= names
    drawn = ("patients", "cost", "ranks", "stability", "seeds", "cases", "pairs")
    assert {f"figures/{x}-lits-btcv.{y}" for x in drawn for y in ("svg", "csv")} <= names
    assert {"figures/overlays/two-stage__lits__btcv__s0.png", "figures/curves/two-stage-lits-btcv.svg"} <= names
    assert files[-1] == folder.report_html
    assert all(f.stat().st_size for f in files)
    assert not list(folder.path.rglob("*.tmp"))
    before = {f: f.read_bytes() for f in files}
    assert build(folder) == files
    assert {f: f.read_bytes() for f in files} == before


def test_html_is_self_contained_escapes_what_it_prints_and_notes_a_damaged_gallery(built):
    page = built[0].report_html.read_text()
    assert page.count("<script") == 2  # that of the table and that of the viewer
    assert page.count("&lt;script&gt;") >= 5
    assert "gallery.npz cannot be read" in page
    links = set(re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)([^"']*)""", page))
    assert all((built[0].path / link).is_file() for link in links)
    anchors = set(re.findall(r"""href="#([^"]*)""", page))
    assert anchors <= set(re.findall(r"""\bid="([^"]*)""", page))
    assert not any(word in page for word in ("@import", "url("))
    sections = ("What was run", "Is the difference real?", "Overlays", "Training curves", "Published numbers",
                "Failed cells and skipped", "Environment")  # fmt: skip
    assert [section for section in sections if section not in page] == []
    in_order = ('class="answer"', 'class="table explorer"', "Per patient</h3>", 'id="run"')
    ordered = [page.index(text) for text in in_order]
    assert ordered == sorted(ordered)


def test_phantom_banner(make_run, make_record, tmp_path):
    folder = make_run(tmp_path, [make_record("ae", phantom=True)], phantom={"seed": 3})
    build(folder)
    page = folder.report_html.read_text()
    assert "All scans are synthetic" in page
    assert "Published numbers" not in page
    assert all("phantom" in (folder.tables_dir / f"headline-lits-btcv.{x}").read_text() for x in ("md", "tex"))


@pytest.mark.parametrize(
    ("cells", "file", "said"),
    [
        ([], "report.html", "No cell has finished"),
        ([{"method": "hu-deviation", "patients": ["p1"]}], "tables/summary.csv", "n/a"),
        ([{"method": "ae", "dice": {"p1-c": None, "p2-c": None}}], "report.html", "no lesion"),
        ([{"method": "ae"}, {"dataset": "my-set", "train": "x"}], "report.html", "my-set, trained on x"),
        ([{"dataset": "my-set", "train": "x"}], "tables/headline-my-set-x.md", "my-set, trained on x"),
        ([{"method": "ae"}, {"method": "dae"}], "report.html", "The reference hu-deviation has no finished cell"),
        (
            [{"method": "ae"}, {"method": "draem", "train": "x"}],
            "report.html",
            "The reference draem has no finished cell",
        ),
    ],
)
def test_small_and_odd_runs_say_what_they_hold(make_run, make_record, tmp_path, cells, file, said):
    failure = Failure(cell=CellKey(method="ae", dataset="lits", train="btcv", seed=0), stage="fit", error="no memory")
    build(make_run(tmp_path, [make_record(**cell) for cell in cells], [failure]))
    assert said in (tmp_path / file).read_text()
    assert "no memory" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "tables/failures.csv").read_text().count("\n") == 2
    assert (tmp_path / "tables/summary.csv").read_text().startswith("method,dataset,train,")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_printed_comparison_is_in_percent_sorted_and_as_wide_as_the_terminal(built, width):
    frame = compare(built[0], "ae")
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        for part in compared(frame, console):
            console.print(part)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    frame = frame[frame["unit"] == "patient"].sort_values("mean_diff", ascending=False)
    rows = [line.split() for line in lines if {*line.split()[:1]} & {*frame["method"]}]
    expected = [(row["method"], points(row["mean_diff"])) for row in frame.to_dict("records")]
    assert [(row[0], row[1]) for row in rows] == expected
    assert ("d_z" in captured.get()) == (width == 200)


def test_smaller_is_first_where_smaller_is_better_and_units_are_kept(built):
    frame = compare(built[0], "ae").assign(metric="hd95")
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        for part in compared(frame, console):
            console.print(part)
    lines = captured.get().splitlines()
    best = frame[frame["unit"] == "patient"].sort_values("mean_diff").iloc[0]
    first = next(line.split() for line in lines if {*line.split()[:1]} & {*frame["method"]})
    assert (first[0], first[1]) == (best["method"], fixed(best["mean_diff"]))
    assert "the metric's unit" in captured.get()


def test_any_method_may_be_compared_with_and_metrics_without_threshold_need_no_protocol(built):
    frame = compare(built[0], "two-stage")
    assert [set(frame[column]) for column in ("reference", "metric")] == [{"two-stage"}, {"dice"}]
    assert set(frame["unit"]) == {"patient", "seed", "pooled"}
    assert (frame[frame["unit"] == "patient"]["mean_diff"] < 0).all()
    assert set(compare(built[0], "ae", metric="auroc")["protocol"]) == {"none"}


def test_a_comparison_with_what_a_run_lacks_is_refused_with_a_suggestion(built, make_run, tmp_path):
    for folder, asked, said in (
        (built[0], ("two-stag",), "did you mean 'two-stage'"),
        (built[0], ("ae", "dicee"), "no metric 'dicee' in this run; did you mean 'dice'"),
        (built[0], ("ae", "dice", "healthy"), "healthy-q95"),
        (make_run(tmp_path), ("ae",), "no finished cell"),
    ):
        with pytest.raises(CompareError, match=said):
            compare(folder, *asked)


class TestFigures:
    def test_gallery_reads_what_the_scorer_writes_and_draws_a_constant_map_without_prediction(self, tmp_path):
        write_gallery(tmp_path / "gallery.npz", names=("best", "worst"))
        entries = read_gallery(tmp_path / "gallery.npz").named("best", "median", "worst")
        assert [e.meta["which"] for e in entries] == ["best", "worst"]
        assert entries[0].map.dtype == np.float32
        entries[0].map[:] = 0
        entries[0].prediction[:] = False
        path = gallery_figure(entries, "t", tmp_path / "g.png")
        assert path.read_bytes().startswith(b"\x89PNG")

        for damage in (b"", b"PK\x03\x04 broken"):
            (tmp_path / "gallery.npz").write_bytes(damage)
            with pytest.raises(GalleryError, match=r"gallery\.npz cannot be read"):
                read_gallery(tmp_path / "gallery.npz")

    @pytest.mark.parametrize("threshold", [0.05628, -1.2345e-05, 20.46])
    def test_no_panel_covers_what_stands_beside_a_row(self, threshold, tmp_path):
        label = label_of({"which": "worst", "protocol": "healthy-q95", "threshold": threshold})
        panels = {"beside": Image.new("RGB", (PANEL, PANEL), "white"), "alone": None}
        drawn = [compose("t", ["input"], [(label, [one])], tmp_path / f"{name}.png") for name, one in panels.items()]
        beside, alone = (np.asarray(Image.open(path)) for path in drawn)
        assert (alone[70:] < 100).any()
        np.testing.assert_array_equal(beside, alone)

    def test_outline_is_the_border_and_the_front_is_not_dominated_and_long_curves_are_thinned(self):
        mask = np.zeros((12, 12), bool)
        mask[2:10, 2:10] = True
        found = outline(mask)
        assert (found.sum(), found[5, 5]) == (64 - 16, False)
        assert pareto_front([3, 1, 2, 1], [9, 2, 1, 4]) == [3, 0]
        assert pareto_front([], []) == []
        steps, values = thin(np.arange(10_000.0), np.ones(10_000))
        assert len(steps) == len(values) == MAX_POINTS
        assert values.min() == 1


def test_control_characters_and_formulas_are_text_in_every_file(make_run, make_record, tmp_path, monkeypatch):
    monkeypatch.setattr("uasbench.reports.build.draw", lambda *_: Pictures())
    colour, formula = "\x1b[31m\x07\u202e", '=HYPERLINK("http://example.org")'
    record = make_record("hu-deviation")
    values = [
        value.model_copy(update={"case": colour, "patient": patient})
        for value, patient in zip(record.per_case, [formula, "@x", "+x", "-x", "-5", "p1"], strict=False)
    ]
    cell = CellKey(method="vae", dataset="lits", train="btcv", seed=1)
    failure = Failure(cell=cell, stage="fit", error=f"-{colour}", log=colour)
    skip = Skip(method="knn", dataset="lits", reason=f"={colour}")
    info = {"warnings": [colour], "command": f"bench {colour}"}
    record = record.model_copy(update={"per_case": values})
    for path in build(make_run(tmp_path, [record], [failure], [skip], **info)):
        assert not set("\x1b\x07\u202e") & set(path.read_text(encoding="utf-8")), path.name
    per_case = pd.read_csv(tmp_path / "tables/per_case.csv", dtype=str, keep_default_na=False)
    assert set(per_case.patient) == {f"'{formula}", "'@x", "'+x", "'-x", "-5", "p1"}
    assert set(per_case.case) == {r"\x1b[31m\x07\u202e"}
    assert pd.read_csv(tmp_path / "tables/failures.csv").error[0].startswith("'-")
    assert pd.read_csv(tmp_path / "tables/skipped.csv").reason[0].startswith("'=")
