"""Reading DICOM segmentations of one segment onto the slices of their CT, with pydicom (extra ``dicom-seg``)."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import DataError, brief, shortened
from ...common.package import NAME
from .dicom_io import Series

STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
"""SOP class of a segmentation whose frames are the masks of its segments."""
PLAY_MM = 0.1
"""How far a frame may lie from its slice."""


def missing() -> str | None:
    """Return how to install what is needed, None where it is there."""
    return None if find_spec("pydicom") else f"pydicom is not installed: pip install '{NAME}[dicom-seg]'"


def tracking_of(path: Path) -> str:
    """Return what the masks of one object have in common, its TrackingUID or else TrackingID; no voxels are read.

    Raises:
        DataError: as :func:`read_segment`, but for what concerns its frames; the object has no such name.
    """
    segment = _opened(path, stop_before_pixels=True).SegmentSequence[0]
    found = str(segment.get("TrackingUID") or segment.get("TrackingID") or "").strip()
    if not found:
        raise DataError(f"{path}: its segment has no tracking id, so that readers of one object cannot be told")
    return found


def read_segment(path: Path, series: Series) -> dict[int, np.ndarray]:
    """Read the frames of a binary segmentation, each at its own position among the slices of its CT.

    Returns:
        masks, bool (rows, columns) as the slices are stored, by the number of the slice from the feet.

    Raises:
        DataError: not DICOM, another kind of segmentation (FRACTIONAL, LABELMAP), several segments, a grid other than
            that of the slices, frames between or outside them or two at one place.
    """
    file, first = _opened(path), series.slices[0]
    try:
        size = (int(file.Columns), int(file.Rows))
        frames = np.asarray(file.pixel_array, bool).reshape(-1, *size[::-1])
        shared = file.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in file else None
        placed = [_placed(one, shared) for one in file.PerFrameFunctionalGroupsSequence]
    except Exception as error:  # pydicom raises whatever its parts do on damaged files
        raise DataError(
            f"{path}: its frames cannot be read ({brief(error, 100)}); copy or download it again"
        ) from error
    if size != first.size:
        raise DataError(
            f"{path}: frames of {size[0]} x {size[1]}, but the slices of its CT have {first.size[0]} x "
            f"{first.size[1]}; use the segmentation of this scan"
        )
    if len(placed) != len(frames):
        raise DataError(f"{path}: {len(frames)} frames, {len(placed)} places; copy or download it again")
    positions = np.array([one.position for one in series.slices])
    planes: dict[int, np.ndarray] = {}
    for plane, (position, axes, spacing) in zip(frames, placed, strict=True):
        if not (np.allclose(axes, first.axes, atol=1e-3) and np.allclose(spacing, first.spacing, rtol=1e-3)):
            raise DataError(
                f"{path}: its grid is not that of the slices (direction {_text(axes)}, pixel {_text(spacing)} mm; the "
                f"CT has {_text(first.axes)} and {_text(first.spacing)}); use the segmentation of this scan"
            )
        distances = np.linalg.norm(positions - position, axis=1)
        nearest = int(distances.argmin())
        if not distances[nearest] <= PLAY_MM:
            raise DataError(
                f"{path}: a frame at ({_text(position)}) mm, where its CT has no slice (the nearest one is at "
                f"{_text(positions[nearest])}): outside the scan, or made for another one; leave it out with --exclude"
            )
        if nearest in planes:
            raise DataError(f"{path}: two frames at ({_text(position)}) mm; copy or download it again")
        planes[nearest] = plane
    return planes


def _opened(path: Path, *, stop_before_pixels: bool = False) -> Any:
    """Open a segmentation, and refuse what is none, is of another kind or has several segments."""
    if (reason := missing()) is not None:
        raise DataError(f"{path}: a DICOM segmentation, and {reason}")
    pydicom = import_module("pydicom")
    try:
        file = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
        sop, kind = str(file.get("SOPClassUID", "")), str(file.get("SegmentationType", "missing"))
        count = len(file.get("SegmentSequence") or ())
    except Exception as error:  # pydicom raises whatever its parts do on damaged files
        raise DataError(f"{path}: cannot be read as DICOM ({brief(error, 100)}); copy or download it again") from error
    if sop != STORAGE or kind != "BINARY":
        raise DataError(
            f"{path}: SOP class {shortened(sop, 70) or 'missing'}, segmentation type {shortened(kind, 20)}; expected a "
            "binary DICOM segmentation, use the published one"
        )
    if count != 1:
        raise DataError(f"{path}: {count} segments, expected one per file; use the published segmentations")
    return file


def _placed(frame: Any, shared: Any) -> tuple[list[float], list[float], list[float]]:
    """Return position, axes and pixel size (along a row, along a column) of a frame."""

    def group(name: str) -> Any:
        return (frame if name in frame or shared is None else shared)[name][0]

    down, along = (float(value) for value in group("PixelMeasuresSequence").PixelSpacing)
    return (
        [float(value) for value in group("PlanePositionSequence").ImagePositionPatient],
        [float(value) for value in group("PlaneOrientationSequence").ImageOrientationPatient],
        [along, down],
    )


def _text(values: Any) -> str:
    return ", ".join(f"{float(value):g}" for value in values)
