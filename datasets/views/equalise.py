"""Histogram equalisation inside the region of interest (Zhang et al. 2023; docs/methods/two-stage.md)."""

from __future__ import annotations

import numpy as np

from ...common.jit import kernel


def equalise(levels: np.ndarray, roi: np.ndarray) -> np.ndarray:
    """Equalise the grey levels of one slice inside its region of interest; levels outside stay as they are.

    Level 0 does not count. The cumulative histogram becomes a look-up table floor(255 · CDF) whose values 0 < v < 150
    are then moved to floor(120 · v / 150 + 30), so that non-zero results lie in 30 … 255.

    Args:
        levels: uint8, shape (y, x).
        roi: bool, same shape.

    Returns:
        uint8, same shape.
    """
    out = np.array(levels, np.uint8)
    equalise_in_place(out, np.ascontiguousarray(roi))
    return out


@kernel
def equalise_in_place(levels, roi):
    """Do the work of :func:`equalise` on a slice in place (numba)."""
    histogram = np.zeros(256, np.int64)
    for y in range(levels.shape[0]):
        for x in range(levels.shape[1]):
            if roi[y, x]:
                histogram[levels[y, x]] += 1
    histogram[0] = 0
    total = histogram.sum()
    if total == 0:
        return
    table = np.zeros(256, np.uint8)
    below = 0
    for level in range(1, 256):
        below += histogram[level]
        value = 255 * below // total
        if 0 < value < 150:
            value = value * 4 // 5 + 30
        table[level] = value
    for y in range(levels.shape[0]):
        for x in range(levels.shape[1]):
            if roi[y, x]:
                levels[y, x] = table[levels[y, x]]
