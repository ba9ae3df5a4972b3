"""Printed numbers beside those of a run."""

import numpy as np
import pandas as pd
from uasbench.benchmark.experiments import Printed
from uasbench.reports.console import beside


def test_printed_and_measured_stand_in_per_cent_side_by_side():
    where = {"dataset": "lits", "protocol": "native", "metric": "dice", "unit": "patient"}
    summary = pd.DataFrame(
        [
            {"method": "a", **where, "mean": 0.5, "std": 0.125, "n_cases": 9, "n_seeds": 3, "flags": ""},
            {"method": "b", **where, "mean": np.nan, "std": np.nan, "n_cases": 0, "n_seeds": 0, "flags": ""},
        ]
    )
    printed = [Printed(row=row, value=48.25, std=2.0 if row == "a" else None, **where) for row in ("a", "b", "c")]
    found = beside(printed, summary).set_index("row")
    assert found.loc["a"].tolist() == ["lits", "Dice native, patient", "48.2 ± 2.0", "50.0 ± 12.5", "+1.8", 9, 3, ""]
    for row in ("b", "c"):
        assert found.loc[row, ["printed", "here", "difference", "n_cases"]].tolist() == ["48.2", "n/a", "n/a", 0]


def test_an_upper_bound_is_marked():
    where = {"dataset": "coronacases", "protocol": "paper-lung", "metric": "dice", "unit": "pooled"}
    summary = pd.DataFrame(
        [
            {
                "method": "a",
                **where,
                "mean": 0.5,
                "std": 0.1,
                "n_cases": 9,
                "n_seeds": 3,
                "flags": "phantom;oracle;topline",
            }
        ]
    )
    found = beside([Printed(row="a", value=48.0, std=None, **where)], summary)
    assert found.loc[0, "flags"] == "oracle;topline"
