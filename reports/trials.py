"""The trials of ``bench tune`` in the report of their run: what each method has reached, what k trials are worth."""

import re
from collections.abc import Sequence

import numpy as np

from ..benchmark.commands.tuning import OBJECTIVE, Search, Trial
from ..benchmark.scoring.metrics import NO_PROTOCOL
from .columns import records_of
from .formats import NOT_AVAILABLE, number, percent, points
from .grid import PrintedRow, PrintedTable
from .headline import Headline
from .tables import Tables
from .tuned import method_row

_TRIAL = re.compile(r"(?P<method>.+)@t(?P<number>\d+)")
CAPTION = (
    "Expected best AP of k of these trials, drawn at random: what a budget is worth (Dodge et al., EMNLP 2019). A "
    "curve that climbs to its end says that its method has not been searched enough to be compared. Dotted: defaults."
)


def searches_of(tables: Tables, headline: Headline) -> list[Search]:
    """Return what the rows ``METHOD@tN`` of a planted set have reached, by method; none of any other set.

    A trial that lacks a seed has no value, as for ``bench tune``, whatever the tables count for it.
    """
    if "planted" not in headline.flags:
        return []
    where = {"dataset": headline.dataset, "train": headline.train}
    found = records_of(tables.summary, **where, protocol=NO_PROTOCOL, metric=OBJECTIVE, unit="patient")
    lacking = {cell.method for cell in tables.missing if cell[1:] == tuple(where.values())}
    values = {r["method"]: None if r["method"] in lacking or np.isnan(r["mean"]) else float(r["mean"]) for r in found}
    spent: dict[str, float] = {}
    for r in records_of(tables.cost, **where):
        spent[r["method"]] = spent.get(r["method"], 0.0) + (r["fit_s"] + r["score_s"]) * r["threads"]
    trials: dict[str, list[Trial]] = {}
    for row in values.keys() | lacking:
        if named := _TRIAL.fullmatch(row):
            one = Trial(named["method"], int(named["number"]), {}, values.get(row), spent.get(row, 0.0))
            trials.setdefault(named["method"], []).append(one)
    return [
        Search(method, values.get(method), tuple(sorted(own, key=lambda trial: trial.number)))
        for method, own in sorted(trials.items())
    ]


def trials_grid(searches: Sequence[Search], headline: Headline) -> PrintedTable | None:
    """Return the default, the best trial and the budget of every method; None without any trial."""
    if not searches:
        return None
    rows = []
    for row in map(method_row, searches):
        default, best, delta = (np.nan if row[key] is None else row[key] for key in ("default_ap", "tuned_ap", "delta"))
        label = NOT_AVAILABLE if row["best_trial"] is None else f"{row['method']}@t{row['best_trial']}"
        cells = (row["method"], label, percent(default), percent(best), points(delta), str(row["trials"]),
                 str(row["failed"]), number(row["core_s"] / 60))  # fmt: skip
        rows.append(PrintedRow(cells))
    headers = ("Method", "Best trial", "Default AP", "Best AP", "Difference", "Trials", "Failed", "Core-minutes")
    legend = (
        "AP in percent on lesions planted into healthy scans, mean over patients and seeds. The best trial is the "
        "luckiest of many on few patients: what tuning has brought is said by the run of tuned.yaml. A trial that "
        "lacks a seed has failed, and is not chosen.",
        *filter(None, [headline.missing]),
    )
    return PrintedTable("Trials of each method", headers, tuple(rows), legend, left=2)
