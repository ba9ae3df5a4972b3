"""Compiled kernel of the simplex noise."""

from __future__ import annotations

import numpy as np

from ...common.jit import kernel


@kernel
def add_octave(seed, offset, scale, amplitude, points, out):
    """Add ``amplitude`` times the simplex noise at ``scale · points + offset`` to ``out``.

    Args:
        seed: whole number below 2^32 that decides the gradients.
        offset: float64 (3,).
        points: float64 (n, 3).
        out: float64 (n,).
    """
    mask = np.uint64(0xFFFFFFFF)
    cell = np.empty(3, np.int64)
    inside = np.empty(3, np.float64)
    first, second = np.empty(3, np.int64), np.empty(3, np.int64)
    moved = np.empty(3, np.float64)
    for p in range(points.shape[0]):
        x, y, z = (
            scale * points[p, 0] + offset[0],
            scale * points[p, 1] + offset[1],
            scale * points[p, 2] + offset[2],
        )
        skew = (x + y + z) / 3
        cell[0], cell[1], cell[2] = (
            np.int64(np.floor(x + skew)),
            np.int64(np.floor(y + skew)),
            np.int64(np.floor(z + skew)),
        )
        unskew = (cell[0] + cell[1] + cell[2]) / 6
        inside[0], inside[1], inside[2] = x - cell[0] + unskew, y - cell[1] + unskew, z - cell[2] + unskew
        largest, smallest = 0, 0
        for axis in range(1, 3):
            if inside[axis] > inside[largest]:
                largest = axis
            if inside[axis] <= inside[smallest]:
                smallest = axis
        for axis in range(3):
            first[axis] = axis == largest
            second[axis] = axis != smallest
        total = 0.0
        for corner in range(4):
            falloff = 0.5
            h = np.uint64(seed)
            for axis in range(3):
                step = 0
                if corner == 1:
                    step = first[axis]
                elif corner == 2:
                    step = second[axis]
                elif corner == 3:
                    step = 1
                moved[axis] = inside[axis] - step + corner / 6
                falloff -= moved[axis] * moved[axis]
                h = ((h ^ (np.uint64(cell[axis] + step) & mask)) * np.uint64(0x9E3779B1)) & mask
                h ^= h >> np.uint64(15)
            if falloff <= 0:
                continue
            h = (h * np.uint64(0x85EBCA6B)) & mask
            h ^= h >> np.uint64(13)
            h = (h * np.uint64(0xC2B2AE35)) & mask
            h ^= h >> np.uint64(16)
            edge = np.int64(h % np.uint64(12))
            zero = edge // 4
            a, b = moved[(zero + 1) % 3], moved[(zero + 2) % 3]
            slope = (a if edge & 1 else -a) + (b if edge & 2 else -b)
            falloff *= falloff
            total += falloff * falloff * slope
        out[p] += amplitude * total
