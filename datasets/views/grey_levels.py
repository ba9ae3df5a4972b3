"""Grey levels: the window, 8 bits, histogram equalisation inside the region of interest."""

import numpy as np

from ...common.jit import kernel


@kernel
def unit_levels(source, low, high, out):
    """Map HU from ``low`` to ``high`` to [0, 1], clipped outside (numba)."""
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            value = (np.float32(source[y, x]) - low) / (high - low)
            out[y, x] = min(max(value, np.float32(0)), np.float32(1))


@kernel
def eight_bit_levels(source, low, high, stretched, out):
    """Map HU from ``low`` to ``high`` to 0 … 255: rounded, or ``stretched`` to 256 equal parts (numba)."""
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            value = np.float32(0)
            if high > low:
                value = (np.float32(source[y, x]) - low) / (high - low)
            value = min(max(value, np.float32(0)), np.float32(1))
            if stretched:
                out[y, x] = np.uint8(min(np.floor(np.float32(256) * value), np.float32(255)))
            else:
                out[y, x] = np.uint8(np.rint(np.float32(255) * value))


@kernel
def equalise_in_place(levels, roi):
    """Equalise the grey levels (uint8) of one slice inside its region of interest; others stay as they are (numba).

    As in Zhang et al. 2023 (docs/methods/two-stage.md). Level 0 does not count. The cumulative histogram becomes a
    look-up table floor(255 · CDF) whose values 0 < v < 150 are then moved to floor(120 · v / 150 + 30), so that
    non-zero results lie in 30 … 255.
    """
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
