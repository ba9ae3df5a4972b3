"""Reading NIfTI: every volume comes back as HU on LPS axes, or is refused with the fix.

nibabel interprets the header; the voxels are inflated by ISA-L straight into one buffer, and integers stay integers.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...common.errors import DataError, brief, shortened
from ..case import Note, Spacing, Trust, warning
from .geometry import Grid, nifti_grid
from .pairing import placement, refusal, settled

HU_RANGE = (-1024, 3071)
_MOST_INTERCEPT, _MOST_OFFSET = 2**31, 2**40
_WHOLE = 1e-3
_GZIP = b"\x1f\x8b"
_FOREIGN = {
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": "an HDF5 file",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"version https://git-lfs": "a Git LFS pointer",
    b"NRRD": "an NRRD file",
    b"ObjectType": "a MetaImage header",
    b"<": "a web page",
}


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT volume on LPS axes; labels of it share its stored grid.

    ``data`` are Hounsfield units, shape (z, y, x), C-contiguous; int16 where the file holds whole numbers, else
    float32.
    """

    data: np.ndarray
    grid: Grid
    notes: tuple[Note, ...] = ()

    @property
    def spacing(self) -> Spacing:
        return self.grid.spacing

    @property
    def trust(self) -> Trust:
        source = "header" if self.grid.trusted else "stored"
        return Trust(spacing_trusted=self.grid.spacing_trusted, orientation_source=source)

    def on(self, grid: Grid) -> "Volume":
        """Return the volume as another grid of the same stored voxels turns it."""
        return replace(self, data=np.ascontiguousarray(grid.to_lps(self.grid.from_lps(self.data))), grid=grid)


@dataclass(frozen=True, eq=False)
class Labels:
    """A label volume on the axes of its image: uint8, shape (z, y, x); ``values`` are the labels that occur."""

    data: np.ndarray
    values: tuple[int, ...]
    notes: tuple[Note, ...] = ()


def read_grid(path: Path) -> Grid:
    """Read shape, affine and trust of a NIfTI file from its header alone."""
    with _open(path) as (stream, notes):
        return _grid(path, _header(path, stream, notes)[0])


def read_volume(path: Path) -> Volume:
    """Read a CT volume: slope and intercept applied, clipped to [-1024, 3071] HU, reoriented to LPS (z, y, x).

    Flips and transposes only: an oblique scan keeps its voxels and takes its nearest axes, with a note.

    Raises:
        DataError: truncated, corrupt or foreign file, 2D or 4D data, NaN or infinite voxels, grey values instead of HU.
    """
    path = Path(path)
    grid, stored, slope, inter, notes = _read(path)
    return to_volume(path, grid, stored, [*notes, *grid.notes], slope, inter)


def to_volume(
    path: Path, grid: Grid, stored: np.ndarray, notes: Iterable[Note], slope: float = 1.0, inter: float = 0.0
) -> Volume:
    """Scale ``stored`` (i, j, k) to HU, check the values, clip them to [-1024, 3071] and turn them to LPS (z, y, x).

    Raises:
        DataError: NaN or infinite voxels, grey values instead of HU.
    """
    ends = float(stored.min()), float(stored.max())
    if not np.isfinite(ends).all():
        bad = int(stored.size - np.isfinite(stored).sum())
        raise DataError(
            f"{path}: {bad} voxels are NaN or infinite; "
            "replace them by a HU value (air is -1024) or convert the scan again"
        )
    low, high = sorted(end * slope + inter for end in ends)
    if low >= -1 and high <= 255:
        raise DataError(
            f"{path}: values {low:g} to {high:g}: no Hounsfield units (windowed to 0–255, normalised or empty); "
            "use the original CT"
        )
    found = list(notes)
    if low >= 0:
        text = f"no value below 0 HU (lowest {low:g}): the rescale intercept of the conversion may be missing"
        found.append(warning(text))
    if low < HU_RANGE[0] or high > HU_RANGE[1]:
        clipped = f"values {low:g} to {high:g} clipped to {HU_RANGE[0]} to {HU_RANGE[1]} HU"
        found.append(Note(f"{clipped} (padding such as -2000 or -3024 becomes air)"))
    if not all(0.05 <= size <= 30 for size in grid.spacing) and grid.spacing_trusted:
        size = " x ".join(f"{s:g}" for s in grid.spacing)
        found.append(warning(f"spacing {size} mm (z, y, x) is implausible for CT"))
    return Volume(_to_hu(grid.to_lps(stored), slope, inter), grid, tuple(found))


def read_labels(path: Path, like: Volume | Grid | None, expected: Collection[int] | None = None) -> Labels:
    """Read a label volume onto the axes of its image, as :mod:`.pairing` decides; never resampled.

    Without an image, onto the LPS axes that its own header names, whatever that is worth.

    Args:
        like: the image, or its grid where no header leaves a doubt that only the scan can settle.
        expected: values that may occur; default any.

    Raises:
        DataError: unreadable file, shape differs from the image's, labels that are not whole numbers or not expected,
            or headers that contradict each other and a scan that does not tell which is right.
    """
    path = Path(path)
    grid, stored, slope, inter, notes = _read(path)
    scaled = (slope, inter) != (1.0, 0.0)
    if scaled:
        stored = _scaled(stored, slope, inter)
    turn, found = (grid, ()) if like is None else laid(path, grid, stored, like)
    labels = to_labels(path, turn.to_lps(stored), expected, abs(slope) if scaled else 0.0)
    return replace(labels, notes=(*notes, *labels.notes, *found))


def laid(path: Path, grid: Grid, stored: np.ndarray, like: Volume | Grid) -> tuple[Grid, tuple[Note, ...]]:
    """Return the grid that turns stored labels (i, j, k) to the axes of their image, and the notes on it.

    Raises:
        DataError: shape differs from the image's, or it cannot be decided how they lie on it.
    """
    reference = like.grid if isinstance(like, Volume) else like
    place = placement(grid, reference, path.name)
    if grid.shape != reference.shape and place.grid is reference and not place.free:
        raise DataError(
            f"{path}: shape {grid.shape} differs from the image's {reference.shape}; "
            "pair the label with its own image, or export both again"
        )
    if not place.contested:
        return place.grid, place.said
    if not isinstance(like, Volume):
        raise refusal(path, place)
    chosen, note = settled(path, place, stored, like.data)
    return chosen, (*place.notes, note)


def read_map_volume(path: Path) -> np.ndarray:
    """Read an anomaly map of another program: float32, (z, y, x) on LPS axes by its own affine, values as they are.

    Values that are not finite are kept, because only those inside the region of interest count.

    Raises:
        DataError: unreadable file, or sform and qform name different axes.
    """
    grid, stored, slope, inter, _ = _read(Path(path))
    if grid.rival is not None:
        raise DataError(
            f"{path}: the sform names the axes {grid.codes}, the qform {grid.other().codes}; write the map with one"
        )
    return _scaled(grid.to_lps(stored), slope, inter)


@contextmanager
def _open(path: Path) -> Iterator[tuple[BufferedIOBase, list[Note]]]:
    """Open plain or gzip bytes by content; translate every reading error into a refusal."""
    from gzip import BadGzipFile

    from isal import igzip, isal_zlib

    path = Path(path)
    notes: list[Note] = []
    try:
        with path.open("rb") as file:
            start = file.read(32)
            file.seek(0)
            zipped = start.startswith(_GZIP)
            if zipped and not path.name.lower().endswith(".gz"):
                notes.append(Note(f"gzip bytes under the name {path.name}; read as gzip"))
            elif not zipped and path.name.lower().endswith(".gz"):
                notes.append(Note(f"plain bytes under the name {path.name}; read as plain NIfTI"))
            if not start:
                raise DataError(f"{path}: the file is empty; copy or download it again")
            for magic, what in _FOREIGN.items():
                if start.startswith(magic):
                    raise DataError(f"{path}: holds {what}, not NIfTI; unpack, download or convert it to .nii.gz")
            if zipped:
                with igzip.IGzipFile(fileobj=file, mode="rb") as stream:
                    yield cast("BufferedIOBase", stream), notes
            else:
                yield file, notes
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the data root") from error
    except EOFError as error:
        raise DataError(f"{path}: the gzip stream ends early (truncated file); copy or download it again") from error
    except (BadGzipFile, isal_zlib.error) as error:  # pyright: ignore[reportGeneralTypeIssues]
        raise DataError(f"{path}: damaged gzip stream ({error}); copy or download it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the file and its rights") from error


def volume_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a stored shape (i, j, k); one that is no volume is refused."""
    if len(shape) != 3 or min(shape) < 1:
        fixes = {2: "stack the slices to one volume", 4: "keep one volume of the series"}
        fix = fixes.get(len(shape), "export it again")
        raise DataError(
            f"{path}: {len(shape)}D data of shape {shortened(str(shape), 60)}, expected one 3D volume; {fix}"
        )
    return shape[0], shape[1], shape[2]


def _header(path: Path, stream: BufferedIOBase, notes: list[Note]) -> tuple[Any, int]:
    """Return the header and its bytes; what had to be mended in it is added to ``notes``."""
    import nibabel as nib
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    block = stream.read(348)
    if len(block) < 348:
        raise DataError(f"{path}: only {len(block)} bytes, a NIfTI header has 348; copy or download it again")
    if block.startswith(_GZIP):
        raise DataError(f"{path}: gzip bytes inside gzip bytes; unpack the file once")
    kind = nib.Nifti1Header
    if 540 in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")):
        kind = nib.Nifti2Header
        block += stream.read(540 - 348)
    elif block[344:348] == b"ni1\0":
        raise DataError(f"{path}: header of an .hdr/.img pair; convert the pair to one .nii.gz")
    elif block[344:348] != b"n+1\0":
        hint = "a DICOM slice; convert the series with dcm2niix" if block[128:132] == b"DICM" else "not a NIfTI file"
        raise DataError(f"{path}: {hint} (no NIfTI mark at byte 344)")
    try:
        header = kind(block, check=False)
        _check_numbers(path, header)  # nibabel's own check of them raises what is no error of a header
        mended = _Mended()
        header.check_fix(logger=mended, error_level=40)
        notes += [Note(f"header mended: {text}") for text in mended.texts]
        dtype = header.get_data_dtype()
    except (HeaderDataError, WrapStructError, ValueError, KeyError) as error:
        raise DataError(f"{path}: broken NIfTI header ({brief(error)}); convert the scan again") from error
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: voxels of type {dtype}, expected numbers; export the scan as int16 or float32")
    return header, len(block)


class _Mended(logging.Logger):
    """Keeps what nibabel says of a header that it mends, each text once and cut to a line."""

    def __init__(self) -> None:
        super().__init__("header", logging.INFO)
        self.texts: dict[str, None] = {}

    def handle(self, record: logging.LogRecord) -> None:
        self.texts[shortened(record.getMessage(), 120)] = None


def _check_numbers(path: Path, header: Any) -> None:
    """Refuse a scale or a start of the voxels that is no sound number; a slope of 0 or not finite means no scale."""
    slope, inter, start = (float(header[field]) for field in ("scl_slope", "scl_inter", "vox_offset"))
    if np.isfinite(slope) and slope != 0 and not abs(inter) <= _MOST_INTERCEPT:
        raise DataError(f"{path}: scl_inter is {inter:g}, expected a number of HU; convert the scan again")
    if not 0 <= abs(start) <= _MOST_OFFSET:
        raise DataError(f"{path}: vox_offset is {start:g}, expected where the voxels begin; convert the scan again")


def _grid(path: Path, header: Any) -> Grid:
    shape, notes = tuple(int(n) for n in header.get_data_shape()), ()
    if len(shape) > 3 and set(shape[3:]) == {1}:
        notes = (Note(f"shape {shape}: the last axes of size 1 are dropped"),)
        shape = shape[:3]
    return nifti_grid(volume_shape(path, shape), header, notes)


def _read(path: Path) -> tuple[Grid, np.ndarray, float, float, list[Note]]:
    """Return grid, stored voxels (i, j, k), their scaling, and notes about the file's bytes."""
    with _open(path) as (stream, notes):
        header, used = _header(path, stream, notes)
        grid = _grid(path, header)
        offset = max(int(header.get_data_offset()), used)
        if _skipped(stream, offset - used) < offset - used:
            raise DataError(f"{path}: ends before its voxels begin (byte {offset}); copy or download it again")
        try:
            stored = np.empty(grid.shape, dtype=header.get_data_dtype(), order="F")
        except (MemoryError, ValueError) as error:
            raise DataError(f"{path}: header asks for shape {grid.shape}, more than memory holds") from error
        got = stream.readinto(stored.reshape(-1, order="F").view(np.uint8).data)
        if got < stored.nbytes:
            raise DataError(f"{path}: {got} of {stored.nbytes} voxel bytes (truncated file); copy or download it again")
        left = _skipped(stream, _MOST_OFFSET)
        if left and int(header.get_data_offset()) < used:
            text = f"vox_offset is {float(header['vox_offset']):g}, so voxels were read from byte {used}; {left} bytes"
            notes.append(warning(f"{text} are left over, so that the image may lie shifted: convert the scan again"))
    slope, inter = header.get_slope_inter()
    return grid, stored, 1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter), notes


def _skipped(stream: BufferedIOBase, count: int) -> int:
    """Read on over ``count`` bytes in small pieces and return how many there were."""
    left = count
    while left > 0 and (piece := stream.read(min(left, 1 << 20))):
        left -= len(piece)
    return count - left


def _to_hu(view: np.ndarray, slope: float = 1.0, inter: float = 0.0) -> np.ndarray:
    """Clip and copy to contiguous memory in one pass; int16 where the values are whole numbers."""
    low, high = HU_RANGE
    if view.dtype.kind in "iu" and slope == 1.0 and inter.is_integer():
        limits = np.iinfo(view.dtype)
        shift = int(inter)
        low, high = (min(max(end - shift, limits.min), limits.max) for end in HU_RANGE)
        if shift == 0:
            return np.clip(view, low, high, out=np.empty(view.shape, np.int16), casting="unsafe")
        shifted = np.clip(view, low, high).astype(np.int32, order="C") + shift
        return np.clip(shifted, *HU_RANGE, out=shifted).astype(np.int16)
    data = _scaled(view, slope, inter)
    return np.clip(data, low, high, out=data)


def _scaled(view: np.ndarray, slope: float, inter: float) -> np.ndarray:
    data = np.empty(view.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite, and is clipped or refused as such
        np.multiply(view, np.float32(slope), out=data, casting="unsafe", dtype=np.float32)
        data += np.float32(inter)
    return data


def to_labels(path: Path, stored: np.ndarray, expected: Collection[int] | None, step: float = 0.0) -> Labels:
    """Check labels that lie on LPS axes (z, y, x): whole numbers up to 255, of those that the set uses.

    Values within 1/1000 of a whole number are rounded with a note, and so are those of a file that was saved through a
    scale, within half a ``step`` of it.
    """
    low, high = stored.min(), stored.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < -0.5 or high >= 255.5:
        raise DataError(f"{path}: unexpected labels from {low:g} to {high:g}; use the published label file")
    rounded, notes = stored, ()
    if stored.dtype.kind == "f":
        rounded = np.rint(stored)
        if (off := float(np.abs(rounded - stored).max())) > max(_WHOLE, min(0.501 * step, 0.25)):
            found = ", ".join(f"{value:g}" for value in np.unique(stored[rounded != stored])[:5])
            fix = f"saved through a scale of {step:g}, write the file as uint8" if step else "do not interpolate labels"
            raise DataError(f"{path}: unexpected labels that are not whole numbers ({found}); {fix}")
        if off > 0:
            notes = (Note(f"labels up to {off:.2g} off a whole number were rounded"),)
    data = rounded.astype(np.uint8, order="C")
    values = _values(data)
    unexpected = sorted(set(values) - set(expected)) if expected is not None else []
    if unexpected and expected is not None:
        raise DataError(
            f"{path}: unexpected labels {shortened(', '.join(map(str, unexpected)), 60)}; this set uses "
            f"{', '.join(map(str, sorted(expected)))}; check that this is the published label file"
        )
    return Labels(data, values, notes)


def _values(labels: np.ndarray) -> tuple[int, ...]:
    seen = np.zeros(256, dtype=bool)
    for piece in labels:
        top = int(piece.max())
        if top < 32:
            # Comparing is many times faster than counting for the few labels of a real set.
            seen[: top + 1] |= [bool((piece == value).any()) for value in range(top + 1)]
        else:
            seen |= np.bincount(piece.ravel(), minlength=256) > 0
    return tuple(int(value) for value in np.flatnonzero(seen))
