"""A scan as methods see it, and its truth, kept apart.

Canonical voxel axes are LPS: arrays are ordered z, y, x with z from feet to head, y from front to back and x from the
patient's right to left, so that ``image[z]`` displays upright in the radiological convention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..common.errors import DataError

Spacing = tuple[float, float, float]
OUTSIDE_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Case:
    """One scan without its lesions.

    Attributes:
        id: name of the case inside its data set.
        patient: patient the case belongs to; splits and statistics use it.
        image: float32, shape (z, y, x), Hounsfield units.
        spacing: voxel size in mm, order z, y, x.
        roi: bool, shape (z, y, x), the organ in which anomalies are sought.
        roi_source: how this case's region of interest was made, where the set leaves a choice.
        notes: what a reader of the numbers should know (lost header, untrusted spacing, …).
    """

    id: str
    patient: str
    image: np.ndarray
    spacing: Spacing
    roi: np.ndarray
    notes: tuple[str, ...] = ()
    roi_source: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 3:
            raise DataError(f"case {self.id}: image has {self.image.ndim} dimensions, expected 3 (z, y, x)")
        if self.image.shape != self.roi.shape:
            raise DataError(f"case {self.id}: image shape {self.image.shape} differs from roi shape {self.roi.shape}")

    def crop_z(self, start: int, stop: int) -> Case:
        """Return the slices ``start`` to ``stop`` (exclusive) as a case of their own."""
        return replace(self, image=self.image[start:stop], roi=self.roi[start:stop])


@dataclass(frozen=True, eq=False)
class Truth:
    """What only the scorer opens.

    Attributes:
        id: name of the case.
        lesion: bool, shape (z, y, x), or None where the set has no voxel truth.
        slice_labels: bool, shape (z,), or None; derived from ``lesion`` where that exists.
    """

    id: str
    lesion: np.ndarray | None = None
    slice_labels: np.ndarray | None = None

    def share_outside(self, roi: np.ndarray) -> float:
        """Return which share of the lesion voxels lies outside ``roi``, which is never measured; 0 without a lesion."""
        if self.lesion is None or not self.lesion.any():
            return 0.0
        return float(np.count_nonzero(self.lesion & ~roi) / np.count_nonzero(self.lesion))
