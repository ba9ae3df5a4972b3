"""CT series of DICOM slices written as NIfTI files, which read as the slices do."""

import os
from collections.abc import Iterator
from pathlib import Path

from ...common.atomic import write_file
from ...common.errors import DataError
from .dicom_io import NoSliceError, about, dicom_files, find_series, read_series
from .placing import Place

ENDING = ".nii.gz"


def convert(folder: Path, out: Path, series: str | None = None) -> str:
    """Write the CT series of a folder, or the one of that SeriesInstanceUID, and return what was decided, as lines.

    Voxels are HU in [-1024, 3071], int16 where they are whole numbers, else float32; the affine is that of the slices.

    Raises:
        DataError: ``out`` is there already or is no .nii.gz; as :func:`.dicom_io.find_series` and
            :func:`.dicom_io.read_series`.
    """
    if not out.name.lower().endswith(ENDING):
        raise DataError(f"{out}: one series becomes one file; give a name that ends in {ENDING}")
    if out.exists():
        raise DataError(f"{out} exists; delete it, or give another name")
    found = find_series(folder, series)
    volume, first = read_series(found), found.slices[0]
    write_file(out, Place(volume.grid, volume.grid).nifti(volume.data))
    slope, intercept = first.rescale
    order = {True: "head to feet", False: "feet to head", None: "no order"}[found.numbered_from_head]
    lines = [
        f"{out}: series {first.series or 'without a name'} ({about(found.slices)})",
        f"slices from feet to head by position, {' x '.join(f'{s:g}' for s in volume.spacing)} mm (z, y, x); instance "
        f"numbers: {order}",
        f"slope {slope:g}, intercept {intercept:g}: {volume.data.min():g} to {volume.data.max():g} HU as "
        f"{volume.data.dtype}",
        *map(str, volume.notes),
    ]
    return "\n  ".join(lines)


def convert_all(folder: Path, out: Path) -> Iterator[tuple[bool, str]]:
    """Convert every folder of CT slices at or below ``folder``; give whether each could be, and what was decided.

    ``FOLDER/a/b`` becomes ``OUT/a/b.nii.gz``. Folders of other modalities are passed over with a line.

    Raises:
        DataError: no DICOM files there.
    """
    homes = [Path(here) for here, _, _ in sorted(os.walk(folder)) if dicom_files(Path(here))]
    if not homes:
        raise DataError(f"{folder}: no DICOM files at or below it; give the folder of the slices or of the studies")
    for home in homes:
        place = home.relative_to(folder) if home != folder else Path(folder.resolve().name)
        try:
            yield True, convert(home, out / place.parent / f"{place.name}{ENDING}")
        except NoSliceError as error:
            yield True, f"left out: {error}".partition(";")[0]
        except DataError as error:
            yield False, f"ERROR {error}"
