"""Boxes around masks."""

from collections.abc import Sequence

import numpy as np

Range = tuple[int, int]
Box = tuple[slice, slice, slice]


def bounds(mask: np.ndarray) -> tuple[Range, ...]:
    """Return the first and last (exclusive) index of a mask along each axis; (0, 0) everywhere where it is empty.

    >>> bounds(np.array([[0, 0, 0], [0, 1, 1]], bool))
    ((1, 2), (1, 3))
    """
    found: list[Range] = []
    rest: np.ndarray = mask
    for _ in range(mask.ndim):
        used = np.flatnonzero(np.any(rest, axis=tuple(range(1, rest.ndim))))
        if len(used) == 0:
            return ((0, 0),) * mask.ndim
        found.append((int(used[0]), int(used[-1]) + 1))
        rest = np.asarray(np.any(rest[used[0] : used[-1] + 1], axis=0))
    return tuple(found)


def bounding_box(mask: np.ndarray, margin: int | Sequence[int] = 0) -> Box:
    """Return the smallest box that holds a mask (z, y, x), empty where the mask is.

    ``margin``: voxels by which it is wider on both sides, of all axes or of each, as far as the grid goes.
    """
    margins = (margin,) * 3 if isinstance(margin, int) else margin
    z, y, x = (
        slice(max(0, start - wider), min(size, stop + wider)) if stop else slice(0, 0)
        for (start, stop), size, wider in zip(bounds(mask), mask.shape, margins, strict=True)
    )
    return z, y, x
