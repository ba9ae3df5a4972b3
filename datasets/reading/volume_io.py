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

from ...common.errors import DataError
from ..case import Note, Spacing, Trust, warning
from .orientation import Grid

HU_RANGE = (-1024, 3071)
_OBLIQUE_DEGREES = 0.5
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
        return Trust() if self.grid.trusted else Trust(spacing_trusted=False, orientation_source="stored")


@dataclass(frozen=True, eq=False)
class Labels:
    """A label volume on the axes of its image: uint8, shape (z, y, x); ``values`` are the labels that occur."""

    data: np.ndarray
    values: tuple[int, ...]
    notes: tuple[Note, ...] = ()


def read_grid(path: Path) -> Grid:
    """Read shape, affine and trust of a NIfTI file from its header alone."""
    with _open(path) as (stream, _):
        return _grid(path, _header(path, stream)[0])


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
    if not all(0.05 <= size <= 30 for size in grid.spacing) and grid.trusted:
        size = " x ".join(f"{s:g}" for s in grid.spacing)
        found.append(warning(f"spacing {size} mm (z, y, x) is implausible for CT"))
    return Volume(_to_hu(grid.to_lps(stored), slope, inter), grid, tuple(found))


def read_labels(path: Path, like: Volume | Grid, expected: Collection[int] | None = None) -> Labels:
    """Read a label volume onto the axes of its image.

    The voxel array is paired with the image's array index by index: the image's affine is used for both and a label
    file whose own affine differs is noted, never resampled (LiTS card, docs/datasets.md).

    Raises:
        DataError: unreadable file, shape differs from the image's, labels that are not whole numbers or not expected.
    """
    path = Path(path)
    reference = like.grid if isinstance(like, Volume) else like
    grid, stored, slope, inter, notes = _read(path)
    if grid.shape != reference.shape:
        raise DataError(
            f"{path}: shape {grid.shape} differs from the image's {reference.shape}; "
            "pair the label with its own image, or export both again"
        )
    if (slope, inter) != (1.0, 0.0):
        stored = _scaled(stored, slope, inter)
    labels = to_labels(path, reference.to_lps(stored), expected)
    if reference.trusted and not np.allclose(grid.affine, reference.affine, atol=1e-2):
        moved = f" ({grid.codes} instead of {reference.codes})" if grid.codes != reference.codes else ""
        text = f"affine of {path.name} differs from the image's{moved}; the image's affine is used for both"
        notes.append(Note(text))
    return replace(labels, notes=tuple(notes))


def read_map_volume(path: Path) -> np.ndarray:
    """Read an anomaly map of another program: float32, (z, y, x) on LPS axes by its own affine, values as they are.

    Values that are not finite are kept, because only those inside the region of interest count.
    """
    grid, stored, slope, inter, _ = _read(Path(path))
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
        raise DataError(f"{path}: {len(shape)}D data of shape {shape}, expected one 3D volume; {fix}")
    return shape[0], shape[1], shape[2]


def _header(path: Path, stream: BufferedIOBase) -> tuple[Any, int]:
    import nibabel as nib
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    block = stream.read(348)
    if len(block) < 348:
        raise DataError(f"{path}: only {len(block)} bytes, a NIfTI header has 348; copy or download it again")
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
        header.check_fix(logger=logging.getLogger(__name__), error_level=40)
        dtype = header.get_data_dtype()
    except (HeaderDataError, WrapStructError, ValueError, KeyError) as error:
        raise DataError(f"{path}: broken NIfTI header ({error}); convert the scan again") from error
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: voxels of type {dtype}, expected numbers; export the scan as int16 or float32")
    return header, len(block)


def _grid(path: Path, header: Any) -> Grid:
    notes: list[Note] = []
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) > 3 and set(shape[3:]) == {1}:
        notes.append(Note(f"shape {shape}: the last axes of size 1 are dropped"))
        shape = shape[:3]
    size = volume_shape(path, shape)
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (ValueError, ArithmeticError):
        affine = np.full((4, 4), np.nan)
    linear = affine[:3, :3]
    sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    coded = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    usable = bool(np.isfinite(affine).all()) and abs(np.linalg.det(linear)) > 1e-9
    unit = usable and bool(np.allclose(np.abs(linear), np.eye(3)) and np.allclose(affine[:3, 3], 0))
    if coded and usable and not unit:
        grid = Grid(size, affine)
        if grid.obliquity > _OBLIQUE_DEGREES:
            notes.append(Note(f"axes are oblique by {grid.obliquity:.1f} degrees; the nearest patient axes are used"))
        return Grid(size, affine, True, tuple(notes))
    if not (coded and usable):
        affine = np.diag([*np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1.0), 1.0])
    reason = "identity affine" if unit and coded else "no usable sform or qform"
    notes.append(warning(f"lost header ({reason}): spacing and orientation are not trusted"))
    return Grid(size, affine, False, tuple(notes))


def _read(path: Path) -> tuple[Grid, np.ndarray, float, float, list[Note]]:
    """Return grid, stored voxels (i, j, k), their scaling, and notes about the file's bytes."""
    with _open(path) as (stream, notes):
        header, used = _header(path, stream)
        grid = _grid(path, header)
        offset = max(int(header.get_data_offset()), used)
        if len(stream.read(offset - used)) < offset - used:
            raise DataError(f"{path}: ends before its voxels begin (byte {offset}); copy or download it again")
        try:
            stored = np.empty(grid.shape, dtype=header.get_data_dtype(), order="F")
        except (MemoryError, ValueError) as error:
            raise DataError(f"{path}: header asks for shape {grid.shape}, more than memory holds") from error
        got = stream.readinto(stored.reshape(-1, order="F").view(np.uint8).data)
        if got < stored.nbytes:
            raise DataError(f"{path}: {got} of {stored.nbytes} voxel bytes (truncated file); copy or download it again")
        while stream.read(1 << 20):
            pass
    slope, inter = header.get_slope_inter()
    return grid, stored, 1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter), notes


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
    np.multiply(view, np.float32(slope), out=data, casting="unsafe", dtype=np.float32)
    data += np.float32(inter)
    return data


def to_labels(path: Path, stored: np.ndarray, expected: Collection[int] | None) -> Labels:
    """Check labels that lie on LPS axes (z, y, x): whole numbers up to 255, of those that the set uses."""
    low, high = stored.min(), stored.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 255:
        raise DataError(f"{path}: unexpected labels from {low:g} to {high:g}; use the published label file")
    data = stored.astype(np.uint8, order="C")
    if stored.dtype.kind == "f" and not np.array_equal(data, stored):
        raise DataError(f"{path}: unexpected labels that are not whole numbers; labels must not be interpolated")
    values = _values(data)
    unexpected = sorted(set(values) - set(expected)) if expected is not None else []
    if unexpected and expected is not None:
        raise DataError(
            f"{path}: unexpected labels {', '.join(map(str, unexpected))}; this set uses "
            f"{', '.join(map(str, sorted(expected)))}; check that this is the published label file"
        )
    return Labels(data, values)


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
