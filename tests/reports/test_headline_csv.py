"""The headline table as a file of numbers: what is printed, in percent, and nothing of it inside a text."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from uasbench.reports.build import build, table_texts
from uasbench.reports.headline import headlines
from uasbench.reports.tables import Tables

INFO = {"references": {"lits": "hu-deviation"}}


@pytest.fixture(scope="module")
def tables(liver_records):
    return Tables(liver_records, info=INFO)


@pytest.fixture(scope="module")
def headline(tables):
    (found,) = headlines(tables.summary, tables.paired_tests)
    return found


@pytest.fixture(scope="module")
def frame(tables):
    return pd.read_csv(
        io.StringIO(table_texts(tables)["headline-lits-btcv.csv"]), keep_default_na=False, na_values="n/a"
    )


def test_rows_marks_and_counts_are_those_of_the_printed_table(frame, headline):
    rows = [*headline.rows, headline.chance]
    assert list(zip(frame["method"], frame["marks"], strict=True)) == [(row.method, row.marks) for row in rows]
    assert frame.loc[frame["winner"] == "yes", "method"].tolist() == ["two-stage"]
    assert frame["n_patients"].tolist() == [row.n_patients for row in rows]
    assert frame.loc[frame["method"] == "hu-deviation", "flags"].str.contains("best-trivial").all()


def test_numbers_are_those_of_summary_and_tests_in_percent(frame, tables):
    frame = frame.set_index("method")
    summary = tables.summary.query("protocol == 'val' and metric == 'dice' and unit == 'patient'").set_index("method")
    for mine, theirs in (("", "mean"), ("_std", "std"), ("_ci_low", "ci_low"), ("_ci_high", "ci_high")):
        assert frame.loc["ae", f"dice_val{mine}"] == pytest.approx(100 * summary.loc["ae", theirs])
    assert frame.loc["ae", "oracle_gap"] == pytest.approx(100 * summary.loc["ae", "oracle_gap"])
    tests = tables.paired_tests.query("protocol == 'val' and metric == 'dice' and unit == 'patient'")
    pair = tests.set_index(["method", "reference"]).loc[("ae", "hu-deviation")]
    found = frame.loc["ae", ["against_hu-deviation", "against_hu-deviation_p"]].to_numpy(float)
    np.testing.assert_allclose(found, [100 * pair["mean_diff"], pair["p_holm_crossed"]], rtol=1e-8)
    assert np.isnan(frame.loc["hu-deviation", "against_hu-deviation"])


def test_every_printed_column_has_numbers_and_no_name_comes_twice(frame, headline):
    assert len(frame.columns) == len(set(frame.columns))
    numbers = frame.drop(columns=["dataset", "train", "method", "marks", "winner", "flags"])
    assert all(pd.api.types.is_numeric_dtype(column) for _, column in numbers.items())
    printed = [c for c in headline.columns if any(row.entries[c.key].value != "n/a" for row in headline.rows)]
    values = numbers.drop(columns=["n_patients", "n_cases", "n_seeds"]).filter(regex="(?<!_low|high|_std)$", axis=1)
    values = values.loc[:, [not name.endswith("_p") for name in values]]
    assert len(values.dropna(axis=1, how="all").columns) == len(printed)


def test_the_docs_name_the_columns(frame):
    page = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
    section = page.partition("## headline-SET-TRAIN.csv")[2].partition("\n## ")[0]
    named = [*frame.columns[: frame.columns.get_loc("n_seeds") + 1], "dice_val", "oracle_gap", "flags"]
    assert [column for column in named if not re.search(rf"\b{column}\b", section)] == []


def test_the_report_links_it_and_a_phantom_is_flagged_in_every_row(make_record, make_run, tmp_path):
    folder = make_run(tmp_path, [make_record(m, phantom=True) for m in ("hu-deviation", "ae")])
    build(folder)
    assert 'href="tables/headline-lits-btcv.csv"' in folder.report_html.read_text()
    frame = pd.read_csv(folder.tables_dir / "headline-lits-btcv.csv")
    assert frame["flags"].str.split(";").map(lambda flags: "phantom" in flags).all()
