"""Voxel and lesion-wise counts of one mask against one truth; components never span two cases."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np

from ...common.boxes import bounding_box
from ...datasets.case import Spacing


@dataclass(frozen=True)
class ProtocolTotals:
    """What one mask, or the masks of all cases under one protocol, add up to against the truth inside the ROI.

    Lesions are components of the truth; the mask touches ``found`` of them, its false components touch none. The other
    counts, true and false positives and false negatives, are of voxels.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    lesions: int = 0
    found: int = 0
    false_components: int = 0
    cases: int = 0

    @property
    def predicted(self) -> int:
        return self.tp + self.fp

    @property
    def positives(self) -> int:
        return self.tp + self.fn

    def __add__(self, other: ProtocolTotals) -> ProtocolTotals:
        return ProtocolTotals(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def confusion(predicted: np.ndarray, lesion: np.ndarray, **components: int) -> ProtocolTotals:
    """Count voxels of two bool arrays of one case that are already limited to the ROI; its components are given."""
    tp = int(np.count_nonzero(predicted & lesion))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(lesion)) - tp
    return ProtocolTotals(tp, fp, fn, cases=1, **components)


@dataclass(frozen=True, eq=False)
class Lesions:
    """The components (26 neighbours) of one case's truth: labels (z, y, x) on ``box``, 0 outside, and their voxels."""

    box: tuple[slice, slice, slice]
    labels: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, lesion: np.ndarray) -> Lesions:
        box, labels = _label(lesion)
        return cls(box, labels, np.bincount(labels.reshape(-1), minlength=1)[1:])

    def __len__(self) -> int:
        return len(self.sizes)

    def found(self, mask: np.ndarray) -> int:
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
    # As bytes: cc3d 4.1 reserves too few labels for bool arrays of odd shapes one voxel thick.
    return box, cc3d.connected_components(np.ascontiguousarray(mask[box]).view(np.uint8), connectivity=26)
