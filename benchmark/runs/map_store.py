"""Anomaly maps on disk: the values inside the support only, bit-exact, compressed.

A file is: 8 bytes magic, the header's length (uint32, little-endian), the header (JSON), then two zlib streams: the
support as packed bits, and its float32 values in C order with their bytes regrouped (all first bytes, all second bytes,
…), which compresses better. Python's ``zlib`` reads it without any of this package.
"""

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.atomic import write_file
from ...common.errors import UasbenchError
from ...datasets.views.volume_geometry import AnyGeometry, geometry_from_json

_MAGIC = {"map": b"UASMAP1\n", "mask": b"UASMSK1\n"}
_LEVEL = 1


class MapError(UasbenchError):
    """A map cannot be stored, or a stored one cannot be read."""


@dataclass(frozen=True, eq=False)
class StoredMap:
    """A map as it was made: the support on its grid (bool), and the values inside in C order (float32).

    ``geometry`` is the grid's place on the native grid; None where it is the native grid.
    """

    support: np.ndarray
    values: np.ndarray
    geometry: AnyGeometry | None

    def view_map(self) -> np.ndarray:
        """Return the map on the grid it was made on (float32), 0 outside the support."""
        out = np.zeros(self.support.shape, np.float32)
        out[self.support] = self.values
        return out

    def native(self) -> np.ndarray:
        """Return the map on the native grid: float32, shape (z, y, x); only values inside the ROI mean anything."""
        return self.view_map() if self.geometry is None else self.geometry.to_native(self.view_map())


def write_map(path: Path, map_: np.ndarray, geometry: AnyGeometry | None, support: np.ndarray) -> int:
    """Store a float32 map atomically, its folder made, and return the bytes written.

    It lies on the view's grid where ``geometry`` is given, else on the native grid (z, y, x). ``support`` (bool, same
    shape) says where values are kept: ``ViewedCase.support``, or the native region of interest.

    Raises:
        MapError: another shape or dtype, or NaN or infinite values inside the support.
        DataError: the disk is full or the folder cannot be written.
    """
    if map_.dtype != np.float32:
        raise MapError(f"the anomaly map is {map_.dtype}, expected float32; return map.astype(np.float32)")
    if map_.shape != support.shape or (geometry is not None and map_.shape != geometry.view_shape):
        expected = support.shape if geometry is None else geometry.view_shape
        raise MapError(f"the anomaly map has shape {map_.shape}, expected {expected}")
    values = map_[support]
    if bad := np.count_nonzero(~np.isfinite(values)):
        raise MapError(f"the anomaly map has {bad} NaN or infinite values of {len(values)} in the region of interest")
    header = {"dtype": "float32", "geometry": None if geometry is None else geometry.to_json()}
    regrouped = np.ascontiguousarray(values.astype("<f4", copy=False).view(np.uint8).reshape(-1, 4).T)
    return _write(path, "map", header, support, regrouped)


def healthy_map(maps: Path, case: str, model: int = 0, models: int = 1) -> Path:
    """Return where the map of a held-out healthy case lies; each model of a cross-fitted top line has made one."""
    return maps / "healthy" / (f"{case}.map" if models == 1 else f"{case}@{model}.map")


def restored_map(maps: Path, case: str, number: int) -> Path:
    """Return where lies what a method makes of a case on the way to its map; ``number`` counts its pictures from 0."""
    return maps / "restored" / str(number) / f"{case}.map"


def read_map(path: Path) -> StoredMap:
    """Read what :func:`write_map` wrote.

    Raises:
        MapError: the file is missing, damaged or something else.
    """
    header, support, data = _read(path, "map")
    values = np.frombuffer(data, np.uint8).reshape(4, -1).T.copy().view("<f4").reshape(-1)
    geometry = None if header["geometry"] is None else geometry_from_json(header["geometry"])
    return StoredMap(support, values.astype(np.float32, copy=False), geometry)


def write_mask(path: Path, mask: np.ndarray) -> int:
    """Store a bool array of any shape atomically and return the bytes written.

    Raises:
        MapError: the array is not bool.
        DataError: the disk is full or the folder cannot be written.
    """
    if mask.dtype != bool:
        raise MapError(f"the mask is {mask.dtype}, expected bool")
    return _write(path, "mask", {}, mask, np.empty(0, np.uint8))


def read_mask(path: Path) -> np.ndarray:
    """Read what :func:`write_mask` wrote.

    Raises:
        MapError: the file is missing, damaged or something else.
    """
    return _read(path, "mask")[1]


def _write(path: Path, kind: str, header: dict[str, Any], support: np.ndarray, values: np.ndarray) -> int:
    from isal import isal_zlib

    bits = np.packbits(support)
    streams = [isal_zlib.compress(a.reshape(-1).data, _LEVEL) if a.size else b"" for a in (bits, values)]
    count, sizes = int(np.count_nonzero(support)), [len(s) for s in streams]
    header |= {"shape": list(support.shape), "count": count, "bytes": sizes}
    header["digest"] = _digest(header, bits, values)
    text = json.dumps(header, sort_keys=True).encode()
    chunks = [_MAGIC[kind], struct.pack("<I", len(text)), text, *streams]
    write_file(path, *chunks)
    return sum(len(c) for c in chunks)


def _read(path: Path, kind: str) -> tuple[dict[str, Any], np.ndarray, bytes]:
    from isal import isal_zlib

    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise MapError(f"{path} cannot be read ({error.strerror}); run the same command again to make it") from error
    if bytes(content[:8]) != _MAGIC[kind]:
        raise MapError(f"{path} is not a stored {kind}: it starts with {bytes(content[:8])!r}; delete it and run again")
    try:
        (length,) = struct.unpack_from("<I", content, 8)
        header = json.loads(bytes(content[12 : 12 + length]))
        shape, sizes = tuple(header["shape"]), header["bytes"]
        start = 12 + length
        if len(content) != start + sum(sizes):
            raise ValueError(f"{len(content)} bytes, expected {start + sum(sizes)}")
        streams = (content[start : start + sizes[0]], content[start + sizes[0] :])
        bits, values = (isal_zlib.decompress(stream) if len(stream) else b"" for stream in streams)
        if header.pop("digest") != _digest(header, bits, values):
            raise ValueError("its checksum differs")
        support = np.unpackbits(np.frombuffer(bits, np.uint8), count=math.prod(shape)).view(bool).reshape(shape)
        expected = 4 * header["count"] if kind == "map" else 0
        if np.count_nonzero(support) != header["count"] or len(values) != expected:
            raise ValueError("its number of values differs")
    except (ValueError, KeyError, TypeError, IndexError, struct.error, isal_zlib.error) as error:  # pyright: ignore[reportGeneralTypeIssues]
        raise MapError(f"{path} is damaged ({error}); delete it and run again") from error
    return header, support, values


def _digest(header: dict[str, Any], bits: Any, values: Any) -> str:
    digest = hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)
    digest.update(bits)
    digest.update(values)
    return digest.hexdigest()
