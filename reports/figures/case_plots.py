"""Figures of single cases: every case of every method, and scores against what the lesions are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .mosaic import mosaic
from .style import GRID, INK, MUTED, new_figure, plain_log, save, style

MOST_LEADING = 7
LEADING = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Colours of Okabe and Ito for the methods that stand out."""
MARKERS = "o^sDvPX"
LEVELS = 10
MOST_CASES_NAMED = 60


def case_map(values: pd.DataFrame, metric: str, title: str, path: Path) -> Path:
    """Draw shares, methods (rows) × cases (columns), as colours in ten steps; undefined ones stay white."""
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex

    numbers = 100 * values.to_numpy(dtype=np.float64)
    codes = np.where(np.isnan(numbers), -1, np.clip(np.nan_to_num(numbers) // (100 / LEVELS), 0, LEVELS - 1))
    colours = [to_hex(mpl.colormaps["viridis"]((i + 0.5) / LEVELS)) for i in range(LEVELS)]
    rows, columns = numbers.shape
    named = columns <= MOST_CASES_NAMED
    with style():
        figure = new_figure(float(np.clip(3.2 + 0.13 * columns, 6.4, 11.0)), 1.5 + 0.16 * rows + (0.8 if named else 0))
        axes = figure.add_subplot()
        mosaic(axes, codes.astype(int), colours)
        axes.set_yticks(range(rows), [str(name) for name in values.index], fontsize=7)
        cases = [_shortened(str(name)) for name in values.columns]
        axes.set_xticks(range(columns) if named else [], cases if named else [], rotation=90, fontsize=6.5)
        axes.set_xlabel(f"{columns} cases, hard to easy")
        axes.set_title(title)
        shades = ScalarMappable(BoundaryNorm(np.linspace(0, 100, LEVELS + 1), LEVELS), ListedColormap(colours))
        bar = figure.colorbar(shades, ax=axes, label=f"{metric}, %", shrink=min(1.0, 12 / rows), aspect=14, pad=0.02)
        bar.ax.tick_params(labelsize=7.5)
        return save(figure, path)


def _shortened(name: str, length: int = 18) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"


def difficulty_figure(
    cases: pd.DataFrame, leading: Sequence[str], labels: Mapping[str, str], metric: str, title: str, path: Path
) -> Path:
    """Draw ``value`` of every ``method`` against ``lesion_ml`` and ``contrast``, one row per method and case.

    The ``leading`` methods are coloured: a dot per case, a line through the means of neighbouring cases.
    """
    with style():
        figure = new_figure(9.2, 4.3)
        panels = figure.subplots(1, 2, sharey=True)
        wanted = (("lesion_ml", "lesion volume, ml"), ("contrast", "|contrast| / noise"))
        for axes, (column, label) in zip(panels, wanted, strict=True):
            known = cases.dropna(subset=column)
            points = {
                str(method): part[[column, "value"]].to_numpy(dtype=np.float64).T * [[1], [100]]
                for method, part in known.groupby("method")
            }
            for method, (x, y) in points.items():
                if method not in leading:
                    axes.plot(*_smooth(x, y), color=GRID, linewidth=0.9, zorder=1)
            for method, colour, marker in zip(leading, LEADING, MARKERS, strict=False):
                x, y = points.get(method, np.empty((2, 0)))
                axes.plot(x, y, marker, color=colour, markersize=3, alpha=0.45, markeredgewidth=0, zorder=2)
                axes.plot(*_smooth(x, y), color=colour, linewidth=1.6, zorder=3)
                axes.plot([], [], marker=marker, color=colour, markersize=4, linewidth=1.6, label=labels[method])
            if column == "lesion_ml" and len(known):
                axes.set_xscale("log")
                low, high = axes.get_xlim()
                plain_log(axes.xaxis, subs=(1.0, 3.0) if high < 300 * low else (1.0,))
            if known.empty:
                axes.text(0.5, 0.5, "no contrast is known", ha="center", transform=axes.transAxes, color=MUTED)
            axes.set_xlabel(label)
            axes.set_ylim(-3, 103)
            axes.grid()
        panels[0].set_ylabel(f"{metric}, %")
        panels[0].set_title(title, color=INK)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), fontsize=7.5)
        return save(figure, path)


def _smooth(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means over runs of neighbouring cases, a third of all and at least three each."""
    order = np.argsort(x, kind="stable")
    width = max(3, len(order) // 3)
    if len(order) < width:
        return np.empty(0), np.empty(0)
    kernel = np.ones(width) / width
    return np.convolve(x[order], kernel, mode="valid"), np.convolve(y[order], kernel, mode="valid")
