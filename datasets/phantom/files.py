"""NIfTI and MetaImage files as the sets publish them, with the same bytes for the same arrays."""

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np

COMPRESSION = 4
Spacing = tuple[float, float, float]
_TYPES = {"int16": "MET_SHORT", "uint8": "MET_UCHAR"}


def world(index: np.ndarray, shape: tuple[int, ...], spacing: Spacing) -> np.ndarray:
    """Return LPS world coordinates x, y, z in mm of an index z, y, x into an array that was written here.

    The index may lie between voxels. How the axes are stored moves no point of the patient.
    """
    return ((np.asarray(index, float) - (np.asarray(shape) - 1) / 2) * np.asarray(spacing))[::-1]


def stored_along(array: np.ndarray, orientation: str) -> tuple[np.ndarray, list[int]]:
    """Return an LPS array (z, y, x) as stored along axis codes such as ``RAS``, and the sign of each of x, y, z in LPS.

    Raises:
        ValueError: ``orientation`` exchanges axes.
    """
    signs = []
    for code, lps, opposite in zip(orientation, "LPS", "RAI", strict=True):
        if code not in (lps, opposite):
            raise ValueError(f"orientation {orientation!r}: expected one of L or R, then P or A, then S or I")
        signs.append(1 if code == lps else -1)
    return np.flip(array, tuple(2 - axis for axis, sign in enumerate(signs) if sign < 0)), signs


def write_metaimage(path: Path, array: np.ndarray, spacing: Spacing, *, orientation: str) -> None:
    """Write an LPS array (z, y, x), int16 or uint8, as ``.mhd`` and ``.raw``; its centre lies at the scanner's origin.

    Spacing is in mm, z, y, x. ``orientation`` is the direction of the stored axes, such as ``RPS``: x runs towards the
    right, so that its entry of the direction matrix is −1.
    """
    stored, signs = stored_along(array, orientation)
    sizes, steps = array.shape[::-1], spacing[::-1]
    first = [-sign * step * (size - 1) / 2 for sign, step, size in zip(signs, steps, sizes, strict=True)]
    matrix = np.diag(signs).ravel().tolist()
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": False,
        "TransformMatrix": _row(matrix),
        "Offset": _row(first),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _row(steps),
        "DimSize": _row(sizes),
        "ElementType": _TYPES[array.dtype.name],
        "ElementDataFile": path.with_suffix(".raw").name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".raw").write_bytes(np.asarray(stored, array.dtype.newbyteorder("<")).tobytes())
    path.write_text("".join(f"{key} = {value}\n" for key, value in header.items()), encoding="ascii")


def _row(values: object) -> str:
    return " ".join(f"{value:.10g}" for value in np.atleast_1d(np.asarray(values)))


def write_nifti(
    path: Path, array: np.ndarray, spacing: Spacing, *, orientation: str, slope: float = 1.0, intercept: float = 0.0
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
