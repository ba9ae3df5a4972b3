"""The way back from canonical arrays to the file of a scan: what is written lies on it voxel by voxel."""

from collections.abc import Sequence
from dataclasses import dataclass
from gzip import GzipFile
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import DataError
from ..dataset import CaseRef
from .dicom_io import Series, order_series, read_series
from .geometry import Grid
from .mhd_io import read_mhd
from .volume_io import Volume, read_volume

_FLIPS = tuple(chain.from_iterable(combinations(range(3), n) for n in range(4)))


@dataclass(frozen=True, eq=False)
class Place:
    """How the voxels of a case lie in the file of its scan.

    Attributes:
        grid: of the file; its affine leads from stored indices to RAS millimetres.
        turned: the grid that turns stored voxels to LPS axes: that of the file, or its rival.
        flips: axes (z, y, x) that are turned round after that, because anatomy said so.
        header: that of a NIfTI file, whose forms are written as they are, so that every program reads both alike.
        series: the slices of a DICOM series.
    """

    grid: Grid
    turned: Grid
    flips: tuple[int, ...] = ()
    header: Any = None
    series: Series | None = None

    def stored(self, array: np.ndarray) -> np.ndarray:
        """Return an array (z, y, x) in the order of the file (i, j, k)."""
        return self.turned.from_lps(np.flip(array, self.flips))

    def affine(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the affine, float64 (4, 4), from indices (z, y, x) of an array of this shape to RAS millimetres."""
        own, apart = (self._indices(sides) for sides in (shape, tuple(max(2, side) for side in shape)))
        to_array = np.eye(4)
        for axis in range(3):
            start = apart[axis][0, 0, 0]
            to_array[axis, :3] = [apart[axis][step] - start for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
            to_array[axis, 3] = own[axis][0, 0, 0]
        return self.grid.affine @ np.linalg.inv(to_array)

    def _indices(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Return, in the order of the file, the index that a voxel has on each axis (z, y, x); views without memory."""
        sides = (np.arange(side).reshape([-1 if axis == k else 1 for k in range(3)]) for axis, side in enumerate(shape))
        return [self.stored(np.broadcast_to(side, shape)) for side in sides]

    def nifti(self, array: np.ndarray) -> bytes:
        """Return an array (z, y, x) as a compressed NIfTI file on the grid of the scan; bool becomes uint8."""
        import nibabel as nib
        from isal import igzip

        values = np.asfortranarray(self.stored(array.astype(np.uint8) if array.dtype == bool else array))
        if self.header is None:
            image = nib.Nifti1Image(values, self.grid.affine)
        else:
            header = nib.Nifti1Header.from_header(self.header, check=False)
            header.set_data_dtype(values.dtype)
            header["cal_min"] = header["cal_max"] = 0
            image = nib.Nifti1Image(values, None, header)
        return igzip.compress(image.to_bytes(), 1, mtime=0)


def place_of(ref: CaseRef, image: np.ndarray) -> Place:
    """Find how a prepared scan (HU, z, y, x) lies in its file, by its voxels.

    Raises:
        DataError: the file cannot be read, is no NIfTI, MetaImage or DICOM, or holds other voxels.
    """
    volume, header, series = _read(ref)
    for grid in (volume.grid, *([volume.grid.other()] if volume.grid.rival is not None else ())):
        turned = volume.on(grid).data
        for flips in _FLIPS:
            if np.array_equal(np.flip(turned, flips), image):
                return Place(volume.grid, grid, flips, header, series)
    raise DataError(
        f"{ref.image}: in no orientation does this file have the voxels of case {ref.id}, so that nothing can be laid "
        "on it; its set changes scans while it reads them"
    )


def _read(ref: CaseRef) -> tuple[Volume, Any, Series | None]:
    suffix = ref.image.suffix.lower()
    if suffix == ".dcm":
        series = order_series(_slices(ref))
        return read_series(series), None, series
    if suffix in (".mhd", ".mha"):
        return read_mhd(ref.image), None, None
    return read_volume(ref.image), _header(ref.image), None


def _slices(ref: CaseRef) -> Sequence[Path]:
    return [path for path in (ref.image, *ref.extra) if path.suffix.lower() == ".dcm"]


def _header(path: Path) -> Any:
    """Read the header of a file that :func:`read_volume` has found sound."""
    import nibabel as nib

    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = GzipFile(fileobj=file) if zipped else file
        block = stream.read(540)
    second = 540 in (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))
    return nib.Nifti2Header(block, check=False) if second else nib.Nifti1Header(block[:348], check=False)
