"""Reading MetaImage (.mhd beside .raw or .zraw, or .mha) through SimpleITK: HU on LPS axes, or a refusal with the fix.

SimpleITK passes over a damaged .zraw with a line on stderr and returns rubbish, so the data file is checked first.

The format has several names for voxel size, place and direction; where a header gives two that differ, that is a
warning with both, or a refusal where they name different axes. AnatomicalOrientation is not compared: ITK writes it
from the direction and never reads it, and others mean the axes of the coordinates by it (ITK issue 1017).
"""

import math
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...common.errors import DataError, brief, shortened
from ..case import Note, warning
from .geometry import OBLIQUE_DEGREES, SPACING_TOLERANCE, Grid, axis_codes
from .pairing import placement, same_place, settled
from .volume_io import Labels, Volume, to_labels, to_volume, volume_shape

_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_HEADER_BYTES = 1 << 16
_CHUNK = 1 << 22
_SIZE = ("ElementSpacing", "ElementSize")
_PLACE = ("Origin", "Offset", "Position")
_TURN = ("TransformMatrix", "Rotation", "Orientation")
"""Names for the same; SimpleITK reads the first that is there."""
_SWITCHES = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData")
_LONGEST_NAME = 255
_SAME = 0.01
"""Of a place in mm or a direction."""
_NUMBERS = {
    **dict.fromkeys(_SIZE, (3, 1e4)),
    **dict.fromkeys(_PLACE, (3, 1e7)),
    **dict.fromkeys(_TURN, (9, 1e3)),
}
"""How many numbers a field has, and the largest size of one, in mm where it is a length."""


@dataclass(frozen=True, eq=False)
class MetaHeader:
    """The text of a MetaImage header: values by key, as written.

    Attributes:
        data: file that holds the voxels; the header's own path where they follow it (``LOCAL``).
        start: byte at which the voxels begin, None where the header does not tell.
    """

    path: Path
    fields: dict[str, str]
    data: Path
    start: int | None = 0

    @property
    def voxel_bytes(self) -> int:
        """Bytes that the header promises, before compression."""
        voxels = math.prod(int(text) for text in self.fields["DimSize"].split())
        return voxels * _BYTES[self.fields["ElementType"].removeprefix("MET_").removeprefix("U")]

    @property
    def compressed(self) -> bool:
        return self.fields.get("CompressedData", "False").lower() in {"true", "1"}


def read_header(path: Path) -> MetaHeader:
    """Read the header of a MetaImage file, no voxels; the data file need not exist.

    Raises:
        DataError: not a MetaImage header, not three-dimensional, no spacing, more than one value per voxel.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            block = file.read(_HEADER_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the file and its rights") from error
    fields: dict[str, str] = {}
    end = 0
    for line in block.splitlines(keepends=True):
        key, equals, value = (part.strip() for part in line.decode("latin-1").partition("="))
        end += len(line)
        if not equals:
            break
        if fields.setdefault(key, value) != value:
            raise DataError(
                f"{path}: {shortened(key, 40)} stands there twice with two values; copy or download it again"
            )
        if key == "ElementDataFile":
            break
    missing = [key for key in ("DimSize", "ElementType", "ElementDataFile") if not fields.get(key)]
    if missing:
        raise DataError(f"{path}: not a MetaImage header (no {', '.join(missing)}); copy or download it again")
    _check_fields(path, fields)
    name = fields["ElementDataFile"]
    if name.upper() == "LOCAL":
        return MetaHeader(path, fields, path, end)
    offset = int(fields.get("HeaderSize", "0"))
    return MetaHeader(path, fields, path.parent / name, offset if offset >= 0 else None)


def read_mhd(path: Path) -> Volume:
    """Read a CT volume: clipped to [-1024, 3071] HU, turned to LPS (z, y, x) by its full direction matrix.

    Flips and transposes only. ``grid`` of the result keeps the stored order, so that :func:`canonical_index` and
    :func:`read_mhd_labels` follow it.

    Raises:
        DataError: header or data file missing, truncated, damaged or foreign; 2D or 4D data; oblique axes; NaN or
            infinite voxels; grey values instead of HU.
    """
    grid, stored = _read(path)
    return axial_volume(path, grid, stored, grid.notes)


def read_mhd_labels(path: Path, like: Volume, expected: Collection[int]) -> Labels:
    """Read a label volume onto the axes of its image: uint8, shape (z, y, x).

    Each file is turned to LPS by its own direction matrix. Where the two then do not cover the same place, image and
    labels are paired index by index and a note says so.

    Raises:
        DataError: unreadable file, shape differs from the image's, labels that are not expected.
    """
    grid, stored = _read(path)
    place = placement(grid, like.grid, Path(path).name)
    turn, notes = place.grid, list(place.notes)
    if not same_place(grid, like.grid):
        if grid.shape != like.grid.shape:
            raise DataError(
                f"{path}: shape {grid.shape} (x, y, z) differs from the image's {like.grid.shape}; "
                "pair the mask with its own image, or remove it to have the lungs segmented"
            )
        if place.contested:
            turn, _ = settled(path, place, stored, like.data)
        text = f"{Path(path).name} lies elsewhere than its image according to the headers; paired index by index"
        notes.append(warning(text))
    labels = to_labels(path, turn.to_lps(stored), expected)
    return replace(labels, notes=(*labels.notes, *notes))


def axial_volume(path: Path, grid: Grid, stored: np.ndarray, notes: Collection[Note] = ()) -> Volume:
    """Make a volume of ``stored`` (i, j, k) as :func:`.volume_io.to_volume` does, and refuse an oblique one."""
    if grid.obliquity > OBLIQUE_DEGREES:
        raise DataError(
            f"{path}: axes are oblique by {grid.obliquity:.1f} degrees (tilted gantry or rotated export); "
            "resample the scan to patient axes, or leave it out with --exclude"
        )
    return to_volume(path, grid, stored, notes)


def canonical_index(grid: Grid, world: tuple[float, float, float]) -> tuple[float, float, float]:
    """Map a point in LPS millimetres (x, y, z) to the continuous index (z, y, x) of the LPS array.

    Whole numbers are voxel centres; points outside the scan have indices outside its shape.
    """
    x, y, z = world
    stored = np.linalg.solve(grid.affine, (-x, -y, z, 1.0))
    index = [0.0, 0.0, 0.0]
    for axis, (target, sign) in enumerate(grid.turn):
        index[int(target)] = float(stored[axis] if sign > 0 else grid.shape[axis] - 1 - stored[axis])
    return index[2], index[1], index[0]


def _check_fields(path: Path, fields: dict[str, str]) -> None:
    try:
        shape = tuple(int(text) for text in fields["DimSize"].split())
        int(fields.get("HeaderSize", "0"))
    except ValueError as error:
        raise DataError(f"{path}: broken MetaImage header ({brief(error, 80)}); copy or download it again") from error
    # SimpleITK's C library ends the whole process on some of what follows, so that it never gets to see them.
    if fields.get("NDims", "3") != "3":
        raise DataError(f"{path}: NDims is {shortened(fields['NDims'], 40)}, expected 3; copy or download it again")
    volume_shape(path, shape)
    for name, (count, most) in _NUMBERS.items():
        if name in fields and not _are_numbers(fields[name], count, most):
            raise DataError(
                f"{path}: {name} is {shortened(fields[name], 80)!r}, expected {count} numbers of sound size; "
                "copy or download it again"
            )
    for name in _SWITCHES:
        if fields.get(name, "True").lower() not in ("true", "false", "1", "0"):
            raise DataError(
                f"{path}: {name} is {shortened(fields[name], 80)!r}, expected True or False; copy or download it again"
            )
    if not fields["ElementDataFile"].isprintable() or len(fields["ElementDataFile"]) > _LONGEST_NAME:
        raise DataError(
            f"{path}: ElementDataFile holds control characters or more than {_LONGEST_NAME}; copy or download it again"
        )
    kind = fields["ElementType"].removeprefix("MET_").removeprefix("U")
    if kind not in _BYTES or fields.get("ElementNumberOfChannels", "1") != "1":
        raise DataError(
            f"{path}: voxels of type {shortened(fields['ElementType'], 40)} with "
            f"{shortened(fields.get('ElementNumberOfChannels', '1'), 40)} values each, expected one number; export the "
            "scan as MET_SHORT"
        )
    if not fields.keys() & set(_SIZE):
        raise DataError(f"{path}: no ElementSpacing, so the voxel size is unknown; add the line or export it again")
    data = fields["ElementDataFile"]
    if not Path(os.path.normpath(path.parent / data)).is_relative_to(os.path.normpath(path.parent)):
        raise DataError(
            f"{path}: its voxels lie in {shortened(data, 80)}, outside the folder of the header; copy that file beside "
            f"the header and write ElementDataFile = {shortened(Path(data).name, 40)}"
        )
    name = data.split()[0].upper()
    if name == "LIST" or "%" in name:
        raise DataError(
            f"{path}: voxels spread over several files ({shortened(name, 80)}); export the scan with one data file"
        )


def _are_numbers(text: str, count: int, most: float) -> bool:
    try:
        numbers = [float(part) for part in text.split()]
    except ValueError:
        return False
    return len(numbers) == count and all(abs(number) <= most for number in numbers)


def _read(path: Path) -> tuple[Grid, np.ndarray]:
    """Return the grid and the stored voxels (i, j, k)."""
    import SimpleITK

    header = read_header(path)
    _check_data(header)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(header.path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        reason = shortened(str(error).strip().splitlines()[-1], 120)
        raise DataError(f"{path}: SimpleITK cannot read it ({reason}); copy or download it again") from error
    affine, direction = np.eye(4), np.asarray(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = direction * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    is_turn = np.allclose((direction**2).sum(axis=0), 1, atol=0.02)
    if not is_turn or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"{path}: direction, spacing or origin are unusable; export the scan again")
    i, j, k = image.GetSize()
    notes, sure = _compared(path, header.fields)
    grid = Grid((i, j, k), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, True, notes, sure)
    return grid, SimpleITK.GetArrayFromImage(image).T


def _compared(path: Path, fields: dict[str, str]) -> tuple[tuple[Note, ...], bool]:
    """Return warnings where names for the same say different things, and whether the voxel size can be trusted."""
    notes, sure = [], True
    play = (_SIZE, "lengths", SPACING_TOLERANCE, 0), (_PLACE, "places", 0, _SAME), (_TURN, "angles", 0, _SAME)
    for names, what, share, step in play:
        said = {name: np.array(fields[name].split(), dtype=float) for name in names if name in fields}
        used, *others = said or ("",)
        for other in others:
            if np.allclose(said[other], said[used], rtol=share, atol=step):
                continue
            both = f"{used} is {shortened(fields[used], 80)}, {other} is {shortened(fields[other], 80)}"
            if names is _TURN and len({axis_codes(said[name].reshape(3, 3).T) for name in (used, other)}) > 1:
                raise DataError(f"{path}: {both}: they name different axes; keep the line that is right")
            sure = sure and names is not _SIZE
            notes.append(warning(f"{both}: {used} is used, and {what} are not trusted; keep the line that is right"))
    return tuple(notes), sure


def _check_data(header: MetaHeader) -> None:
    """Check size and, where there is one, the checksum of the data file."""
    wanted = header.voxel_bytes
    try:
        size = header.data.stat().st_size
        if header.compressed:
            got = _inflated_size(header)
            what = "the compressed voxels end early"
        else:
            got = size - header.start if header.start is not None else size
            what = f"{got} of {wanted} voxel bytes"
    except FileNotFoundError as error:
        raise DataError(
            f"{header.path}: its voxels lie in {shortened(header.data.name, 80)}, which is not beside it; "
            "copy or unpack that file into the same folder"
        ) from error
    except OSError as error:
        raise DataError(
            f"{header.data}: cannot be read ({error.strerror or error}); check the file and its rights"
        ) from error
    if got < wanted:
        raise DataError(f"{header.data}: {what} (truncated file); copy or download it again")
    if header.compressed and got > wanted:
        raise DataError(
            f"{header.data}: {got} voxel bytes, but {header.path.name} asks for {wanted}; pair the two files again"
        )


def _inflated_size(header: MetaHeader) -> int:
    """Return the bytes the zlib stream holds; raise where its data are damaged."""
    from isal import isal_zlib

    stream = isal_zlib.decompressobj()
    count = 0
    try:
        with header.data.open("rb") as file:
            file.seek(header.start or 0)
            while not stream.eof and (piece := file.read(_CHUNK)):
                count += len(stream.decompress(piece))
    except isal_zlib.error as error:  # pyright: ignore[reportGeneralTypeIssues]
        raise DataError(f"{header.data}: damaged compressed voxels ({error}); copy or download it again") from error
    return count if stream.eof else min(count, header.voxel_bytes - 1)
