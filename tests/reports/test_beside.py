"""Printed numbers and ours: units, intervals, asterisks, and what a run lacks."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from uasbench.benchmark.catalogue.printed import Printed, Stars
from uasbench.benchmark.runs.records import Failure
from uasbench.reports.console import BESIDE, beside, beside_text, difference_interval, own_interval
from uasbench.reports.experiment import TIMINGS, printed_and_ours
from uasbench.reports.tables import Tables

LEVELS = {"baseline": 0.3, "better": 0.6, "alike": 0.3, "worse": 0.05}
TEST = Stars(against="two-stage@baseline", levels={"*": 0.05, "**": 0.001})


@pytest.fixture(scope="module")
def tables(make_record):
    rows = [(f"two-stage@{label}", level) for label, level in LEVELS.items()]
    records = [make_record(row, seed=seed, level=level) for row, level in rows for seed in range(3)]
    return Tables(records, info={"references": {"lits": "two-stage@baseline"}})


def printed(label, unit="pooled", **other):
    row = {"row": f"two-stage@{label}", "dataset": "lits", "metric": "dice", "protocol": "native", "unit": unit}
    return Printed(**row | {"value": 50.0} | other)


def row_of(frame, **where):
    ((_, row),) = frame.loc[np.logical_and.reduce([frame[k] == v for k, v in where.items()])].iterrows()
    return row


def test_undefined_and_absent_numbers_are_said_and_an_upper_bound_is_marked():
    where = {"dataset": "lits", "protocol": "native", "metric": "dice", "unit": "patient"}
    numbers = {"mean": 0.5, "std": 0.125, "ci_low": np.nan, "ci_high": np.nan, "n_cases": 9, "n_seeds": 3}
    none = dict.fromkeys(numbers, np.nan) | {"n_cases": 0, "n_seeds": 0}
    flags = "phantom;oracle;topline"
    rows = [{"method": "a", **where, **numbers, "flags": flags, "reason": "2 patients"}]
    rows += [{"method": "b", **where, **none, "flags": "", "reason": "no lesion"}]
    asked = [Printed(row=row, value=48.25, std=2.0 if row == "a" else None, **where) for row in ("a", "b", "c")]
    found = beside(asked, {"summary": pd.DataFrame(rows)}).set_index("row")
    shown = ["metric", "printed", "here", "difference", "n_cases", "n_seeds", "flags"]
    expected = ["Dice native, patient", "48.2 ± 2.0", "50.0 ± 12.5", "+1.8", 9, 3, "oracle;topline"]
    assert found.loc["a", shown].tolist() == expected
    for row in ("b", "c"):
        assert found.loc[row, ["printed", "here", "difference", "n_cases"]].tolist() == ["48.2", "n/a", "n/a", 0]


def test_ours_and_the_difference_have_intervals_in_the_unit_of_the_print(tables):
    (line,) = beside([printed("better", std=1.78)], tables).to_dict("records")
    ours = row_of(tables["summary"], method="two-stage@better", protocol="native", metric="dice", unit="pooled")
    assert tuple(line) == BESIDE
    assert (line["printed"], line["here"]) == ("50.0 ± 1.8", f"{100 * ours['mean']:.1f} ± {100 * ours['std']:.1f}")
    assert line["difference"] == f"{100 * ours['mean'] - 50:+.1f}"
    assert (line["ci_low"], line["ci_high"]) == pytest.approx((100 * ours["ci_low"], 100 * ours["ci_high"]))
    assert (line["diff_low"], line["diff_high"]) == pytest.approx((line["ci_low"] - 50, line["ci_high"] - 50))
    assert (line["n_seeds"], line["n_cases"], line["stars"], line["stars_here"]) == (3, 6, "", "")


def test_a_failed_seed_and_other_reservations_stand_beside_the_number(make_record):
    records = [make_record(f"two-stage@{label}", seed=s) for label in ("whole", "part") for s in range(3)]
    *kept, last = records
    failure = Failure(cell=last.cell, stage="fit", error="NaN loss")
    made = Tables(kept, [failure])
    found = beside([printed(label, "patient") for label in ("whole", "part")], made)
    assert list(found["flags"]) == ["small-n", "small-n;failed-cells;missing-seeds"]
    assert list(found["n_seeds"]) == [3, 2]
    text = beside_text(found, made.told_missing())
    assert text.endswith("are left out: two-stage@part on lits after btcv (seed 2).")
    assert not beside_text(found).endswith("\n")


def test_a_number_of_another_quantity_stands_beside_ours_without_a_difference(tables):
    plain, other = (beside([printed("better", of=of)], tables) for of in ("", "whole bodies"))
    (line,) = other.to_dict("records")
    assert (line["here"], line["ci_low"]) == tuple(plain.loc[0, ["here", "ci_low"]])
    assert (line["difference"], line["of"]) == ("n/a", "whole bodies")
    assert np.isnan([line["diff_low"], line["diff_high"]]).all()
    assert "whole bodies" in beside_text(other)
    assert list(plain["of"]) == [""]


def test_seconds_come_from_the_costs_and_name_the_device(tables):
    cost = Printed(row="two-stage@better", dataset="lits", metric="s_per_slice", value=0.476)
    frame = tables["cost"].assign(s_per_slice=tables["cost"]["s_per_slice"] + tables["cost"]["seed"] / 100)
    (line,) = beside([cost], {"cost": frame}).to_dict("records")
    assert (line["metric"], line["printed"]) == ("Scoring, s per slice, on cpu", "0.476")
    assert (line["here"], line["difference"], line["n_seeds"]) == ("0.028 ± 0.010", "-0.448", 3)
    half = 0.01 * stats.t.ppf(0.975, 2) / np.sqrt(3)
    assert [line["ci_low"], line["ci_high"]] == pytest.approx([0.028 - half, 0.028 + half])
    assert [line["diff_low"], line["diff_high"]] == pytest.approx([-0.448 - half, -0.448 + half])
    assert (own_interval(line), difference_interval(line)) == ("[0.003, 0.053]", "[-0.473, -0.423]")


def test_a_single_timing_is_said_to_be_one(tables):
    cost = Printed(row="two-stage@better", dataset="lits", metric="s_per_slice", value=0.476)
    found = beside([cost], {"cost": tables["cost"].query("seed == 0")})
    (line,) = found.to_dict("records")
    assert np.isnan([line[name] for name in ("ci_low", "ci_high", "diff_low", "diff_high")]).all()
    assert (own_interval(line), difference_interval(line)) == ("1 timing: an interval needs 3", "")
    assert "1 timing: an interval needs 3" in beside_text(found)
    grid = printed_and_ours(found, phantom=False)
    assert "1 timing: an interval needs 3" in grid.rows[0].under
    assert TIMINGS in grid.legend


@pytest.mark.parametrize(("unit", "tested"), [("pooled", "pooled"), ("patient", "seed")])
def test_asterisks_are_those_of_our_test_of_the_same_rows(tables, unit, tested):
    labels = {"better": "**", "alike": "none", "worse": "*"}
    frame = beside([printed(label, unit, stars=s, test=TEST) for label, s in labels.items()], tables)
    assert list(frame["stars"]) == list(labels.values())
    for label, line in zip(labels, frame.to_dict("records"), strict=True):
        where = {"method": f"two-stage@{label}", "protocol": "native", "metric": "dice", "unit": tested}
        ours = row_of(tables["paired_tests"], reference=TEST.against, **where)
        assert line["p_here"] == ours["p_t"]
        level = "**" if ours["p_t"] <= 0.001 else "*" if ours["p_t"] <= 0.05 else "none"
        assert line["stars_here"].split()[0] == level
    assert [text.split()[-1] for text in frame["stars_here"]] == [frame["stars_here"][0], "none", "worse"]
    assert frame["stars_here"][0].strip("*") == ""


def test_a_run_may_lack_the_other_row_of_a_test_and_costs(tables, make_record):
    alone = Tables([make_record("two-stage@better")])
    assert beside([printed("better", stars="*", test=TEST)], alone)["stars_here"][0] == "n/a"  # nothing to compare with
    cost = Printed(row="other", dataset="lits", metric="s_per_slice", value=1)
    assert beside([cost], {"cost": tables["cost"]})["here"][0] == "n/a"
    assert beside([], {}).empty


def test_a_terminal_gets_brackets_and_asterisks_only_where_there_are_any(tables):
    plain = beside_text(beside([printed("better"), printed("other")], tables))
    assert "[" in plain
    assert "stars" not in plain
    assert "stars_here" in beside_text(beside([printed("better", stars="**", test=TEST)], tables))
