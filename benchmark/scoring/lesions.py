"""Voxel and lesion-wise counts of one mask against one truth; components never span two cases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

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
        return ProtocolTotals(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __sub__(self, other: ProtocolTotals) -> ProtocolTotals:
        return ProtocolTotals(*(a - b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


class TotalsByPatient:
    """Counts of masks under one protocol, whole and by patient."""

    def __init__(self) -> None:
        self._whole = ProtocolTotals()
        self._own: dict[str, ProtocolTotals] = {}

    def add(self, patient: str, totals: ProtocolTotals) -> None:
        self._whole += totals
        self._own[patient] = self._own.get(patient, ProtocolTotals()) + totals

    def without(self, patient: str | None) -> ProtocolTotals:
        """Return the counts of all patients but one, or of all."""
        return self._whole if patient is None else self._whole - self._own.get(patient, ProtocolTotals())


def confusion(predicted: np.ndarray, lesion: np.ndarray, **components: int) -> ProtocolTotals:
    """Count voxels of two bool arrays of one case that are already limited to the ROI; its components are given."""
    tp = int(np.count_nonzero(predicted & lesion))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(lesion)) - tp
    return ProtocolTotals(tp, fp, fn, cases=1, **components)


@dataclass(frozen=True, eq=False)
class Components:
    """The components (26 neighbours) of one case's truth, which are its lesions, or of one mask.

    Attributes:
        box: where they lie in the case.
        labels: 1, 2, … on the box (z, y, x), 0 outside of them.
        sizes: voxels of each, int64.
    """

    box: tuple[slice, slice, slice]
    labels: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> Components:
        box, labels = _label(mask)
        return cls(box, labels, np.bincount(labels.reshape(-1), minlength=1)[1:])

    def __len__(self) -> int:
        return len(self.sizes)

    def touched(self, mask: np.ndarray) -> int:
        """Return how many of them a mask of the same case touches."""
        return len(np.setdiff1d(np.unique(self.labels[mask[self.box]]), [0]))

    def weights(self) -> np.ndarray:
        """Return 1 / size of its component for every voxel of one, in C order (float64)."""
        return 1.0 / self.sizes[self.owners]

    @cached_property
    def voxels(self) -> np.ndarray:
        """Places in the case of the voxels of all of them, int64 (voxels, 3), in C order."""
        return np.argwhere(self.labels) + [part.start for part in self.box]

    @cached_property
    def owners(self) -> np.ndarray:
        """Which component each of these voxels belongs to, from 0 (int64)."""
        return self.labels[self.labels > 0].astype(np.int64) - 1

    def highest(self, map_: np.ndarray) -> np.ndarray:
        """Return the highest value of a map of the case in each of them (float64)."""
        found = np.full(len(self), -np.inf)
        np.maximum.at(found, self.owners, map_[self.box][self.labels > 0])
        return found

    def at(self, voxels: np.ndarray) -> np.ndarray:
        """Return the label at each of some places (int64), 0 where there is no component."""
        places = voxels - [part.start for part in self.box]
        inside = ((places >= 0) & (places < self.labels.shape)).all(axis=1)
        found = np.zeros(len(voxels), np.int64)
        found[inside] = self.labels[tuple(places[inside].T)]
        return found


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
