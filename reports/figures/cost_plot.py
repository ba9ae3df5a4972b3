"""Figure of cost against score: every method numbered, those of the Pareto front named, a key below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .picture import Spot
from .score_plots import MethodPoints
from .style import INK, MUTED, family_legend, look_of, new_figure, plain_log, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

KEY_WIDTH, MOST_COLUMNS = 116, 4
"""Signs side by side in the key, and columns at most."""
_AROUND = ((6, 0), (-6, 0), (0, 7), (0, -7), (6, 6), (-6, 6), (6, -6), (-6, -6), (13, 0), (-13, 0), (0, 14), (0, -14))
_PANELS = (("s_per_slice", "scoring, ms per slice", 1000.0), ("fit_s", "training, s", 1.0))
_TOLD = "{}: {} {:.1f} %, {:.3g} ms per slice, trained for {:.3g} s"


def cost_figure(methods: Sequence[MethodPoints], metric: str, title: str, path: Path) -> list[Spot]:
    """Draw the metric against scoring time per slice and against training time, with the Pareto front of each.

    Points carry the place of their method in ``methods``, which the key below spells out. Returns where each one lies.
    """
    longest = max((len(m.label) for m in methods), default=0)
    columns = max(1, min(MOST_COLUMNS, KEY_WIDTH // (longest + 5)))
    lines = -(-len(methods) // columns)
    with style():
        figure = new_figure(9.2, 4.6 + 0.145 * lines)
        grid = figure.add_gridspec(2, 1, height_ratios=[4.6, 0.145 * lines + 0.05])
        plots, key = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        panels = plots.subplots(1, 2, sharey=True)
        fronts = [_draw(axes, methods, *panel) for axes, panel in zip(panels, _PANELS, strict=True)]
        panels[0].set_ylabel(f"{metric}, %")
        panels[0].set_title(title)
        family_legend(plots, {m.family for m in methods})
        _key(key.subplots(), methods, {*fronts[0], *fronts[1]}, columns)
        figure.draw_without_rendering()  # only now is it known how large the panels are
        figure.set_layout_engine("none")
        spots: list[Spot] = []
        for axes, (name, _, scale), front in zip(panels, _PANELS, fronts, strict=True):
            x = [scale * getattr(m, name) for m in methods]
            _name(axes, x, [m.mean for m in methods], {i: methods[i].label for i in front})
            places = axes.transData.transform([(cost, m.mean) for cost, m in zip(x, methods, strict=True)])
            for (left, bottom), m in zip(places / figure.bbox.size, methods, strict=True):
                told = _TOLD.format(m.label, metric, m.mean, 1000 * m.s_per_slice, m.fit_s)
                spots.append(Spot(float(left), 1 - float(bottom), m.label, told))
        save(figure, path)
        return spots


def _draw(axes: Axes, methods: Sequence[MethodPoints], name: str, label: str, scale: float) -> list[int]:
    """Draw the points of one cost and return the front."""
    x, means = [scale * float(getattr(m, name)) for m in methods], [m.mean for m in methods]
    front = pareto_front(x, means)
    axes.step([x[i] for i in front], [means[i] for i in front], where="post", color=MUTED, linewidth=1, zorder=1)
    for cost, method in zip(x, methods, strict=True):
        colour, marker = look_of(method.family)
        axes.plot(cost, method.mean, marker, color=colour, markersize=5.5, markeredgecolor="white", zorder=3)
    axes.margins(x=0.08, y=0.1)
    if name == "fit_s":
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(-0.3, max(10.0, *(3 * cost for cost in x)))
        axes.set_xticks([0.0, *(10.0**i for i in range(9) if 10.0**i <= axes.get_xlim()[1])])
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    elif min(x, default=1) > 0:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        plain_log(axes.xaxis, subs=(1.0, 2.0, 5.0) if high / low < 200 else (1.0,))
    axes.set_xlabel(label)
    axes.grid()
    return front


def _name(axes: Axes, x: Sequence[float], y: Sequence[float], named: dict[int, str]) -> None:
    """Write names first, then numbers, each where it covers no point and nothing that is written already."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi / 72
    points = axes.transData.transform(np.column_stack([x, y]))
    taken = [Bbox.from_bounds(a - 2.5 * scale, b - 2.5 * scale, 5 * scale, 5 * scale) for a, b in points]
    for i in sorted(range(len(x)), key=lambda i: (i not in named, i)):
        shifts = [(a, b) for b in (0, 8, -8, 16, -16, 26, -26, 38, -38) for a in (7, -7)] if i in named else _AROUND
        best: tuple[int, Annotation | None, Bbox | None] = (1 << 30, None, None)
        for a, b in shifts:
            text = axes.annotate(
                named.get(i, str(i + 1)), (x[i], y[i]), xytext=(a, b), textcoords="offset points", va="center",
                ha="center" if a == 0 else "left" if a > 0 else "right", fontsize=7.5 if i in named else 6,
                color=INK if i in named else MUTED, zorder=4 if i in named else 2,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.3} if i in named else None,
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
                if abs(b) > 8 or abs(a) > 8 else None,
            )  # fmt: skip
            text.set_in_layout(False)
            box = text.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 and axes.bbox.y0 <= box.y0 <= axes.bbox.y1
            hit = sum(box.overlaps(other) for other in taken) + (0 if inside else 100)
            if hit < best[0]:
                if best[1] is not None:
                    best[1].remove()
                best = hit, text, box
            else:
                text.remove()
            if hit == 0:
                break
        if best[2] is not None:
            taken.append(best[2])


def _key(axes: Axes, methods: Sequence[MethodPoints], front: set[int], columns: int) -> None:
    lines, unit = -(-len(methods) // columns), columns / MOST_COLUMNS
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(lines - 0.5, -0.5)
    for i, method in enumerate(methods):
        column, line = divmod(i, lines)
        colour, marker = look_of(method.family)
        axes.text(column + 0.07 * unit, line, str(i + 1), fontsize=6.5, ha="right", va="center", color=MUTED)
        axes.plot(column + 0.115 * unit, line, marker, color=colour, markersize=4, markeredgewidth=0)
        axes.text(
            column + 0.15 * unit, line, method.label, fontsize=6.5, va="center", color=INK,
            weight="bold" if i in front else "normal",
        )  # fmt: skip


def pareto_front(cost: Sequence[float], gain: Sequence[float]) -> list[int]:
    """Return the indices that no other point beats in both, cheapest first."""
    front: list[int] = []
    for i in sorted(range(len(cost)), key=lambda i: (cost[i], -gain[i])):
        if not front or gain[i] > gain[front[-1]]:
            front.append(i)
    return front
