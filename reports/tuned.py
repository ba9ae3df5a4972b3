"""What ``bench tune`` has found: tables of trials and of methods, and the best value that k trials are worth."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..benchmark.commands.tuning import Search
from ..common.atomic import write_text
from .figures.tuning import expected_best_figure
from .writers import csv_text

TRIALS = ["method", "trial", "ap", "core_s", "settings"]
METHODS = [
    "method",
    "default_ap",
    "tuned_ap",
    "delta",
    "trials",
    "failed",
    "core_s",
    "best_trial",
    "settings",
    "reason",
]
EXPECTED = ["method", "trials", "expected_ap"]
LEGEND = (
    "AP in per cent on lesions planted into healthy scans, mean over patients and seeds. Expected best of k: of k of "
    "these trials, drawn at random. The comparison on lesions of patients is bench reproduce on tuned.yaml."
)


def frames(searches: Sequence[Search]) -> dict[str, pd.DataFrame]:
    """Return the tables ``trials``, ``methods`` and ``expected_best``."""
    trials = [
        {"method": t.method, "trial": t.number, "ap": t.value, "core_s": t.core_s, "settings": _text(t.settings)}
        for one in searches
        for t in one.trials
    ]
    expected = [
        {"method": one.method, "trials": k, "expected_ap": value}
        for one in searches
        for k, value in enumerate(one.expected_best(), 1)
    ]
    return {
        "trials": pd.DataFrame(trials, columns=TRIALS).astype({"ap": float}),
        "methods": pd.DataFrame([method_row(one) for one in searches], columns=METHODS).astype({"best_trial": "Int64"}),
        "expected_best": pd.DataFrame(expected, columns=EXPECTED),
    }


def method_row(one: Search) -> dict[str, Any]:
    """Return the numbers of a method, by ``METHODS``."""
    best = one.best
    tuned = None if best is None else best.value
    return {
        "method": one.method,
        "default_ap": one.default,
        "tuned_ap": tuned,
        "delta": None if tuned is None or one.default is None else tuned - one.default,
        "trials": len(one.trials),
        "failed": sum(trial.value is None for trial in one.trials),
        "core_s": sum(trial.core_s for trial in one.trials),
        "best_trial": None if best is None else best.number,
        "settings": "" if best is None else _text(best.settings),
        "reason": one.reason,
    }


def _text(settings: dict[str, object]) -> str:
    return json.dumps(settings, sort_keys=True)


def write(searches: Sequence[Search], folder: Path) -> list[Path]:
    """Write the tables as CSV and the curves as a picture; return the files."""
    written = []
    for name, frame in frames(searches).items():
        written.append(folder / f"{name}.csv")
        write_text(written[-1], csv_text(frame))
    if picture := expected_best_figure(searches, folder / "expected_best.svg"):
        written.append(picture)
    return written


def printed(searches: Sequence[Search]) -> RenderableType:
    """Return what a terminal shows: a line per method, and why some have none."""
    table = Table(header_style="", box=None, pad_edge=False)
    for head, right in (
        ("Method", False), ("Default AP", True), ("Tuned AP", True), ("Delta", True), ("Trials", True),
        ("Failed", True), ("Core-min", True), ("Settings", False),
    ):  # fmt: skip
        table.add_column(head, justify="right" if right else "left", no_wrap=not head.startswith("Set"))
    for one in searches:
        row = method_row(one)
        if one.reason:
            table.add_row(one.method, *["–"] * 6, one.reason)
            continue
        numbers = [_percent(row[name]) for name in ("default_ap", "tuned_ap", "delta")]
        minutes = f"{row['core_s'] / 60:.1f}"
        table.add_row(one.method, *numbers, str(row["trials"]), str(row["failed"]), minutes, str(row["settings"]))
    return Group(table, Text(f"{LEGEND}\n", style="dim"))


def _percent(value: object) -> str:
    return f"{100 * value:.1f}" if isinstance(value, float) else "n/a"
