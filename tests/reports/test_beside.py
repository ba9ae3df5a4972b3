"""Printed numbers and ours: units, intervals, asterisks, and what a run lacks."""

import numpy as np
import pytest
from uasbench.benchmark.catalogue.printed import Printed, Stars
from uasbench.reports.console import BESIDE, beside, beside_text
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


def test_ours_and_the_difference_have_intervals_in_the_unit_of_the_print(tables):
    (line,) = beside([printed("better", std=1.78)], tables).to_dict("records")
    ours = row_of(tables["summary"], method="two-stage@better", protocol="native", metric="dice", unit="pooled")
    assert tuple(line) == BESIDE
    assert (line["printed"], line["here"]) == ("50.0 ± 1.8", f"{100 * ours['mean']:.1f} ± {100 * ours['std']:.1f}")
    assert line["difference"] == f"{100 * ours['mean'] - 50:+.1f}"
    assert (line["ci_low"], line["ci_high"]) == pytest.approx((100 * ours["ci_low"], 100 * ours["ci_high"]))
    assert (line["diff_low"], line["diff_high"]) == pytest.approx((line["ci_low"] - 50, line["ci_high"] - 50))
    assert (line["n_seeds"], line["n_cases"], line["stars"], line["stars_here"]) == (3, 6, "", "")


def test_seconds_come_from_the_costs_and_name_the_device(tables):
    cost = Printed(row="two-stage@better", dataset="lits", metric="s_per_slice", value=0.476)
    (line,) = beside([cost], {"cost": tables["cost"]}).to_dict("records")
    assert (line["metric"], line["printed"]) == ("Scoring, s per slice, on cpu", "0.476")
    assert (line["here"], line["difference"], line["n_seeds"]) == ("0.018 ± 0.000", "-0.458", 3)
    assert np.isnan([line[name] for name in ("ci_low", "ci_high", "diff_low", "diff_high")]).all()


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


def test_what_a_run_lacks_is_said_and_what_no_number_needs_is_not_read(tables, make_record):
    (line,) = beside([printed("other")], {"summary": tables["summary"]}).to_dict("records")
    assert (line["here"], line["difference"], line["n_seeds"]) == ("n/a", "n/a", 0)
    (line,) = beside([printed("better", stars="*", test=TEST)], Tables([make_record("two-stage@better")])).to_dict(
        "records"
    )
    assert line["stars_here"] == "n/a"  # nothing to compare with
    cost = Printed(row="other", dataset="lits", metric="s_per_slice", value=1)
    assert beside([cost], {"cost": tables["cost"]})["here"][0] == "n/a"
    assert beside([], {}).empty


def test_a_terminal_gets_brackets_and_asterisks_only_where_there_are_any(tables):
    plain = beside_text(beside([printed("better"), printed("other")], tables))
    assert "[" in plain
    assert "stars" not in plain
    assert "stars_here" in beside_text(beside([printed("better", stars="**", test=TEST)], tables))
