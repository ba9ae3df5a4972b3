"""The trials of a search in the report of their run: read from its records alone."""

import pandas as pd
import pytest
from uasbench.benchmark.runs.records import Failure
from uasbench.reports.build import build
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables
from uasbench.reports.trials import searches_of, trials_grid

LEVELS = {"ae": 0.3, "ae@t0": 0.2, "ae@t1": 0.5, "ae@t2": 0.4, "dae": 0.4, "dae@t0": 0.3, "hu-opened": 0.2}


@pytest.fixture(scope="module")
def records(make_record):
    made = [make_record(row, level=level, seed=s) for row, level in LEVELS.items() for s in range(2)]
    return [r.model_copy(update={"data": r.data.model_copy(update={"planted": True})}) for r in made]


@pytest.fixture(scope="module")
def failure(records):
    lost = next(r for r in records if (r.cell.method, r.cell.seed) == ("ae@t2", 1))
    return Failure(cell=lost.cell, stage="fit", error="NaN loss")


def without(records, failure):
    return [record for record in records if record.cell != failure.cell]


def found(tables):
    (headline,) = headlines(tables.summary, None, tables.told_missing)
    return searches_of(tables, headline), headline


@pytest.mark.parametrize("policy", ["exclude", "worst"])
def test_a_search_is_what_its_rows_have_reached_and_a_trial_that_lacks_a_seed_has_failed(records, failure, policy):
    tables = Tables(without(records, failure), [failure], policy=policy)
    (ae, dae), headline = found(tables)
    ap = tables.summary.query("metric == 'ap' and unit == 'patient'").set_index("method")["mean"]
    assert (ae.method, ae.default, dae.method) == ("ae", ap["ae"], "dae")
    assert [(t.number, t.value) for t in ae.trials] == [(0, ap["ae@t0"]), (1, ap["ae@t1"]), (2, None)]
    assert ae.best is ae.trials[1]
    low, high = ap["ae@t0"], ap["ae@t1"]
    assert ae.expected_best() == pytest.approx([(low + high) / 2, low / 4 + 3 * high / 4])
    assert ae.trials[0].core_s == 2 * (20.0 + 1.5) + 3  # the second seed trains three seconds longer
    grid = trials_grid([ae, dae], headline)
    assert grid.rows[0].cells[:2] == ("ae", "ae@t1")
    assert grid.rows[0].cells[5:7] == ("3", "1")
    assert grid.legend[-1].startswith(f"Failures: {policy}.")


def test_rows_that_are_called_like_trials_are_none_where_nothing_was_planted(make_record):
    searches, headline = found(Tables([make_record(row) for row in ("ae", "ae@t0")]))
    assert searches == []
    assert trials_grid(searches, headline) is None


def test_the_report_shows_table_and_curve_of_a_search_alone(records, failure, make_record, make_run, tmp_path):
    folder = make_run(tmp_path / "trials", without(records, failure), [failure])
    build(folder)
    page = folder.report_html.read_text()
    assert "What are trials worth?" in page
    assert "Expected best AP of k of these trials" in page
    curve = pd.read_csv(folder.figures_dir / "trials-lits-btcv.csv")
    assert curve.groupby("method")["trials"].max().to_dict() == {"ae": 2, "dae": 1}
    assert (curve["flags"] == "planted").all()
    (folder.figures_dir / "trials-lits-btcv.svg").stat()
    other = make_run(tmp_path / "plain", [make_record("ae"), make_record("ae@t0")])
    build(other)
    assert "What are trials worth?" not in other.report_html.read_text()
