"""Figures as files: vector graphics with the same bytes again, hostile names, and the numbers behind them."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from PIL import Image
from uasbench.benchmark.long_form import collect
from uasbench.benchmark.runs.records import CaseFacts, LesionFacts
from uasbench.reports.build import build
from uasbench.reports.columns import facts
from uasbench.reports.figures.case_plots import case_map, difficulty_figure
from uasbench.reports.figures.cost_plot import cost_figure
from uasbench.reports.figures.interval_plots import seed_figure, stability_figure
from uasbench.reports.figures.mosaic import mosaic
from uasbench.reports.figures.pair_plot import all_pairs, pair_figure
from uasbench.reports.figures.score_plots import MethodPoints
from uasbench.reports.figures.style import look_of, new_figure, save, style
from uasbench.reports.html import data_uri
from uasbench.reports.paired import paired_tests

EVIL = ("x$y$", "-->]]><script>alert(1)</script>", "\x1b[31m\x07", "a&b", "very-" * 12, "名前")


def numbers(n, seed=0):
    return np.random.default_rng(seed).random(n)


def cases_of(names):
    rows = [(name, f"c{i}", v) for k, name in enumerate(names) for i, v in enumerate(numbers(9, k))]
    frame = pd.DataFrame(rows, columns=["method", "case", "value"])
    return frame.assign(lesion_ml=numbers(len(frame), 1) * 50, contrast=numbers(len(frame), 2))


def drawings(names):
    """Return every figure that is given names, as functions of a path."""
    names = list(names)
    points = [MethodPoints(n, "reconstruction", numbers(5, i), 0.01 * (i + 1), 10.0 * i) for i, n in enumerate(names)]
    wide = pd.DataFrame(np.array([numbers(8, i) for i in range(len(names))]), index=names)
    seeds = pd.DataFrame([
        {"method": n, "label": n, "family": "features", "seed": s, "value": v, "mean": 0.5, "ci_low": 0.4,
         "ci_high": np.nan}
        for i, n in enumerate(names) for s, v in enumerate(numbers(3, i))
    ])  # fmt: skip
    ranks = pd.DataFrame([
        {"method": n, "family": n, "rank": i + 1, "rank_low": 1, "rank_high": len(names), "p_rank1": 1 / len(names)}
        for i, n in enumerate(names)
    ])  # fmt: skip
    pairs = pd.DataFrame([
        {"method": a, "other": b, "mean_diff": (i - j) / 9, "p_holm": (0.0001, 0.5, np.nan)[(i + j) % 3]}
        for i, a in enumerate(names) for j, b in enumerate(names) if i != j
    ])  # fmt: skip
    labels = dict(zip(names, names, strict=True))
    return {
        "cost": lambda path: (cost_figure(points, "Dice", "t", path), path)[1],
        "cases": lambda path: case_map(wide, "Dice", names[0], path),
        "difficulty": lambda path: difficulty_figure(cases_of(names), names[:3], labels, "Dice", "t", path),
        "seeds": lambda path: seed_figure(seeds, "Dice", "t", path),
        "stability": lambda path: stability_figure(ranks, "t", path),
        "pairs": lambda path: pair_figure(pairs, labels, names[-1], path),
    }


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", sorted(drawings(["a", "b"])))
def test_hostile_names_leave_well_formed_graphics_with_the_same_bytes_again_and_none_of_their_text(name, tmp_path):
    first, second = (drawings(EVIL)[name](tmp_path / f"{i}.svg").read_bytes() for i in range(2))
    assert first == second
    tree = ET.fromstring(first)
    assert {element.tag.rpartition("}")[2] for element in tree.iter()}.isdisjoint(
        {"script", "a", "foreignObject", "text"}
    )
    assert not re.search(rb"alert|<!--|\x1b", first)


@pytest.mark.parametrize("name", sorted(drawings(["a", "b"])))
def test_few_methods_and_many_are_drawn(name, tmp_path):
    for names in (["one", "two"], [f"method-{i}" for i in range(40)]):
        path = drawings(names)[name](tmp_path / f"{len(names)}.svg")
        width, height = map(float, re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', path.read_bytes()).groups())
        assert 200 < width < 900
        assert 80 < height < 1500


def test_spots_lie_where_the_points_are_drawn(tmp_path):
    methods = [MethodPoints(f"m{i}", "reconstruction", numbers(5, i), 0.01 * (i + 1), 10.0 * i) for i in range(7)]
    spots = cost_figure(methods, "Dice", "t", tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    blue = tuple(int(look_of("reconstruction")[0][i : i + 2], 16) for i in (1, 3, 5))
    assert [spot.method for spot in spots] == [m.label for m in methods] * 2
    for spot in spots:
        y, x = int(spot.top * drawn.shape[0]), int(spot.left * drawn.shape[1])
        assert np.abs(drawn[y, x] - blue).max() < 40, spot


@pytest.mark.parametrize("n", [6, 34, 60])
def test_labels_of_the_cost_figure_stay_in_their_panel_and_names_cover_neither_points_nor_each_other(
    n, tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr("uasbench.reports.figures.cost_plot.save", lambda figure, path: drawn.append(figure) or path)
    costs = np.random.default_rng(n).choice([0.002, 0.003, 0.02, 0.03, 0.2], n)  # crowded: few costs, many methods
    points = [MethodPoints(f"a-method-{i}", "features", numbers(9, i), c, 900 * c) for i, c in enumerate(costs)]
    cost_figure(points, "Dice", "t", tmp_path / "c.svg")
    panels = [axes for axes in drawn[0].findobj(Axes) if axes.get_xlabel()]
    assert len(panels) == 2
    for axes in panels:
        labels = [text for text in axes.texts if isinstance(text, Annotation)]
        assert len(labels) == n
        boxes = [Text.get_window_extent(text) for text in labels]  # without its line to the point
        inside = axes.get_window_extent().padded(1)
        assert all(inside.contains(*box.p0) and inside.contains(*box.p1) for box in boxes)
        named = [box for box, text in zip(boxes, labels, strict=True) if text.get_text().startswith("a-")]
        assert 0 < len(named) < n
        assert not any(a.overlaps(b) for i, a in enumerate(named) for b in named[:i])
        assert max(abs(shift) for text in labels for shift in text.xyann) < 40  # points, from what is named


def test_an_embedded_graphic_says_what_it_is(tmp_path):
    with style():
        for kind, mime in (("svg", "svg+xml"), ("png", "webp")):
            path = save(new_figure(1, 1), tmp_path / f"f.{kind}")
            assert data_uri(path).startswith(f"data:image/{mime};base64,")


def test_cells_of_a_mosaic_are_covered_once_each_in_their_colour(tmp_path):
    codes = np.random.default_rng(0).integers(-1, 3, (7, 9))
    axes = new_figure(2, 2).add_subplot()
    mosaic(axes, codes, ("red", "green", "blue"))
    covered = np.full(codes.shape, -1)
    for code, patch in zip(sorted(set(codes.flat) - {-1}), axes.patches, strict=True):
        for corners in patch.get_path().vertices.reshape(-1, 5, 2):
            (left, top), (right, bottom) = corners[0] + 0.5, corners[2] + 0.5
            part = covered[int(top) : int(bottom), int(left) : int(right)]
            assert (part == -1).all()
            part[:] = code
    np.testing.assert_array_equal(covered, codes)


def test_all_pairs_hold_the_crossed_tests_of_the_tables_and_mirror_each_other(liver_records):
    known = facts(liver_records)
    wanted = ("val", "dice", "patient")
    scores = {s.key.method: s for s in collect(liver_records) if (s.key.protocol, s.key.metric, s.unit) == wanted}
    found = all_pairs(scores, 1).set_index(["method", "other"])
    assert len(found) == len(scores) * (len(scores) - 1)
    tests = paired_tests(list(scores.values()), known, {"lits": ["hu-deviation"]})
    for row in tests[(tests.unit == "patient") & (tests.reference == "hu-deviation")].itertuples():
        pair = found.loc[row.method, "hu-deviation"]
        np.testing.assert_allclose([pair.mean_diff, pair.p_crossed], [row.mean_diff, row.p_crossed])
        assert pair.p_holm >= row.p_crossed
        mirrored = found.loc["hu-deviation", row.method]
        assert (mirrored.mean_diff, mirrored.p_holm) == (-pair.mean_diff, pair.p_holm)
    lower = all_pairs(scores, -1).set_index(["method", "other"])
    np.testing.assert_allclose(lower.mean_diff, -found.mean_diff)


def described(record):
    lesion = LesionFacts(ml=2.0, contrast_hu=-30.0)
    told = {
        case: CaseFacts(
            slices=9, lesion_slices=3, spacing=(5.0, 1.0, 1.0), organ_ml=900.0, lesion_ml=2.0 + i, noise_hu=15.0,
            contrast_hu=-30.0, lesions=[lesion],
        )
        for i, case in enumerate(record.data.cases)
    }  # fmt: skip
    return record.model_copy(update={"data": record.data.model_copy(update={"facts": told})})


def test_the_numbers_behind_a_figure_lie_beside_it(make_record, make_run, tmp_path):
    records = [described(make_record(m, seed=s)) for m in ("ae", "draem") for s in range(3)]
    folder = make_run(tmp_path, [*records, described(make_record("hu-deviation"))])
    build(folder)

    def behind(group):
        return pd.read_csv(folder.figures_dir / f"{group}-lits-btcv.csv")

    wanted = ("p1-c", "val", "dice")
    values = [v.value for r in records[:3] for v in r.per_case if (v.case, v.protocol, v.metric) == wanted]
    assert behind("cases").set_index("method").loc["ae", "p1-c"] == pytest.approx(np.mean(values))
    difficulty = behind("difficulty").set_index(["method", "case"])
    assert tuple(difficulty.loc[("ae", "p2-c"), ["lesion_ml", "contrast"]]) == (3.0, 2.0)
    seeds = behind("seeds")
    assert seeds.groupby("method").size().to_dict() == {"ae": 3, "draem": 3, "hu-deviation": 1}
    assert "By lesion volume and contrast" in folder.report_html.read_text()


def test_what_records_of_earlier_versions_cannot_show_is_said(make_record, make_run, tmp_path):
    folder = make_run(tmp_path, [make_record("ae"), make_record("draem")])
    build(folder)
    assert not list(folder.figures_dir.glob("difficulty*"))
    assert "no figure of Dice against lesion volume" in folder.report_html.read_text()
