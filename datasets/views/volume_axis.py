"""One axis of a resampled grid: which native voxels each of its voxels sums, and the way back."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...common.boxes import Range
from .resize import Taps

TINY = 1e-6  # a weight or a distance below it is rounding


@dataclass(frozen=True)
class Axis:
    """An axis of the view's grid in native voxels; voxel ``i`` covers ``i`` to ``i + 1``.

    Attributes:
        origin: where the grid begins.
        ratio: native voxels per viewed voxel.
        count: viewed voxels.
        data: native voxels (start, stop) that may be read; beyond them is padding.
    """

    origin: float
    ratio: float
    count: int
    data: Range

    @cached_property
    def centres(self) -> np.ndarray:
        """Centres of the viewed voxels in native voxels, float64."""
        return self.origin + (np.arange(self.count) + 0.5) * self.ratio

    @cached_property
    def inside(self) -> np.ndarray:
        """Which viewed voxels have their centre in the data, bool."""
        return (self.centres >= self.data[0]) & (self.centres < self.data[1])

    @property
    def shown(self) -> Range:
        """Native voxels (start, stop) of the data whose centres lie on the grid."""
        start, stop = self.origin, self.origin + self.count * self.ratio
        return max(int(np.ceil(start - 0.5)), self.data[0]), min(int(np.ceil(stop - 0.5)), self.data[1])

    @cached_property
    def nearest(self) -> np.ndarray:
        """Native voxel that holds the centre of each viewed voxel, int64, clipped to the data."""
        return np.clip(np.floor(self.centres).astype(np.int64), self.data[0], self.data[1] - 1)

    @cached_property
    def values(self) -> Taps:
        """Sums that resample intensities: mean by area where the axis shrinks, else linear interpolation.

        A viewed voxel whose centre lies in the padding is padding.
        """
        return self._taps(self._covered if self.ratio > 1 else self._linear, self.inside)

    @cached_property
    def coverage(self) -> Taps:
        """Sums that give the share of each viewed voxel which a mask covers, of its part in the data."""
        return self._taps(self._covered, np.ones(self.count, bool))

    def covering(self, part: Range) -> Range:
        """Return the viewed voxels (start, stop) that touch native voxels ``part``."""
        start, stop = ((bound - self.origin) / self.ratio for bound in part)
        lowest, highest = int(np.floor(start + TINY)), int(np.ceil(stop - TINY))
        return min(max(lowest, 0), self.count), max(min(highest, self.count), 0)

    def part(self, where: Range, masks: bool) -> tuple[Taps, Range]:
        """Return the sums of viewed voxels ``where`` (start, stop) alone, and the native voxels (start, stop) read.

        They are those of :attr:`coverage` for ``masks``, else of :attr:`values`, counted from the first voxel read.
        """
        taps = self.coverage if masks else self.values
        start, count, weight = (array[slice(*where)] for array in (taps.start, taps.count, taps.weight))
        used = count > 0
        if not used.any():
            return Taps(np.zeros_like(start), count, weight), (0, 0)
        first, stop = int(start[used].min()), int((start + count)[used].max())
        return Taps(np.maximum(start - np.int32(first), 0), count, weight), (first, stop)

    def back(self, part: Range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return lower and upper neighbour (int32) and the distance from the lower (float32) of native voxels."""
        position = np.clip((np.arange(*part) + 0.5 - self.origin) / self.ratio - 0.5, 0, self.count - 1)
        whole = np.rint(position)
        position = np.where(np.abs(position - whole) < TINY, whole, position)
        lower = np.floor(position).astype(np.int32)
        return lower, np.minimum(lower + 1, self.count - 1).astype(np.int32), (position - lower).astype(np.float32)

    def back_nearest(self, part: Range) -> np.ndarray:
        """Return the viewed voxel that holds the centre of each native voxel of ``part``, int64, clipped."""
        index = np.floor((np.arange(*part) + 0.5 - self.origin) / self.ratio + TINY)
        return np.clip(index, 0, self.count - 1).astype(np.int64)

    def _taps(self, weights_of: Callable[[int], tuple[int, np.ndarray]], wanted: np.ndarray) -> Taps:
        start = np.zeros(self.count, np.int32)
        rows = []
        for k in range(self.count):
            first, weights = weights_of(k)
            kept = np.flatnonzero((weights > TINY) & wanted[k])
            if len(kept):
                start[k], weights = first + kept[0], weights[kept[0] : kept[-1] + 1]
                rows.append(weights / weights.sum() if self.inside[k] else weights)
            else:
                rows.append(weights[:0])
        count = np.array([len(row) for row in rows], np.int32)
        weight = np.zeros((self.count, max(1, count.max(initial=0))), np.float32)
        for k, row in enumerate(rows):
            weight[k, : len(row)] = row
        return Taps(start, count, weight)

    def _linear(self, k: int) -> tuple[int, np.ndarray]:
        position = min(max(self.centres[k] - 0.5, self.data[0]), self.data[1] - 1.0)
        first = int(np.floor(position))
        return first, np.array([1 - (position - first), position - first])

    def _covered(self, k: int) -> tuple[int, np.ndarray]:
        low, high = self.origin + k * self.ratio, self.origin + (k + 1) * self.ratio
        first = max(int(np.floor(low)), self.data[0])
        edges = np.arange(first, min(int(np.ceil(high)), self.data[1]) + 1)
        return first, (np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)) / self.ratio
