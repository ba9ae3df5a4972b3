"""Figures of scores: Dice per patient, ranks with their critical difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...benchmark.statistics import Ranking
from .style import INK, MUTED, family_legend, look_of, new_figure, save, style

MOST_NUMBERED = 18  # ranks whose numbers fit side by side on the axis


@dataclass(frozen=True)
class MethodPoints:
    """What the figures need of one method: its name with marks, a value in [0, 1] per patient, and its seconds.

    Values, scoring seconds per slice and training seconds (``fit_s``) are averaged over seeds.
    """

    label: str
    family: str
    values: Sequence[float]
    s_per_slice: float
    fit_s: float
    best_trivial: bool = False

    @property
    def mean(self) -> float:
        return 100 * float(np.mean(self.values))


def patient_figure(methods: Sequence[MethodPoints], metric: str, title: str, path: Path) -> Path:
    """Draw every patient's value per method as dots over a box (quartiles) with the mean, methods from the top."""
    with style():
        figure = new_figure(7.2, 1.3 + 0.3 * len(methods))
        axes = figure.add_subplot()
        for row, method in enumerate(methods):
            colour, marker = look_of(method.family)
            values = 100 * np.asarray(method.values, dtype=float)
            if len(values) >= 4:
                low, middle, high = np.percentile(values, [25, 50, 75])
                axes.barh(row, high - low, left=low, height=0.56, color=colour, alpha=0.18, linewidth=0)
                axes.plot([middle, middle], [row - 0.28, row + 0.28], color=colour, linewidth=1.4)
            offsets = row + 0.2 * _spread(len(values))
            axes.plot(values, offsets, marker, color=colour, markersize=3.6, alpha=0.75, markeredgewidth=0)
            axes.plot(method.mean, row, "D", color="white", markeredgecolor=INK, markersize=5.5, zorder=4)
        for method in methods:
            if method.best_trivial:
                axes.axvline(method.mean, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.set_yticks(range(len(methods)), [m.label for m in methods])
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_xlim(-2, 102)
        axes.set_xlabel(f"{metric}, %\n(dot: patient; line: median; diamond: mean; dashed: best trivial baseline)")
        axes.set_title(title)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        family_legend(figure, {m.family for m in methods})
        return save(figure, path)


def _spread(n: int) -> np.ndarray:
    """Return offsets in [−1, 1] that keep neighbouring dots apart, the same at every call."""
    golden = (np.arange(n) * 0.618034) % 1.0
    return 2 * golden - 1 if n > 1 else np.zeros(n)


def apart(values: Sequence[float], gap: float) -> list[float]:
    """Return heights near ``values`` that keep at least ``gap`` between neighbours."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    placed = list(values)
    for lower, upper in pairwise(order):
        placed[upper] = max(placed[upper], placed[lower] + gap)
    shift = float(np.mean(np.subtract(placed, values))) if values else 0.0
    return [height - shift for height in placed]


def rank_figure(ranking: Ranking, families: Mapping[str, str], title: str, path: Path) -> Path:
    """Draw a critical-difference diagram (Demšar 2006): average ranks, bars join methods that do not differ."""
    names, ranks = [str(n) for n in ranking.ranks.index], ranking.ranks.to_numpy(dtype=float)
    k = len(names)
    half = (k + 1) // 2
    every = 1 if k <= MOST_NUMBERED else 5
    with style():
        figure = new_figure(8.4, 1.5 + 0.26 * half + 0.13 * len(ranking.groups))
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.plot([1, k], [0, 0], color=INK, linewidth=1.2)
        for tick in range(1, k + 1):
            axes.plot([tick, tick], [0, 0.16], color=INK, linewidth=1.2)
            if tick in (1, k) or (tick % every == 0 and k - tick >= 3):
                axes.text(tick, 0.26, str(tick), ha="center", va="bottom", fontsize=8)
        bars = 0.30 * len(ranking.groups)
        margin = max(0.6, 0.12 * k)
        for i, (name, rank) in enumerate(zip(names, ranks, strict=True)):
            left = i < half
            level = -bars - 0.55 - 0.55 * (i if left else k - 1 - i)
            end = 1 - margin if left else k + margin
            colour = look_of(families.get(name, ""))[0]
            axes.plot([rank, rank, end], [0, level, level], color=colour, linewidth=1)
            text = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
            axes.text(end, level, f" {text} ", ha="right" if left else "left", va="center", fontsize=8.5)
        for i, (first, last) in enumerate(ranking.groups):
            y = -0.28 - 0.30 * i
            axes.plot(
                [ranks[first] - 0.04, ranks[last] + 0.04], [y, y], color=INK, linewidth=3.2, solid_capstyle="round"
            )
        if not np.isnan(ranking.critical_difference):
            width = min(ranking.critical_difference, k - 1)
            axes.plot([1, 1 + width], [1.35, 1.35], color=MUTED, linewidth=2)
            more = "" if ranking.critical_difference <= k - 1 else " (wider than the axis)"
            text = f"critical difference {ranking.critical_difference:.2f}{more}"
            axes.text(1 + width + 0.02 * k, 1.35, text, va="center", fontsize=8, color=MUTED)
        room = max(0.22, 0.0125 * max(map(len, names))) * k
        axes.set_xlim(1 - margin - room, k + margin + room)
        axes.set_ylim(-bars - 0.6 - 0.55 * half, 1.7)
        axes.set_title(title, color=INK)
        return save(figure, path)
