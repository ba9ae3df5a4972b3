"""Reading one CT series of DICOM slices through SimpleITK, each slice at its own position.

SimpleITK and GDCM stack slices as if they were evenly spaced and straight above each other. Here every header is read
first: a tilted gantry, uneven steps, missing or doubled slices are refused with the numbers, never resampled.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.errors import DataError
from ..case import Note
from .geometry import OBLIQUE_DEGREES, Grid
from .mhd_io import axial_volume
from .side_tables import is_number
from .volume_io import Volume

STEP_TOLERANCE = 0.02
"""Largest share by which a step between slices may differ from the middle one; at least 0.02 mm are allowed."""


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """What a slice says about itself.

    Attributes:
        position: centre of the first voxel, LPS millimetres (x, y, z).
        axes: direction of a row, then of a column, six numbers.
        spacing, size: distance in mm, and number, of voxels along a row and along a column.
        number: instance number, None where there is none.
        tilt: gantry tilt in degrees, 0 where the header is silent.
        rescale: slope and intercept, 1 and 0 where the header is silent.
    """

    path: Path
    series: str
    position: np.ndarray
    axes: tuple[float, ...]
    spacing: tuple[float, float]
    size: tuple[int, int]
    number: int | None
    tilt: float
    rescale: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Series:
    """The slices of one series from feet to head, with the grid they lie on; notes name the files left out."""

    slices: tuple[SliceHeader, ...]
    grid: Grid
    notes: tuple[Note, ...] = ()

    @property
    def numbered_from_head(self) -> bool | None:
        """Whether instance numbers fall from feet to head; None where they follow no order."""
        numbers = [one.number for one in self.slices if one.number is not None]
        if len(numbers) < len(self.slices) or len(numbers) < 2:
            return None
        steps = np.diff(numbers)
        return bool((steps < 0).all()) if (steps < 0).all() or (steps > 0).all() else None


def read_slice_header(path: Path) -> SliceHeader:
    """Read the header of one slice, no voxels.

    Raises:
        DataError: not DICOM, not CT, or without position, orientation or voxel size.
    """
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{path}: no readable DICOM slice; copy or download it again, or move it away") from error

    def text(tag: str) -> str:
        return reader.GetMetaData(tag).strip(" \0") if reader.HasMetaDataKey(tag) else ""

    def numbers(tag: str, count: int, what: str) -> np.ndarray:
        try:
            values = np.array([float(part) for part in text(tag).split("\\")])
        except ValueError:
            values = np.empty(0)
        if values.size != count or not np.isfinite(values).all():
            raise DataError(
                f"{path}: {what} ({tag.replace('|', ',')}) is {text(tag) or 'missing'}, expected {count} numbers; "
                "only original CT slices tell where they lie"
            )
        return values

    if text("0008|0060") not in ("CT", ""):
        raise DataError(f"{path}: modality {text('0008|0060')}, expected CT; move it out of the folder")
    width, height = reader.GetSize()[:2]
    row_step, column_step = numbers("0028|0030", 2, "pixel spacing")
    number = text("0020|0013")
    return SliceHeader(
        path=path,
        series=text("0020|000e"),
        position=numbers("0020|0032", 3, "image position"),
        axes=tuple(numbers("0020|0037", 6, "image orientation").tolist()),
        spacing=(float(column_step), float(row_step)),
        size=(int(width), int(height)),
        number=int(number) if is_number(number.removeprefix("-")) else None,
        tilt=_number(text("0018|1120"), 0.0),
        rescale=(_number(text("0028|1053"), 1.0), _number(text("0028|1052"), 0.0)),
    )


def order_series(files: Sequence[Path]) -> Series:
    """Read the headers of a folder's slices and order them from feet to head.

    A series of a single image beside the scan (a scout view) is left out with a note.

    Raises:
        DataError: several series, slices that differ in size or direction, tilted or oblique slices, doubled positions,
            uneven steps.
    """
    groups: dict[str, list[SliceHeader]] = defaultdict(list)
    for path in files:
        header = read_slice_header(path)
        groups[header.series].append(header)
    scans = [group for group in groups.values() if len(group) > 1]
    folder = files[0].parent if files else Path()
    if len(scans) != 1:
        sizes = ", ".join(str(len(group)) for group in groups.values()) or "no"
        raise DataError(
            f"{folder}: {len(groups)} series of {sizes} slices, expected one scan; keep the files of one series"
        )
    scouts = [group[0].path.name for group in groups.values() if len(group) == 1]
    notes = [Note(f"{name}: a single image of another series, ignored") for name in scouts]
    slices = scans[0]
    normal = _check_alike(folder, slices)
    heights = np.array([one.position @ normal for one in slices])
    order = np.argsort(heights, kind="stable")
    slices, heights = [slices[i] for i in order], heights[order]
    step = _check_steps(folder, slices, heights)
    _check_straight(folder, slices, heights, normal)
    first = slices[0]
    affine = np.eye(4)
    affine[:3, :2] = np.reshape(first.axes, (2, 3)).T * first.spacing
    affine[:3, 2], affine[:3, 3] = normal * step, first.position
    shape = (*first.size, len(slices))
    grid = Grid((shape[0], shape[1], shape[2]), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    if grid.obliquity > OBLIQUE_DEGREES or not grid.codes.endswith("S"):
        raise DataError(
            f"{folder}: slices are oblique by {grid.obliquity:.1f} degrees or not axial ({grid.codes}); "
            "use the axial series, or resample the scan to patient axes and give it as NIfTI"
        )
    return Series(tuple(slices), grid, tuple(notes))


def read_series(series: Series) -> Volume:
    """Read the voxels of an ordered series: rescaled to HU, clipped to [-1024, 3071], on LPS axes (z, y, x).

    Raises:
        DataError: a slice without its voxels, NaN voxels, grey values instead of HU.
    """
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    planes = []
    for one in series.slices:
        reader.SetFileName(str(one.path))
        try:
            planes.append(SimpleITK.GetArrayFromImage(reader.Execute())[0])
        except RuntimeError as error:
            raise DataError(f"{one.path}: its voxels cannot be read; copy or download the slice again") from error
    return axial_volume(series.slices[0].path.parent, series.grid, np.stack(planes).T, series.notes)


def _check_alike(folder: Path, slices: Sequence[SliceHeader]) -> np.ndarray:
    """Return the normal, towards the head; refuse slices that do not fit on one grid."""
    first = slices[0]
    for name in ("size", "spacing", "axes", "rescale"):
        wanted = getattr(first, name)
        odd = next((one for one in slices if not np.allclose(getattr(one, name), wanted, atol=1e-3)), None)
        if odd is not None:
            raise DataError(
                f"{folder}: {name} {wanted} in {first.path.name}, but {getattr(odd, name)} in {odd.path.name}; "
                "keep the slices of one scan"
            )
    tilt = max((one.tilt for one in slices), key=abs)
    if abs(tilt) > OBLIQUE_DEGREES:
        raise DataError(
            f"{folder}: gantry tilt of {tilt:g} degrees; correct the tilt (for example with dcm2niix) and give the "
            "scan as NIfTI, or leave it out with --exclude"
        )
    normal = np.cross(first.axes[:3], first.axes[3:])
    length = float(np.linalg.norm(normal))
    if not math.isclose(length, 1.0, abs_tol=0.01):
        raise DataError(f"{folder}: image orientation {first.axes} is no pair of right angles; export the scan again")
    return normal / length if normal[2] >= 0 else -normal / length


def _check_steps(folder: Path, slices: Sequence[SliceHeader], heights: np.ndarray) -> float:
    steps = np.diff(heights)
    middle = float(np.median(steps))
    doubled = np.flatnonzero(steps < 0.01)
    if doubled.size:
        a, b = slices[int(doubled[0])], slices[int(doubled[0]) + 1]
        raise DataError(
            f"{folder}: {doubled.size} positions hold two slices (first: {a.path.name} and {b.path.name}); "
            "keep one of each"
        )
    uneven = np.flatnonzero(np.abs(steps - middle) > max(0.02, STEP_TOLERANCE * middle))
    if uneven.size:
        at = int(uneven[0])
        whole = np.allclose(steps / middle, np.round(steps / middle), atol=0.05)
        fix = "copy the missing slices" if whole else "resample the scan to even steps and give it as NIfTI"
        raise DataError(
            f"{folder}: uneven slice spacing, {steps.min():.2f} to {steps.max():.2f} mm (mostly {middle:.2f}; "
            f"{steps[at]:.2f} between {slices[at].path.name} and {slices[at + 1].path.name}); {fix}, or leave it out "
            "with --exclude"
        )
    return float((heights[-1] - heights[0]) / (len(slices) - 1))


def _check_straight(folder: Path, slices: Sequence[SliceHeader], heights: np.ndarray, normal: np.ndarray) -> None:
    drift = np.array([one.position - slices[0].position for one in slices]) - np.outer(heights - heights[0], normal)
    size = np.sqrt((drift**2).sum(axis=1))
    angle = math.degrees(math.atan2(float(size[-1]), float(heights[-1] - heights[0])))
    if angle > OBLIQUE_DEGREES:
        raise DataError(
            f"{folder}: slices are shifted sideways by {size[-1]:.1f} mm from end to end (gantry tilt of {angle:.1f} "
            "degrees); correct the tilt (for example with dcm2niix) and give the scan as NIfTI, or leave it out with "
            "--exclude"
        )
    if size.max() > min(slices[0].spacing):
        raise DataError(
            f"{folder}: a slice lies {size.max():.1f} mm beside the others ({slices[int(size.argmax())].path.name}); "
            "keep the slices of one scan"
        )


def _number(text: str, missing: float) -> float:
    try:
        return float(text)
    except ValueError:
        return missing
