"""Reading one CT series of DICOM slices through SimpleITK, each slice at its own position.

SimpleITK and GDCM stack slices as if they were evenly spaced and straight above each other. Here every header is read
first: a tilted gantry, uneven steps, missing or doubled slices are refused with the numbers, never resampled.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...common.errors import DataError, several, shortened
from ..case import Note
from .geometry import OBLIQUE_DEGREES, Grid
from .mhd_io import axial_volume
from .side_tables import is_number
from .volume_io import Volume

STEP_TOLERANCE = 0.02
"""Largest share by which a step between slices may differ from the middle one; at least 0.02 mm are allowed."""
COMPRESSED = "1.2.840.10008.1.2.4."
"""Transfer syntaxes of compressed voxels begin so, but for RLE; GDCM knows JPEG, JPEG-LS and JPEG 2000 among them."""

_META_BYTES = 4096


class OtherModalityError(DataError):
    """A DICOM file is no CT."""

    def __init__(self, path: Path, modality: str) -> None:
        super().__init__(f"{path}: modality {modality}, expected CT; move it out of the folder")
        self.modality = modality


class NoSliceError(DataError):
    """A folder holds no CT slice."""


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
        description: what the scanner calls the series.
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
    description: str = ""


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
        DataError: not DICOM, not CT (an :class:`OtherModalityError`), or without position, orientation or voxel size.
    """
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(
            _unreadable(path, "no readable DICOM slice; copy or download it again, or move it away")
        ) from error

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
        raise OtherModalityError(path, shortened(text("0008|0060"), 16))
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
        description=shortened(text("0008|103e"), 60),
    )


def read_folder(folder: Path, series: str | None = None) -> Volume:
    """Read the CT series of a folder, or the one named by its SeriesInstanceUID, as :func:`read_series` does.

    Raises:
        DataError: as :func:`find_series` and :func:`read_series`.
    """
    return read_series(find_series(folder, series))


def find_series(folder: Path, series: str | None = None) -> Series:
    """Order the CT series in a folder itself; files of other modalities and without the mark of DICOM are left out.

    Raises:
        DataError: no CT slice there (a :class:`NoSliceError`), several series of which none is named, or as
            :func:`order_series`.
    """
    headers, others = [], Counter[str]()
    for path in dicom_files(folder):
        try:
            headers.append(read_slice_header(path))
        except OtherModalityError as error:
            others[error.modality] += 1
    if not headers:
        found = f"only {_counted(others)}" if others else "no DICOM file"
        raise NoSliceError(f"{folder}: no CT slice ({found}); give the folder that holds the slices of one scan")
    ordered = _ordered(folder, headers, series)
    notes = (Note(f"{_counted(others)} ignored"),) if others else ()
    return replace(ordered, notes=(*ordered.notes, *notes))


def dicom_files(folder: Path) -> list[Path]:
    """Return the files of a folder itself that carry the mark of DICOM, sorted; directories of a medium are left out.

    Raises:
        DataError: the folder, or a file of it, cannot be read.
    """
    try:
        files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
        return [p for p in files if p.name.upper() != "DICOMDIR" and _start(p, 132)[128:] == b"DICM"]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error}); check the folder") from error


def order_series(files: Sequence[Path], series: str | None = None, *, one_scan: bool = False) -> Series:
    """Read the headers of a scan's slices and order them from feet to head.

    A series of a single image beside the scan (a scout view) is left out with a note.

    Args:
        series: SeriesInstanceUID of the one to take, where there are several.
        one_scan: all files are slices of one scan, whatever series they name.

    Raises:
        DataError: several series and none named, slices that differ in size or direction, tilted or oblique slices,
            doubled positions, uneven steps.
    """
    folder = files[0].parent if files else Path()
    return _ordered(folder, [read_slice_header(path) for path in files], series, one_scan)


def _ordered(folder: Path, headers: Sequence[SliceHeader], series: str | None, one_scan: bool = False) -> Series:
    groups: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        groups["" if one_scan else header.series].append(header)
    slices, notes = _chosen(folder, groups, series)
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
    return Series(tuple(slices), grid, notes)


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
            text = "its voxels cannot be read; copy or download the slice again"
            raise DataError(_unreadable(one.path, text)) from error
    return axial_volume(series.slices[0].path.parent, series.grid, np.stack(planes).T, series.notes)


def _chosen(
    folder: Path, groups: Mapping[str, list[SliceHeader]], series: str | None
) -> tuple[list[SliceHeader], tuple[Note, ...]]:
    """Return the slices of one series, and which other images of the folder are left out."""
    scans = {uid: slices for uid, slices in groups.items() if len(slices) > 1}
    wanted = {series: scans[series]} if series in scans else scans if series is None else {}
    if len(wanted) != 1:
        told = [f"{uid or 'without a name'} ({about(slices)})" for uid, slices in groups.items()]
        found = f": {several(told)}" if told else ""
        what = "expected one scan" if series is None else f"none of several slices is {shortened(series, 70)}"
        raise DataError(f"{folder}: {len(groups)} series, {what}{found}; name one of them, or keep the files of one")
    (uid, slices), *_ = wanted.items()
    left = [(other, found) for other, found in groups.items() if other != uid]
    scouts = tuple(Note(f"{f[0].path.name}: a single image of another series, ignored") for _, f in left if len(f) == 1)
    others = tuple(Note(f"series {other} ({about(f)}) is not the chosen one, ignored") for other, f in left if f[1:])
    return slices, (*scouts, *others)


def about(slices: Sequence[SliceHeader]) -> str:
    """Return number and size of slices, and what the scanner calls their series."""
    count, first = len(slices), slices[0]
    size = f"{count} slice{'s' * (count > 1)} of {first.size[0]} x {first.size[1]}"
    return f"{size}, {first.description}" if first.description else size


def _counted(others: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} file{'s' * (count > 1)} of modality {modality}" for modality, count in sorted(others.items())
    )


def _unreadable(path: Path, text: str) -> str:
    syntax = transfer_syntax(path) if path.is_file() else ""
    if not syntax.startswith(COMPRESSED):
        return f"{path}: {text}"
    return (
        f"{path}: its compressed voxels (transfer syntax {syntax}) are damaged, or SimpleITK has no decoder for them; "
        "copy the slice again, or install pydicom with pylibjpeg[all], call decompress() on each slice and save it"
    )


def transfer_syntax(path: Path) -> str:
    """Return how the voxels of a DICOM file are encoded, a UID, empty where its first bytes do not tell."""
    _, tag, rest = _start(path, _META_BYTES).partition(b"\x02\x00\x10\x00UI")
    return rest[2 : 2 + int.from_bytes(rest[:2], "little")].decode("latin-1").strip(" \0") if tag else ""


def _start(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


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
            f"{folder}: {doubled.size} positions hold two slices (first: {a.path.name} and {b.path.name} at z = "
            f"{a.position[2]:g} mm); keep one of each"
        )
    uneven = np.flatnonzero(np.abs(steps - middle) > max(0.02, STEP_TOLERANCE * middle))
    if uneven.size:
        at = int(uneven[0])
        whole = np.allclose(steps / middle, np.round(steps / middle), atol=0.05)
        fix = "copy the missing slices" if whole else "resample the scan to even steps and give it as NIfTI"
        raise DataError(
            f"{folder}: uneven slice spacing, {steps.min():.2f} to {steps.max():.2f} mm (mostly {middle:.2f}; "
            f"{steps[at]:.2f} between {slices[at].path.name} and {slices[at + 1].path.name}, z = "
            f"{slices[at].position[2]:g} and {slices[at + 1].position[2]:g} mm); {fix}, or leave it out with --exclude"
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
