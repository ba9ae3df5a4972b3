"""Figure of lesion-wise detection: lesions found against false components per scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .score_plots import apart
from .style import INK, MUTED, family_legend, look_of, new_figure, save, style

MOST_NAMED = 16
LABEL_SHARE = 1 / 17
"""Height of a name as a share of the axes."""


@dataclass(frozen=True)
class FrocCurve:
    """A method's curve, mean over seeds: false components per scan, ascending, and the share of lesions found."""

    label: str
    family: str
    rates: Sequence[float]
    recall: Sequence[float]


def froc_figure(curves: Sequence[FrocCurve], title: str, path: Path) -> Path:
    """Draw one line per method over a logarithmic axis of false components; the 16 highest are named at their ends."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    curves = sorted(curves, key=lambda curve: (-curve.recall[-1], -sum(curve.recall)))
    named = curves[:MOST_NAMED]
    with style():
        figure = new_figure(7.6, 3.9)
        axes = figure.add_subplot()
        top = max(5.0, *(100 * value for curve in curves for value in curve.recall))
        ends = [100 * curve.recall[-1] for curve in named]
        heights = apart(ends[::-1], 1.1 * top * LABEL_SHARE)[::-1]
        lift = max(-min(heights), min(0.0, 1.08 * top - max(heights)))
        for curve in reversed(curves):
            colour, marker = look_of(curve.family)
            axes.plot(
                curve.rates, [100 * value for value in curve.recall], marker=marker, color=colour, linewidth=1.1,
                markersize=3.4, markeredgewidth=0, alpha=0.85 if curve in named else 0.3,
            )  # fmt: skip
        for curve, end, height in zip(named, ends, heights, strict=True):
            last = curve.rates[-1]
            axes.plot([last, last * 1.12], [end, height + lift], color=MUTED, linewidth=0.5, clip_on=False)
            axes.text(last * 1.15, height + lift, curve.label, fontsize=7.5, va="center", color=INK)
        rates = sorted({rate for curve in curves for rate in curve.rates})
        axes.set_xscale("log", base=2)
        axes.set_xlim(rates[0] / 1.1, rates[-1] * 1.05)
        axes.set_ylim(-0.02 * top, 1.08 * top)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:g}"))
        axes.set_xlabel("false components per scan")
        axes.set_ylabel("lesions found, %")
        axes.set_title(title)
        axes.grid()
        family_legend(figure, {curve.family for curve in curves})
        return save(figure, path)
