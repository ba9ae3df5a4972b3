"""Arrays as scripts: a page opened from disk may load a script beside it, and nothing else."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...common.atomic import write_file

LEVEL = 6


def packed(array: np.ndarray) -> str:
    """Return bool as bits, uint8 as differences along the last axis, int16 likewise in two planes of bytes; as text.

    The bytes are zlib's, in base64. Differences compress better, and wrap around.
    """
    if array.dtype == bool:
        content = np.packbits(array).tobytes()
    elif array.dtype == np.uint8:
        content = _differences(array).tobytes()
    else:
        low_high = _differences(array.astype("<i2")).reshape(-1).view(np.uint8).reshape(-1, 2).T
        content = np.ascontiguousarray(low_high).tobytes()
    return base64.b64encode(zlib.compress(content, LEVEL)).decode("ascii")


def _differences(array: np.ndarray) -> np.ndarray:
    flat = array.reshape(-1)
    out = flat.copy()
    out[1:] -= flat[:-1]
    return out


def write_script(path: Path, name: str, content: dict[str, Any]) -> int:
    """Write what the page gets under a name and return the bytes."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    data = f'uasbench.put("{name}",{text});\n'.encode()
    write_file(path, data)
    return len(data)
