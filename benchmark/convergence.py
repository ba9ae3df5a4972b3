"""Whether a training has flattened, judged by its loss on held-out healthy patients; no lesion label is used."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.stats import trim_mean

from ..methods.context import HELD_OUT
from ..methods.training import WATCHED_POINTS
from .runs.records import Convergence, Verdict

RULE: Literal[2] = 2
"""Version of the rule, kept beside its verdicts."""
FIFTHS, TOLERANCE = 5, 0.05


def judge(values: Sequence[float]) -> tuple[Verdict, float | None]:
    """Compare the last fifth of a watched curve with the fifth before it.

    Both by the mean without their highest and lowest fifth: a spike is no trend. A loss above 0 is ``falling`` where
    its last mean is lower by more than 5 % of the mean before, ``rising`` where it is higher by more, else
    ``flattened``. One that reaches 0 or less has no such scale: the range of the curve stands for it. Fewer than ten
    points say nothing.

    Returns:
        the verdict, and 1 + (last − before) / scale, a plain ratio of both means for a loss above 0.
    """
    part = len(values) // FIFTHS
    if part < 2:
        return "not watched", None
    curve = np.asarray(values, np.float64)
    before, last = trim_mean(curve[-2 * part :].reshape(2, part), 0.2, axis=1).tolist()
    scale = before if curve.min() > 0 else float(np.ptp(curve))
    ratio = 1.0 if scale == 0 else 1 + (last - before) / scale
    return verdict_on(ratio), ratio


def verdict_on(ratio: float) -> Verdict:
    """Return the verdict that a ratio of :func:`judge` stands for, or the mean ratio of several fits."""
    if ratio < 1 - TOLERANCE:
        return "falling"
    return "rising" if ratio > 1 + TOLERANCE else "flattened"


def mean_ratios(fits: Iterable[Convergence]) -> dict[str, float]:
    """Return the mean ratio of each phase over fits of one method: seeds, members, folds.

    Curves flicker: of settled ones that do so by 8 % from point to point one in six counts as falling, their mean does
    not.
    """
    ratios: dict[str, list[float]] = {}
    for fit in fits:
        if fit.ratio is not None:
            ratios.setdefault(fit.phase, []).append(fit.ratio)
    return {phase: float(np.mean(values)) for phase, values in ratios.items()}


class WatchedCurves:
    """Collects what a fit logs of held-out patients, by phase."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[int, float]]] = {}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the values that are named ``held_out`` or ``PHASE/held_out``."""
        for name, value in values.items():
            phase, _, last = name.rpartition("/")
            if last == HELD_OUT:
                self.points.setdefault(phase, []).append((step, float(value)))

    def judged(self) -> Iterable[Convergence]:
        """Yield the verdict on each phase, judged by all its points; 25 of them are kept."""
        for phase, points in self.points.items():
            verdict, ratio = judge([value for _, value in points])
            chosen = np.unique(np.linspace(0, len(points) - 1, WATCHED_POINTS).round().astype(int))
            kept = [points[i] for i in chosen]
            yield Convergence(phase=phase, points=kept, ratio=ratio, verdict=verdict, rule=RULE)
