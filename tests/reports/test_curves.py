"""Training curves: what is drawn as one, and what was only counted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.reports.build import build
from uasbench.reports.figures.curves import curve_figure, drawn_points


def logged(**series):
    rows = [(step, name, float(value)) for name, values in series.items() for step, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["step", "name", "value"])


def test_counts_and_fewer_than_three_points_are_no_curves():
    first = logged(loss=[1.5, 0.5, 0.25], patches=[8, 16, 16, 20], twice=[0.3, 0.2], zero=[0, 0, 0])
    drawn = drawn_points({0: first, 1: logged(loss=[1.25, 0.5], patches=[8, 8, 8])})
    assert set(zip(drawn["seed"], drawn["name"], strict=True)) == {(0, "loss"), (0, "zero")}
    assert drawn.loc[drawn["name"] == "loss", "value"].tolist() == [1.5, 0.5, 0.25]


@given(st.lists(st.integers(1, 50), min_size=3, max_size=20))
def test_whatever_is_counted_is_drawn_from_no_seed(steps):
    counted = np.cumsum(steps)
    assert drawn_points({0: logged(slices=counted), 1: logged(slices=counted[::-1])}).empty
    assert set(drawn_points({0: logged(loss=counted / counted[-1] / 2)})["name"]) == {"loss"}


def test_a_method_that_only_counts_has_no_figure(tmp_path):
    assert curve_figure({0: logged(slices=[8, 16, 24, 32])}, "padim", tmp_path / "c.svg") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "drawn"), [("slices", False), ("loss", True)])
def test_the_report_heads_no_part_without_a_curve(make_record, make_run, tmp_path, name, drawn):
    record = make_record("padim")
    folder = make_run(tmp_path, [record])
    path = folder.fit_dir(record.ids.fit) / "curves.csv"
    path.parent.mkdir(parents=True)
    logged(**{name: [8, 16, 24] if name == "slices" else [3.0, 2.0, 1.0]}).to_csv(path, index=False)
    build(folder)
    assert ("<h4>Training curves</h4>" in folder.report_html.read_text()) == drawn
    assert len(list((folder.path / "figures").glob("curves/*"))) == 2 * drawn
