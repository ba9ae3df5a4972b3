"""What lies in one folder of the store: arrays as ``.npy``, masks as packed bits, and a ``meta.json``."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...common.atomic import new_folder
from ...common.errors import DataError, brief
from ...common.fingerprint import array_digest
from ...common.jit import kernel
from ...common.sealed import DamagedError, check_files, discard_damaged, read_sealed, seal_folder
from ..case import Case, Truth

LAYOUT = 3
"""Number of the layout: what the files of an entry are called and hold. Another layout gets another number, and with it
other addresses, so that an entry written by an older version is never read as one of today's.

- ``native``: ``image.npy`` (int16 or float32), ``roi.npy`` (packed bits), ``meta.json``
- ``views``, a folder for each case: ``image.npy`` (the view's dtype), ``roi.npy`` (bool), ``support.npy`` (bits),
  ``meta.json`` (geometry)
- ``truth``: ``lesion.npy`` and ``slices.npy`` (packed bits), ``meta.json``

``meta.json`` is the seal of its folder: what is read is compared with it. Arrays are written read-only.
"""

SEAL = "meta.json"


def digest(value: Any) -> str:
    """Return 24 hexadecimal digits over the JSON form of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def write_native(path: Path, case: Case) -> None:
    """Write the image (int16 where that loses nothing, else float32) and the region of interest of a case."""
    roi_slices = np.flatnonzero(case.roi.any(axis=(1, 2)))
    if len(roi_slices) == 0:
        raise DataError(f"case {case.id}: the region of interest is empty; check its label file or exclude the case")
    image, hashes = _compact(case)
    bits = pack(case.roi)
    spacing = [float(s) for s in case.spacing]
    meta = {
        "id": case.id,
        "spacing": spacing,
        "shape": list(image.shape),
        "notes": [[note.text, note.level] for note in case.notes],
        "trust": asdict(case.trust),
        "roi_source": case.roi_source,
        "slice_hashes": ["" if constant else text for text, constant in hashes],
        "roi_slices": roi_slices.tolist(),
        "roi_voxels": int(np.count_nonzero(case.roi)),
        "fingerprint": digest([[text for text, _ in hashes], array_digest(bits), list(image.shape), spacing]),
    }
    with new_folder(path, image.nbytes + bits.nbytes) as folder:
        save(folder / "image.npy", image)
        save(folder / "roi.npy", bits)
        seal_folder(folder / SEAL, meta)


def read_native(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return image (float32, z, y, x) and region of interest (bool) of a native entry."""
    with readable(path, "image.npy", "roi.npy"):
        image = np.asarray(np.load(path / "image.npy", mmap_mode="c"))
        return image.astype(np.float32, copy=False), unpack(np.load(path / "roi.npy"), image.shape)


def read_roi(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the region of interest of a native entry alone (bool)."""
    with readable(path, "roi.npy"):
        return unpack(np.load(path / "roi.npy"), shape)


def write_truth(path: Path, truth: Truth, case_shape: tuple[int, ...]) -> None:
    """Write the truth of a case, which must fit its image."""
    lesion, labels = truth.lesion, truth.slice_labels
    for name, array, shape in (("lesion mask", lesion, case_shape), ("list of slice labels", labels, case_shape[:1])):
        if array is not None and array.shape != shape:
            raise DataError(f"case {truth.id}: the {name} has shape {array.shape}, the image needs {shape}")
    parts = {
        name: np.asarray(array, bool) for name, array in (("lesion", lesion), ("slices", labels)) if array is not None
    }
    meta = {
        "id": truth.id,
        "shapes": {name: list(array.shape) for name, array in parts.items()},
        "fingerprint": digest(
            {name: array_digest(pack(array), np.array(array.shape)) for name, array in parts.items()}
        ),
    }
    with new_folder(path, sum(array.size // 8 for array in parts.values())) as folder:
        for name, array in parts.items():
            save(folder / f"{name}.npy", pack(array))
        seal_folder(folder / SEAL, meta)


def read_truth(path: Path) -> Truth:
    """Read a truth entry."""
    with readable(path) as meta:
        parts = {name: unpack(np.load(path / f"{name}.npy"), tuple(shape)) for name, shape in meta["shapes"].items()}
        lesion, slices = parts.get("lesion"), parts.get("slices")
        if lesion is not None and slices is None:
            slices = np.asarray(lesion.any(axis=(1, 2)))
        return Truth(meta["id"], lesion, slices)


def save(path: Path, array: np.ndarray) -> None:
    """Write ``.npy``, read-only; ``np.save`` tells a full disk by an error without a number."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)
    path.chmod(0o444)


def read_meta(path: Path) -> dict[str, Any]:
    """Read ``meta.json`` of an entry.

    Raises:
        DamagedError: it is missing or not what was written.
    """
    return read_sealed(path / SEAL)


@contextmanager
def readable(path: Path, *names: str) -> Iterator[dict[str, Any]]:
    """Compare files of an entry, by default all, with its ``meta.json``, which is given, before they are read.

    Raises:
        DamagedError: one is missing or not what was written, or the block cannot read it.
    """
    meta = check_files(path / SEAL, *names)
    try:
        yield meta
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DamagedError(path, brief(error)) from error


def remove_damaged(paths: Iterable[Path]) -> list[DamagedError]:
    """Take away the entries of these that are damaged, so that they are made again; return what was wrong.

    Raises:
        DiskError: an entry cannot be taken away.
    """
    return discard_damaged(path / SEAL for path in paths)


def slice_hashes(case: Case) -> tuple[str, ...]:
    """Return one hash per axial slice; a constant slice has the empty hash."""
    return tuple("" if constant else text for text, constant in _compact(case)[1])


def _compact(case: Case) -> tuple[np.ndarray, list[tuple[str, bool]]]:
    """Return the image as it is stored, and for each slice its digest and whether it is constant.

    A slice is hashed as int16 where that loses nothing, so that two scans may share slices in different files.
    """
    whole = np.empty(case.image.shape, np.int16)
    lossless = True
    hashes = []
    for z in range(len(whole)):
        plane = np.ascontiguousarray(case.image[z], dtype=np.float32)
        low, high = plane.min(initial=np.inf), plane.max(initial=-np.inf)
        if not math.isfinite(low) or not math.isfinite(high):
            raise DataError(f"case {case.id}: slice {z} has NaN or infinite voxels; replace them by a HU value")
        exact = bool(to_int16(plane, whole[z]))
        lossless &= exact
        text = hashlib.sha256(f"{plane.shape}{exact}".encode())
        text.update(whole[z].data if exact else plane.data)
        hashes.append((text.hexdigest()[:24], bool(low == high)))
    return (whole if lossless else np.ascontiguousarray(case.image, dtype=np.float32)), hashes


@kernel
def to_int16(source, out):
    """Convert a slice and return whether every value survived (numba)."""
    exact = True
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            value = min(max(source[y, x], np.float32(-32768)), np.float32(32767))
            out[y, x] = np.int16(value)
            exact &= np.float32(out[y, x]) == source[y, x]
    return exact


def pack(mask: np.ndarray) -> np.ndarray:
    """Return a mask as bits, uint8."""
    return np.packbits(np.asarray(mask, bool))


def unpack(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask that :func:`pack` packed; bits that do not fit the shape are a ValueError."""
    if len(bits) != -(-math.prod(shape) // 8):
        raise ValueError(f"{len(bits)} bytes of mask do not fit shape {shape}")
    return np.unpackbits(bits, count=math.prod(shape)).view(bool).reshape(shape)
