"""Sortable keys: a float32 as an integer in [0, 2^32) with the same order."""

from __future__ import annotations

import numpy as np

KEY_BITS = 32
TOP_BITS = 16
# The top 16 bits of every finite key lie strictly between these; the ends also shut out values beyond ±3.38e38, so
# that a threshold below the smallest score is finite.
FIRST_TOP, LAST_TOP = 0x0081, 0xFF7E
LOWEST = np.float32(-3.3e38)
NEGATIVE_ZERO = 2**31 - 1


def keys_of(values: np.ndarray) -> np.ndarray:
    """Return int64 keys: equal values have equal keys (also −0.0 and 0.0), larger values larger ones."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32).astype(np.int64)
    keys = np.where(bits >= 0, bits + 2**31, -1 - bits)
    return np.where(keys == NEGATIVE_ZERO, NEGATIVE_ZERO + 1, keys)


def values_of(keys: np.ndarray) -> np.ndarray:
    """Return the float32 value of each key; no score has the key of −0.0."""
    keys = np.asarray(keys, np.int64)
    return np.where(keys >= 2**31, keys - 2**31, -1 - keys).astype(np.int32).view(np.float32)
