"""A metric over the checkpoints of one training, ours with its spread between seeds, beside what was printed."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...benchmark.experiments import Printed
from ...benchmark.protocols.catalogue import VAL
from ..columns import metric_name
from .style import MUTED, new_figure, save, style

_NUMBERED = re.compile(r"(.+)-(\d+)")
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_ALONE = ("dice", VAL, "patient")


def checkpoint_figure(printed: Sequence[Printed], summary: pd.DataFrame, title: str, path: Path) -> Path | None:
    """Draw a panel per printed metric (Dice under ``val`` where none is printed) over rows named ``…-N``.

    Returns None where the run has no such rows.
    """
    asked = list(dict.fromkeys((one.metric, one.protocol, one.unit) for one in printed)) or [_ALONE]
    panels = [(where, _ours(summary, *where), _printed(printed, *where)) for where in asked]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return None
    with style():
        figure = new_figure(7.4, 0.4 + 2.6 * len(panels))
        for axes, ((metric, protocol, unit), ours, theirs) in zip(
            figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True
        ):
            for series in theirs.values():
                x, y, spread = np.array(sorted(series)).T
                axes.plot(x, y, color=MUTED, linewidth=1, linestyle="--", label="printed")
                axes.fill_between(x, y - spread, y + spread, color=MUTED, alpha=0.15, linewidth=0)
            for colour, (name, series) in zip(_LINES * len(ours), ours.items(), strict=False):
                x, y, spread = np.array(sorted(series)).T
                axes.plot(x, y, color=colour, linewidth=1.3, marker="o", markersize=3, label=name)
                axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.2, linewidth=0)
            axes.set_ylabel(f"{metric_name(metric, protocol)}, {unit}")
            axes.grid()
            handles, labels = axes.get_legend_handles_labels()
            once = dict(zip(labels, handles, strict=True))
            axes.legend(once.values(), once.keys(), fontsize=7)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        return save(figure, path)


Series = dict[str, list[tuple[float, float, float]]]


def _ours(summary: pd.DataFrame, metric: str, protocol: str, unit: str) -> Series:
    """Return (N, mean, standard deviation between seeds), in per cent, of every name before ``-N``."""
    wanted = {"metric": metric, "protocol": protocol, "unit": "seed" if unit == "patient" else unit}
    rows = summary.loc[np.logical_and.reduce([summary[key] == value for key, value in wanted.items()])]
    found: Series = {}
    for method, mean, std in zip(rows["method"], rows["mean"], rows["std"], strict=True):
        if (match := _NUMBERED.fullmatch(method)) and not pd.isna(mean):
            found.setdefault(match[1], []).append((int(match[2]), 100 * mean, 0 if pd.isna(std) else 100 * std))
    return found


def _printed(printed: Sequence[Printed], metric: str, protocol: str, unit: str) -> Series:
    found: Series = {}
    for one in printed:
        if (one.metric, one.protocol, one.unit) == (metric, protocol, unit) and (match := _NUMBERED.fullmatch(one.row)):
            found.setdefault(match[1], []).append((int(match[2]), one.value, one.std or 0.0))
    return found
