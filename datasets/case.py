"""A scan as methods see it, and its truth, kept apart.

Canonical voxel axes are LPS: arrays are ordered z, y, x with z from feet to head, y from front to back and x from the
patient's right to left, so that ``image[z]`` displays upright in the radiological convention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from ..common.errors import DataError

Spacing = tuple[float, float, float]
Region = Literal["roi", "slices"]
OUTSIDE_SHARE = 0.05


@dataclass(frozen=True)
class Note:
    """What a reader of the numbers should know about a case; a warning asks for a look at it.

    >>> str(Note("spacing from spacing.csv")), str(warning("lost header"))
    ('spacing from spacing.csv', 'warning: lost header')
    """

    text: str
    level: Literal["note", "warning"] = "note"

    def __str__(self) -> str:
        return self.text if self.level == "note" else f"{self.level}: {self.text}"


def warning(text: str) -> Note:
    """Return a note that asks for a look."""
    return Note(text, "warning")


@dataclass(frozen=True)
class Trust:
    """Where the geometry of a scan comes from, and whether lengths in mm mean what they say.

    Attributes:
        spacing_source: the file's ``header``, or the ``table`` spacing.csv.
        spacing_trusted: False where the header was lost or contradicts what is known of the release.
        orientation_source: the ``header``; ``anatomy`` where axes without a header were turned by what the scan shows;
            ``stored`` where they were left as they are.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    spacing_source: Literal["header", "table"] = "header"
    spacing_trusted: bool = True
    orientation_source: Literal["header", "anatomy", "stored"] = "header"


@dataclass(frozen=True, eq=False)
class Case:
    """One scan without its lesions.

    Attributes:
        patient: splits and statistics use it.
        image: float32, shape (z, y, x), Hounsfield units.
        spacing: voxel size in mm, order z, y, x.
        roi: bool, shape (z, y, x), the organ in which anomalies are sought.
        roi_source: how this case's region of interest was made, where the set leaves a choice.
        notes: what a reader of the numbers should know; steers nothing. Plain text becomes a note.
    """

    id: str
    patient: str
    image: np.ndarray
    spacing: Spacing
    roi: np.ndarray
    notes: tuple[Note, ...] = ()
    roi_source: str = ""
    trust: Trust = Trust()

    def __post_init__(self) -> None:
        noted = (note if isinstance(note, Note) else Note(note) for note in self.notes)
        object.__setattr__(self, "notes", tuple(noted))
        if self.image.ndim != 3:
            raise DataError(f"case {self.id}: image has {self.image.ndim} dimensions, expected 3 (z, y, x)")
        if self.image.shape != self.roi.shape:
            raise DataError(f"case {self.id}: image shape {self.image.shape} differs from roi shape {self.roi.shape}")

    def crop_z(self, start: int, stop: int) -> Case:
        """Return the slices ``start`` to ``stop`` (exclusive) as a case of their own."""
        return replace(self, image=self.image[start:stop], roi=self.roi[start:stop])


def counted(roi: np.ndarray, region: Region) -> np.ndarray:
    """Return the voxels in which a map counts, bool (z, y, x): the region of interest, or every slice that shows it."""
    return roi if region == "roi" else np.broadcast_to(roi.any(axis=(1, 2), keepdims=True), roi.shape).copy()


@dataclass(frozen=True, eq=False)
class Truth:
    """What only the scorer opens.

    Attributes:
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
