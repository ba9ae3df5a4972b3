"""Voxel and lesion-wise counts of one mask against one truth; components never span two cases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from ...common.boxes import bounding_box
from ...datasets.case import Spacing


class _Sums:
    """Counts that add up field by field."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Confusion(_Sums):
    """Voxel counts inside the ROI."""

    tp: int
    fp: int
    fn: int

    @property
    def predicted(self) -> int:
        return self.tp + self.fp

    @property
    def positives(self) -> int:
        return self.tp + self.fn


@dataclass(frozen=True)
class ProtocolTotals(_Sums):
    """What one mask, or the masks of all cases under one protocol, add up to against the truth.

    Lesions are components of the truth; the mask touches ``found`` of them, its false components touch none.
    """

    voxels: Confusion = Confusion(0, 0, 0)
    lesions: int = 0
    found: int = 0
    false_components: int = 0
    cases: int = 0


def confusion(predicted: np.ndarray, lesion: np.ndarray) -> Confusion:
    """Count voxels of two bool arrays that are already limited to the ROI."""
    tp = int(np.count_nonzero(predicted & lesion))
    return Confusion(tp, int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(lesion)) - tp)


@dataclass(frozen=True, eq=False)
class Lesions:
    """The components (26 neighbours) of one case's truth: labels (z, y, x) on ``box``, 0 outside, and their voxels."""

    box: tuple[slice, slice, slice]
    labels: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, lesion: np.ndarray) -> Lesions:
        """Label a bool array (z, y, x)."""
        box, labels = _label(lesion)
        return cls(box, labels, np.bincount(labels.reshape(-1), minlength=1)[1:])

    def __len__(self) -> int:
        return len(self.sizes)

    def found(self, mask: np.ndarray) -> int:
        """Return how many components a mask touches."""
        return len(np.setdiff1d(np.unique(self.labels[mask[self.box]]), [0]))

    def weights(self) -> np.ndarray:
        """Return 1 / size of its component for every lesion voxel, in C order (float64)."""
        labels = self.labels[self.labels > 0]
        return 1.0 / self.sizes[labels.astype(np.int64) - 1]


def false_components(mask: np.ndarray, lesion: np.ndarray) -> int:
    """Return how many components of a mask touch no lesion."""
    box, labels = _label(mask)
    touched = np.unique(labels[lesion[box] & (labels > 0)])
    return int(labels.max(initial=0)) - len(touched)


def millilitres(voxels: int, spacing: Spacing) -> float:
    """Return a volume in ml."""
    return voxels * math.prod(spacing) / 1000


def _label(mask: np.ndarray) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    import cc3d

    box = bounding_box(mask)
    if not mask[box].size:
        return box, np.zeros((0, 0, 0), np.uint16)
    return box, cc3d.connected_components(np.ascontiguousarray(mask[box]), connectivity=26)
