"""How good the best of k settings is, for every k: what a budget of trials is worth."""

from collections.abc import Sequence
from pathlib import Path

from ...benchmark.commands.tuning import Search
from .style import new_figure, save, style


def expected_best_figure(searches: Sequence[Search], path: Path) -> Path | None:
    """Draw a curve per method, the default as a dotted line of its colour; None where no trial has a value."""
    from matplotlib.ticker import MaxNLocator

    shown = [one for one in searches if one.best is not None]
    if not shown:
        return None
    with style():
        figure = new_figure(6.4, 3.6)
        axes = figure.subplots()
        for one in shown:
            curve = [100 * value for value in one.expected_best()]
            (line,) = axes.plot(range(1, len(curve) + 1), curve, linewidth=1.4, label=one.method)
            if one.default is not None:
                axes.axhline(100 * one.default, color=line.get_color(), linewidth=0.8, linestyle=":")
        axes.set_xlabel("trials")
        axes.set_ylabel("expected best AP on planted lesions, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
        axes.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        return save(figure, path)
