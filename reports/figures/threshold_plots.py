"""Figures of scores and thresholds: how scores are spread, and what Dice every threshold would reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...benchmark.runs.records import Record, ScoreHistogram
from .case_plots import LEADING
from .style import GRID, INK, MUTED, new_figure, plain_log, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEALTHY, LESION = "#56b4e9", "#d55e00"
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
SCORES_CAPTION = (
    "First seed of each method. Above: scores of the voxels of all cases inside the region of interest, those without "
    "and those with lesion apart, on a logarithmic axis. Below: mean over patients of their Dice when one threshold "
    "serves all. Lines: thresholds by protocol, of cross-fitted ones those of all folds; some cut a map that was "
    "smoothed first. Thresholds beyond the axis stand at its end."
)
SHARES = np.logspace(-5, 0, 101)
"""Shares of healthy voxels above a threshold at which methods are compared."""
SENSITIVITIES = np.linspace(0.01, 1, 100)


def histogram_frame(one: ScoreHistogram) -> pd.DataFrame:
    """Return a histogram as rows: bin edges, voxels, mean Dice of what scores above the lower edge."""
    edges = np.linspace(one.low, one.high, len(one.healthy) + 1)
    dice = one.dice[:-1] if one.dice else [np.nan] * len(one.healthy)
    columns = {"score_from": edges[:-1], "score_to": edges[1:], "healthy": one.healthy, "lesion": one.lesion}
    return pd.DataFrame(columns | {"mean_dice_above": dice})


def thresholds_of(record: Record, shown: Sequence[str]) -> dict[str, list[float]]:
    """Return the thresholds of a cell by protocol, those of folds together."""
    found: dict[str, list[float]] = {}
    for one in record.thresholds:
        if one.threshold is not None and one.protocol in shown:
            found.setdefault(one.protocol, []).append(one.threshold)
    return found


def score_figure(one: ScoreHistogram, thresholds: Mapping[str, Sequence[float]], title: str, path: Path) -> Path:
    """Draw the scores of healthy and lesion voxels, and below the mean Dice at every threshold."""
    from matplotlib.ticker import NullLocator

    edges = np.linspace(one.low, one.high, len(one.healthy) + 1)
    if one.high <= one.low:  # a constant map
        edges = np.array([one.low - 0.5, one.low + 0.5])
    with style():
        figure = new_figure(6.4, 4.6)
        figure.set_layout_engine(None)  # there is one of each method, and a layout that fits takes as long as drawing
        figure.subplots_adjust(left=0.12, right=0.68, bottom=0.1, top=0.94, hspace=0.1)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        for counts, colour, name in ((one.healthy, HEALTHY, "healthy"), (one.lesion, LESION, "lesion")):
            shares = 100 * np.asarray(counts) / max(1, sum(counts))
            top.stairs(shares, edges, color=colour, fill=True, alpha=0.25, baseline=1e-4)
            top.stairs(shares, edges, color=colour, linewidth=1.3, label=f"{name} voxels", baseline=None)
        top.set_yscale("log")
        top.set_ylim(1e-3, 150)
        plain_log(top.yaxis)
        top.yaxis.set_minor_locator(NullLocator())
        top.set_ylabel("voxels of each kind, %")
        top.set_title(title)
        if one.dice:
            bottom.plot(edges, [100 * value for value in one.dice], color=INK, linewidth=1.3)
        bottom.set_ylabel("mean Dice, %")
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel("score (the outer bins also hold what lies beyond)")
        for i, (protocol, values) in enumerate(thresholds.items()):
            look = {"color": LEADING[-1 - i % len(LEADING)], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1}
            inside = np.clip(values, edges[0], edges[-1])
            for axes in (top, bottom):
                for value in inside:
                    axes.axvline(value, **look)
            several = f" … {max(values):.4g}" if len(values) > 1 else ""
            top.plot([], [], label=f"{protocol}  {min(values):.4g}{several}", **look)
        bottom.grid()
        top.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0), labelcolor=INK)
        return save(figure, path)


def at_shares(one: ScoreHistogram) -> np.ndarray:
    """Return the mean Dice at ``SHARES`` of healthy voxels above the threshold; NaN beyond what the map resolves."""
    healthy = np.asarray(one.healthy, dtype=np.float64)
    above = np.append(np.cumsum(healthy[::-1])[::-1], 0.0) / max(1.0, healthy.sum())
    known = above > 0
    x, y = np.log(above[known][::-1]), np.asarray(one.dice)[known][::-1]
    return np.interp(np.log(SHARES), x, y, left=np.nan) if len(x) else np.full(len(SHARES), np.nan)


def roc_points(one: ScoreHistogram) -> pd.DataFrame:
    """Return ROC and precision–recall curve of a histogram: curve, at, value; NaN beyond what the map resolves.

    ``roc`` is the sensitivity at ``SHARES`` of healthy voxels above the threshold, ``pr`` the precision at
    ``SENSITIVITIES``. Inside a bin both kinds of voxels are spread evenly, so that precision is not drawn as a straight
    line, which would be too high (Davis and Goadrich 2006).
    """
    false, true = (np.cumsum(np.asarray(side, float)[::-1]) for side in (one.healthy, one.lesion))
    roc, precision = np.full(len(SHARES), np.nan), np.full(len(SENSITIVITIES), np.nan)
    if false[-1] and true[-1]:
        known = false > 0
        roc = np.interp(np.log(SHARES), np.log(false[known] / false[-1]), true[known] / true[-1], left=np.nan)
        found = SENSITIVITIES * true[-1]
        precision = found / (found + np.interp(found, true, false, left=np.nan))
    parts = (("roc", SHARES, roc), ("pr", SENSITIVITIES, precision))
    return pd.concat([pd.DataFrame({"curve": name, "at": at, "value": value}) for name, at, value in parts])


def roc_figure(curves: pd.DataFrame, leading: Sequence[str], labels: Mapping[str, str], title: str, path: Path) -> Path:
    """Draw both curves of every ``method``, the ``leading`` methods in colour."""
    with style():
        figure = new_figure(9.2, 3.9)
        roc, pr = figure.subplots(1, 2)
        for axes, name in ((roc, "roc"), (pr, "pr")):
            _lines(axes, curves.loc[curves["curve"] == name, :], "at", "value", leading, labels)
            axes.set_ylim(bottom=0)
            axes.grid()
        roc.plot(100 * SHARES, 100 * SHARES, color=MUTED, linewidth=0.8, linestyle=":")
        share_of_lesions = curves.loc[(curves["curve"] == "pr") & (curves["at"] == 1), "value"].iloc[0]
        pr.axhline(100 * share_of_lesions, color=MUTED, linewidth=0.8, linestyle=":")
        roc.set_xscale("log")
        plain_log(roc.xaxis)
        roc.set_xlabel("voxels without lesion above the threshold, %")
        roc.set_ylabel("sensitivity, %")
        roc.set_title(title)
        pr.set_xlabel("sensitivity, %")
        pr.set_ylabel("precision, %")
        pr.legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1.01, 1.0))
        return save(figure, path)


def _lines(axes: Axes, curves: pd.DataFrame, x: str, y: str, leading: Sequence[str], labels: Mapping[str, str]) -> None:
    """Draw a line of each method in per cent, those that do not lead in grey and below."""
    by_method = {str(method): part for method, part in curves.groupby("method")}
    for method, part in by_method.items():
        if method not in leading:
            axes.plot(100 * part[x], 100 * part[y], color=GRID, linewidth=0.9, zorder=1)
    for i, method in enumerate(m for m in leading if m in by_method):
        part = by_method[method]
        look = {"color": LEADING[i], "linestyle": _DASHES[i % 2], "linewidth": 1.6}
        axes.plot(100 * part[x], 100 * part[y], label=labels[method], zorder=2, **look)


def sweep_figure(
    curves: pd.DataFrame, leading: Sequence[str], labels: Mapping[str, str], title: str, path: Path
) -> Path:
    """Draw ``dice`` of every ``method`` against ``healthy_above``; the ``leading`` methods in colour."""
    with style():
        figure = new_figure(7.6, 3.9)
        axes = figure.add_subplot()
        _lines(axes, curves, "healthy_above", "dice", leading, labels)
        for share, name in ((5, "q95"), (1, "q99")):
            axes.axvline(share, color=MUTED, linewidth=0.8, linestyle=":")
            axes.text(share, 1.0, f" {name}", transform=axes.get_xaxis_transform(), fontsize=7, va="top", color=MUTED)
        axes.set_xscale("log")
        axes.invert_xaxis()
        plain_log(axes.xaxis)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("voxels without lesion above the threshold, % (a higher threshold to the right)")
        axes.set_ylabel("mean Dice, %")
        axes.set_title(title)
        axes.grid()
        axes.legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1.01, 1.0))
        return save(figure, path)
