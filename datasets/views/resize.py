"""In-plane resampling as separable weighted sums: area, bilinear and anti-aliased bicubic.

Pixel centres lie at half-integers (``align_corners=False``). An axis of a resize is described by :class:`Taps`: which
input pixels an output pixel sums and with which weights, so that one kernel serves every filter.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from ...common.jit import kernel

Filter = Literal["area", "bilinear", "cubic"]


@dataclass(frozen=True, eq=False)
class Taps:
    """The weighted sums along one axis.

    Attributes:
        start: int32, shape (out,), first input pixel of each output pixel.
        count: int32, shape (out,), how many input pixels it sums; 0 where all of them are padding.
        weight: float32, shape (out, max(count)).
    """

    start: np.ndarray
    count: np.ndarray
    weight: np.ndarray


@lru_cache(maxsize=128)
def resize_taps(side: int, size: int, offset: int, length: int, filter_: Filter) -> Taps:
    """Return the sums that resize a padded axis of ``side`` pixels, ``length`` of data after ``offset``, to ``size``.

    Padding is 0 and contributes nothing. ``area`` is the mean of the touched pixels (torch
    ``interpolate(mode="area")``), ``bilinear`` the two nearest pixels, ``cubic`` the Keys filter (a = −0.5) widened
    when it shrinks, as in Pillow.
    """
    rows = [_ROWS[filter_](side, size, i) for i in range(size)]
    start = np.zeros(size, np.int32)
    count = np.zeros(size, np.int32)
    weight = np.zeros((size, max(len(weights) for _, weights in rows)), np.float32)
    for i, (first, weights) in enumerate(rows):
        inside = [
            (first + k - offset, w) for k, w in enumerate(weights) if w != 0 and offset <= first + k < offset + length
        ]
        if not inside:
            continue
        start[i], last = inside[0][0], inside[-1][0]
        count[i] = last - start[i] + 1
        for position, w in inside:
            weight[i, position - start[i]] = w
    return Taps(start, count, weight)


def _area(side: int, size: int, i: int) -> tuple[int, np.ndarray]:
    first, stop = i * side // size, -(-(i + 1) * side // size)
    return first, np.full(stop - first, 1 / (stop - first))


def _bilinear(side: int, size: int, i: int) -> tuple[int, np.ndarray]:
    position = min(max((i + 0.5) * side / size - 0.5, 0.0), side - 1.0)
    first = int(position)
    return first, np.array([1 - (position - first), position - first])


def _cubic(side: int, size: int, i: int) -> tuple[int, np.ndarray]:
    scale = side / size
    stretch = max(scale, 1.0)
    centre = (i + 0.5) * scale
    first, stop = max(int(centre - 2 * stretch + 0.5), 0), min(int(centre + 2 * stretch + 0.5), side)
    distance = np.abs((np.arange(first, stop) + 0.5 - centre) / stretch)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return first, weights / weights.sum()


_ROWS = {"area": _area, "bilinear": _bilinear, "cubic": _cubic}


@lru_cache(maxsize=128)
def nearest_index(side: int, size: int) -> np.ndarray:
    """Return for each of ``size`` pixels the pixel of an axis of ``side`` that contains its centre (int64)."""
    return (2 * np.arange(size) + 1) * side // (2 * size)


@kernel
def resample(source, row_start, row_count, row_weight, col_start, col_count, col_weight, y0, y1, x0, x1, out):
    """Resize one slice whose values outside rows y0 … y1 and columns x0 … x1 are 0 (numba)."""
    line = np.zeros(source.shape[1], np.float32)
    for v in range(out.shape[0]):
        first = max(row_start[v], y0)
        stop = min(row_start[v] + row_count[v], y1)
        if first >= stop:
            out[v, :] = 0
            continue
        line[x0:x1] = 0
        for y in range(first, stop):
            w = row_weight[v, y - row_start[v]]
            for x in range(x0, x1):
                line[x] += w * np.float32(source[y, x])
        for u in range(out.shape[1]):
            begin = col_start[u]
            total = np.float32(0)
            for x in range(max(begin, x0), min(begin + col_count[u], x1)):
                total += col_weight[u, x - begin] * line[x]
            out[v, u] = total


@kernel
def interpolate_back(source, row, row_next, row_fraction, col, col_next, col_fraction, out):
    """Read a slice bilinearly at given rows and columns; constants stay exact, weight 0 reads nothing (numba)."""
    line = np.empty(source.shape[1], np.float32)
    for y in range(out.shape[0]):
        a, b, fy = row[y], row_next[y], row_fraction[y]
        if fy == 0:
            line[:] = source[a]
        else:
            for u in range(source.shape[1]):
                line[u] = source[a, u] + fy * (source[b, u] - source[a, u])
        for x in range(out.shape[1]):
            fx = col_fraction[x]
            value = line[col[x]]
            if fx != 0:
                value += fx * (line[col_next[x]] - value)
            out[y, x] = value


@kernel
def touched_pixels(roi, row, row_next, row_fraction, col, col_next, col_fraction, out):
    """Mark the pixels that :func:`interpolate_back` reads for the voxels of a mask (numba)."""
    for y in range(roi.shape[0]):
        for x in range(roi.shape[1]):
            if roi[y, x]:
                out[row[y], col[x]] = True
                if row_fraction[y] != 0:
                    out[row_next[y], col[x]] = True
                if col_fraction[x] != 0:
                    out[row[y], col_next[x]] = True
                    if row_fraction[y] != 0:
                        out[row_next[y], col_next[x]] = True


@lru_cache(maxsize=128)
def back_positions(size: int, side: int, offset: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where ``length`` pixels of a padded axis of ``side`` lie on an axis of ``size``.

    Lower and upper neighbour (int32), and the distance from the lower one (float32 in [0, 1)).
    """
    position = (np.arange(offset, offset + length) + 0.5) * size / side - 0.5
    position = np.clip(position, 0, size - 1)
    lower = np.floor(position).astype(np.int32)
    return lower, np.minimum(lower + 1, size - 1).astype(np.int32), (position - lower).astype(np.float32)
