"""Training curves of a method: one panel per logged value, one line per seed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ...common.errors import UasbenchError
from .style import INK, MUTED, new_figure, plain_log, save, style

MAX_POINTS, MIN_POINTS, COLUMNS = 400, 3, 3
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


def drawn_points(by_seed: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return what :func:`curve_figure` draws: seed, name, step, value; only of what is a training curve."""
    counts = [{str(name) for name, part in frame.groupby("name") if _is_count(part)} for frame in by_seed.values()]
    left_out = set[str]().union(*counts)
    parts = [pd.DataFrame(columns=["seed", "name", "step", "value"])]
    for seed, frame in sorted(by_seed.items()):
        for name, part in frame.groupby("name", sort=False):
            if name in left_out or len(part) < MIN_POINTS:
                continue
            steps, values = thin(part["step"].to_numpy(dtype=np.float64), part["value"].to_numpy())
            parts.append(pd.DataFrame({"seed": seed, "name": name, "step": steps, "value": values}))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def curve_figure(by_seed: Mapping[int, pd.DataFrame], title: str, path: Path) -> Path | None:
    """Draw the curves of all seeds, as :func:`read_curves` gives them; None where there is no curve."""
    from matplotlib.ticker import MaxNLocator

    points = drawn_points(by_seed)
    names = list(dict.fromkeys(points["name"]))
    if not names:
        return None
    rows = -(-len(names) // COLUMNS)
    with style():
        figure = new_figure(7.4, 0.5 + 1.75 * rows)
        panels = figure.subplots(rows, COLUMNS, squeeze=False)
        for axes, name in zip(panels.flat, names, strict=False):
            for seed, part in points.loc[points["name"] == name].groupby("seed"):
                colour = _LINES[int(str(seed)) % len(_LINES)]
                axes.plot(part["step"], part["value"], color=colour, linewidth=1.1, label=f"seed {seed}")
            axes.set_title(str(name), fontsize=8.5)
            axes.grid()
            axes.tick_params(labelsize=7.5)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            low, high = axes.dataLim.intervaly
            if 0 < 10 * low < high:
                axes.set_yscale("log")
                plain_log(axes.yaxis)
        for axes in list(panels.flat)[len(names) :]:
            axes.set_axis_off()
        for axes in list(panels.flat)[: len(names)]:
            axes.set_xlabel("updates", fontsize=8, color=MUTED)
        if len(by_seed) > 1:
            panels[0][0].legend(fontsize=7)
        figure.suptitle(title, fontsize=10, x=0.01, ha="left", color=INK)
        return save(figure, path, dpi=130)


def _is_count(part: pd.DataFrame) -> bool:
    """Tell whether values are whole and rise, as slices or patches that were gone through: no loss does."""
    values = part["value"].to_numpy()
    return bool((values == np.rint(values)).all() and (np.diff(values) >= 0).all() and values[-1] > values[0])


def thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most ``MAX_POINTS`` points: means over equal runs of updates."""
    if len(steps) <= MAX_POINTS:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), MAX_POINTS)
    return np.array([steps[p].mean() for p in parts]), np.array([values[p].mean() for p in parts])
