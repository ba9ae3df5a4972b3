"""Maps in few levels that are cut at a protocol's own threshold exactly as the map itself is."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...benchmark.runs.records import Threshold
from ...benchmark.scoring.bins import LOWEST
from ...benchmark.scoring.cases import CroppedCase
from ...benchmark.scoring.smoothing import area_openings, least_voxels

QUANTILES = (*np.linspace(0.02, 0.9, 23), *np.linspace(0.91, 0.99, 17), 0.992, 0.994, 0.996, 0.998, 0.999, 0.9995)
EVEN = 24
SAMPLE = 100_000
SHOWN = (0.01, 0.995)
"""Quantiles of a cell's scores between which colours run."""


@dataclass(frozen=True)
class Edges:
    """The values that levels lie between, float32 and rising, and the range of the colours."""

    values: np.ndarray
    low: float
    high: float

    def level(self, values: np.ndarray) -> np.ndarray:
        """Return how many edges lie below each value, uint8: ``level > k`` is ``value > edge k``, exactly."""
        return np.searchsorted(self.values, values, side="left").astype(np.uint8)

    def at(self, threshold: float) -> int:
        """Return which edge a threshold is.

        Raises:
            ValueError: it is none.
        """
        place = int(np.searchsorted(self.values, np.float32(threshold)))
        if place == len(self.values) or self.values[place] != np.float32(threshold):
            raise ValueError(f"{threshold} is no edge")
        return place


def edges_of(values: np.ndarray, thresholds: Iterable[float]) -> Edges:
    """Return edges for scores: quantiles, which are dense where thresholds lie, even steps, and the ``thresholds``."""
    values = values if len(values) else np.zeros(1, np.float32)
    low, high = (float(v) for v in np.quantile(values, SHOWN))
    parts = (np.quantile(values, QUANTILES), np.linspace(low, high, EVEN), np.fromiter(thresholds, np.float64))
    return Edges(np.unique(np.concatenate(parts).astype(np.float32)), low, high)


def post_processed(case: CroppedCase, threshold: Threshold) -> np.ndarray:
    """Return the scores of the region's voxels with a threshold's smoothing and least size, float32 (n,).

    Cut anywhere they give the mask that :meth:`CroppedCase.cut` gives there; what has no large enough component around
    it is ``LOWEST``.
    """
    smoothed = case.smoothed(threshold)
    least = least_voxels(threshold.min_size_mm3, case.spacing)
    if least <= 1 or not case.roi.any():
        return smoothed[case.roi]
    return area_openings(smoothed, case.roi, [least])[0]


def counts(levels: np.ndarray, labels: np.ndarray, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """Return how many voxels have each level, and how many of them are lesion, int64 (edges + 1,)."""
    size = len(edges.values) + 1
    return np.bincount(levels, minlength=size), np.bincount(levels[labels], minlength=size)


def sampled(values: np.ndarray) -> np.ndarray:
    """Return at most ``SAMPLE`` of the scores, evenly taken, without those that no component holds."""
    values = values[values > LOWEST]
    return values[:: -(-len(values) // SAMPLE)] if len(values) else values
