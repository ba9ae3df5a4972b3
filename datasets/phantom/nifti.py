"""NIfTI files with the same bytes for the same arrays."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np

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
    flips = {"L": "R", "P": "A", "S": "I"}
    stored = array.transpose(2, 1, 0)
    affine = np.eye(4)
    for axis, (code, lps) in enumerate(zip(orientation, "LPS", strict=True)):
        if code == flips[lps]:
            stored = np.flip(stored, axis)
        elif code != lps:
            raise ValueError(f"orientation {orientation!r}: expected one of L or R, then P or A, then S or I")
        step = spacing[2 - axis] * (1 if code in "RAS" else -1)
        affine[axis, axis] = step
        affine[axis, 3] = -step * (stored.shape[axis] - 1) / 2
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
    path.write_bytes(_compress(data) if path.name.endswith(".gz") else data)


def _compress(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=buffer, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()
