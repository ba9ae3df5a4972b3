"""What a record keeps of the scores themselves: how they are spread, and the mean Dice at every threshold."""

import numpy as np

from ..runs.records import ScoreHistogram
from .bins import values_of
from .ranking_metrics import Curves

BINS = 100
TAIL = 0.0005
"""Share of the voxels beyond either end, lesion voxels counting as much as all others together."""


def score_histogram(curves: Curves, mean_dice: np.ndarray | None) -> ScoreHistogram | None:
    """Return the histogram of the voxels of a cell; None without a voxel.

    Bins are equally wide between two quantiles of the scores; the first and the last one also hold what lies beyond. A
    score at an edge belongs below it, as thresholds ask for ``score > threshold``. ``mean_dice`` holds its value at
    every cut of ``curves`` (bins + 1,), None without a lesion. A bin of ``curves`` counts as its highest score: at
    each edge at most 2^-16 of the voxels lie on the wrong side.
    """
    if not len(curves.lower):
        return None
    values = values_of(curves.upper).astype(np.float64)
    weight = curves.negative / max(1, curves.negatives) + curves.positive / max(1, curves.positives)
    below = np.cumsum(weight) / weight.sum()
    low, high = (float(values[min(int(np.searchsorted(below, q)), len(values) - 1)]) for q in (TAIL, 1 - TAIL))
    bins = BINS if high > low else 1
    edges = np.linspace(low, high, bins + 1)
    place = np.clip(np.searchsorted(edges, values) - 1, 0, bins - 1)
    healthy, lesion = (
        np.bincount(place, weights=side, minlength=bins).astype(int).tolist()
        for side in (curves.negative, curves.positive)
    )
    dice = [] if mean_dice is None else mean_dice[np.searchsorted(values, edges, side="right")]
    return ScoreHistogram(
        low=low, high=high, healthy=healthy, lesion=lesion, dice=[round(float(value), 8) for value in dice]
    )
