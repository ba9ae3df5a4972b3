"""Voxel and lesion-wise counts of one mask against one truth; components never span two cases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...common.boxes import bounding_box
from ...datasets.case import Spacing

NO_LESION = "no lesion in the region of interest"


@dataclass(frozen=True)
class Confusion:
    """Voxel counts inside the ROI."""

    tp: int
    fp: int
    fn: int

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    def rates(self) -> dict[str, float | None]:
        """Return dice, psc and sen: 0 where a lesion is there and nothing is predicted, None without a lesion."""
        positives = self.tp + self.fn
        if not positives:
            return {"dice": None, "psc": None, "sen": None}
        predicted = self.tp + self.fp
        return {
            "dice": 2 * self.tp / (predicted + positives),
            "psc": self.tp / predicted if predicted else 0.0,
            "sen": self.tp / positives,
        }


def confusion(predicted: np.ndarray, lesion: np.ndarray) -> Confusion:
    """Count voxels of two bool arrays that are already limited to the ROI."""
    tp = int(np.count_nonzero(predicted & lesion))
    return Confusion(tp, int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(lesion)) - tp)


@dataclass(frozen=True, eq=False)
class Lesions:
    """The components (26 neighbours) of one case's truth.

    Attributes:
        labels: integers (z, y, x) on ``box``, 0 outside lesions.
        sizes: int64, voxels of each component (without the background).
    """

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
