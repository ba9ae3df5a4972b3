"""The figure of lesions found against false components: whose curves, averaged how, and where there is none."""

import numpy as np
import pytest
from uasbench.benchmark.scoring.detection import CURVE_RATES
from uasbench.reports.build import build
from uasbench.reports.figures import score_pictures
from uasbench.reports.figures.froc import MOST_NAMED, FrocCurve, froc_figure
from uasbench.reports.figures.pictures import Pictures
from uasbench.reports.figures.score_pictures import Scene
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables


def curve(level):
    return [(rate, level * i / len(CURVE_RATES)) for i, rate in enumerate(CURVE_RATES)]


def with_froc(record, **froc):
    return record.model_copy(update={"froc": froc})


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return ``drawn(records)``: what the figure is given, the title, and the pictures."""
    given = []

    def note(curves, title, path):
        given.append((curves, title))
        return path

    monkeypatch.setattr(score_pictures, "froc_figure", note)

    def draw(records):
        given.clear()
        tables, found = Tables(records), Pictures()
        for headline in headlines(tables.summary):
            score_pictures.draw_froc(Scene(found, tmp_path, tables, headline))
        return given, found.found

    return draw


def test_a_line_is_the_mean_over_seeds_under_the_protocol_of_the_tables_of_lesions(drawn, make_record):
    records = [with_froc(make_record("ae", seed=s), val=curve(0.2 + 0.2 * s), native=curve(1.0)) for s in range(3)]
    records += [with_froc(make_record("draem"), native=curve(1.0)), with_froc(make_record("vae"), val=[])]
    ((curves, title),), found = drawn(records)
    (one,) = curves
    assert one.label.split()[0] == "ae"
    assert (one.family, tuple(one.rates)) == ("reconstruction", CURVE_RATES)
    np.testing.assert_allclose(one.recall, [recall for _, recall in curve(0.4)])
    assert "val" in title
    assert [picture.group for picture in found] == ["froc"]


def test_sets_without_voxels_and_records_without_curves_have_none(drawn, make_record):
    assert drawn([make_record("ae")]) == ([], [])


@pytest.mark.parametrize("methods", [1, MOST_NAMED + 9])
def test_any_number_of_methods_is_drawn_and_the_same_bytes_again(methods, tmp_path):
    curves = [
        FrocCurve(f"m{i}", "reconstruction", CURVE_RATES, [value for _, value in curve(i / 40)]) for i in range(methods)
    ]
    first, second = (froc_figure(curves, "FROC", tmp_path / f"{name}.svg").read_bytes() for name in "ab")
    assert first == second


def test_the_report_shows_it(make_record, make_run, tmp_path):
    folder = make_run(tmp_path, [with_froc(make_record(m), val=curve(0.5)) for m in ("ae", "draem")])
    files = {path.name for path in build(folder)}
    assert "froc-lits-btcv.svg" in files
    assert "FROC at the val threshold, lits after btcv" in folder.report_html.read_text()
