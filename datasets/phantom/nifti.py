"""NIfTI files with the same bytes for the same arrays."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np

from .metaimage import stored_along

COMPRESSION = 4


def write_nifti(
    path: Path,
    array: np.ndarray,
    spacing: tuple[float, float, float],
    *,
    orientation: str,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> None:
    """Write an LPS array (z, y, x), int16 or uint8, as NIfTI-1, stored along ``orientation``, such as ``RAS``.

    The affine keeps the centre of the volume at the scanner's origin, whichever way the axes run; spacing in mm, z, y,
    x.
    """
    stored, signs = stored_along(array, orientation)
    stored = stored.transpose(2, 1, 0)
    steps = np.array(spacing[::-1]) * signs * (-1, -1, 1)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.array(stored.shape) - 1) / 2
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(stored.shape)
    header.set_xyzt_units("mm")
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = slope, intercept
    data = header.binaryblock + b"\0\0\0\0" + np.asarray(stored, array.dtype.newbyteorder("<")).tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".gz"):
        # Not gzip.compress: its header depends on the version of Python.
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=buffer, mtime=0) as file:
            file.write(data)
        data = buffer.getvalue()
    path.write_bytes(data)
