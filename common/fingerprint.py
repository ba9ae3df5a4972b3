"""Content addresses of files and arrays."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np

_BYTES = 10
_SETTLED_NS = 2_000_000_000


def file_digest(path: Path, cache_dir: Path | None = None) -> str:
    """Return the BLAKE2b digest (20 hex digits) of a file's bytes.

    With ``cache_dir`` a file whose path, size, modification and change times are unchanged is not read again. Each path
    has its own small entry, replaced atomically, so that several processes may share the cache; an entry that cannot
    be read or written only costs the reading. Files changed within the last two seconds are never cached, because a
    second change could carry the same time stamp.

    Raises:
        OSError: the file cannot be read.
    """
    path = Path(path).resolve()
    entry = None
    stamp = _stamp(path)
    if cache_dir is not None:
        name = hashlib.blake2b(str(path).encode(), digest_size=_BYTES).hexdigest()
        entry = Path(cache_dir) / name[:2] / f"{name}.json"
        known = _read_entry(entry)
        if known.get("path") == str(path) and known.get("stamp") == stamp:
            return str(known["digest"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_BYTES)).hexdigest()
    if entry is not None and _stamp(path) == stamp and time.time_ns() - max(stamp[1:]) > _SETTLED_NS:
        _write_entry(entry, {"path": str(path), "stamp": stamp, "digest": digest})
    return digest


def array_digest(*arrays: np.ndarray) -> str:
    """Return the BLAKE2b digest (20 hex digits) of dtypes, shapes and values.

    >>> array_digest(np.zeros(3, "<i2")) == array_digest(np.zeros(3, ">i2")) != array_digest(np.zeros((3, 1), "<i2"))
    True
    """
    digest = hashlib.blake2b(digest_size=_BYTES)
    for array in arrays:
        data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{data.dtype.str}{array.shape};".encode())
        digest.update(data.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _read_entry(entry: Path) -> dict[str, object]:
    try:
        known = json.loads(entry.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and isinstance(known.get("digest"), str) else {}


def _write_entry(entry: Path, value: dict[str, object]) -> None:
    temporary = entry.with_name(f".{entry.name}.{os.getpid()}.tmp")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(value))
        temporary.replace(entry)
    except OSError:
        # A read-only or full cache costs speed, never a result.
        return
