"""Training curves of a method: one panel per logged value, one line per seed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ...common.errors import UasbenchError
from .style import INK, MUTED, new_figure, save, style

MAX_POINTS, COLUMNS = 400, 3
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


class CurveError(UasbenchError):
    """A file of training curves cannot be read."""


def read_curves(path: Path) -> pd.DataFrame:
    """Read ``curves.csv`` with columns step, name, value.

    Raises:
        CurveError: the file is not such a table.
    """
    try:
        return pd.read_csv(
            path, dtype={"step": np.int64, "name": str, "value": np.float64}, usecols=["step", "name", "value"]
        )
    except (OSError, ValueError) as error:
        raise CurveError(f"{path} cannot be read ({error}); delete the fit's folder and run again") from error


def curve_figure(by_seed: Mapping[int, pd.DataFrame], title: str, path: Path) -> Path | None:
    """Draw the curves of all seeds, as :func:`read_curves` gives them; None where nothing was logged."""
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(name for frame in by_seed.values() for name in frame["name"]))
    if not names:
        return None
    rows = -(-len(names) // COLUMNS)
    with style():
        figure = new_figure(7.4, 0.5 + 1.75 * rows)
        panels = figure.subplots(rows, COLUMNS, squeeze=False)
        for axes, name in zip(panels.flat, names, strict=False):
            for seed, frame in sorted(by_seed.items()):
                part = frame.loc[frame["name"] == name, ["step", "value"]].to_numpy(dtype=np.float64)
                x, y = thin(part[:, 0], part[:, 1])
                colour = _LINES[seed % len(_LINES)]
                axes.plot(x, y, color=colour, linewidth=1.1, label=f"seed {seed}")
            axes.set_title(str(name), fontsize=8.5)
            axes.grid()
            axes.tick_params(labelsize=7.5)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            low, high = axes.dataLim.intervaly
            if 0 < 10 * low < high:
                axes.set_yscale("log")
        for axes in list(panels.flat)[len(names) :]:
            axes.set_axis_off()
        for axes in list(panels.flat)[: len(names)]:
            axes.set_xlabel("updates", fontsize=8, color=MUTED)
        if len(by_seed) > 1:
            panels[0][0].legend(fontsize=7)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left", color=INK)
        return save(figure, path, dpi=130)


def thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most ``MAX_POINTS`` points: means over equal runs of updates."""
    if len(steps) <= MAX_POINTS:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), MAX_POINTS)
    return np.array([steps[p].mean() for p in parts]), np.array([values[p].mean() for p in parts])
