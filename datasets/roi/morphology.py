"""Dilation, erosion and closing of masks by balls given in millimetres, exact on anisotropic voxels."""

import numpy as np

from ...common.jit import kernel
from ..case import Spacing


def dilate(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return the voxels whose centre lies within ``radius`` mm of a voxel of ``mask`` (bool, z y x)."""
    out = np.empty(mask.shape, dtype=bool)
    _within(np.ascontiguousarray(mask, dtype=bool), float(radius), *map(float, spacing), out)
    return out


def erode(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return the voxels farther than ``radius`` mm from all voxels outside ``mask``; the array's edge takes none."""
    return ~dilate(~mask, radius, spacing)


def close(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return ``mask`` (bool, z y x) with gaps filled that a ball of ``radius`` mm does not fit into.

    Beyond the edge of the array the mask counts as absent while it grows and as present while it shrinks, so that a
    stack that ends inside the organ keeps its end slices.
    """
    return erode(dilate(mask, radius, spacing), radius, spacing)


@kernel
def _within(mask, radius, dz, dy, dx, out):
    """Squared distances axis by axis, looking no farther than the radius (numba)."""
    depth, height, width = mask.shape
    limit = np.float32(radius * radius * (1 + 1e-6))
    far = np.float32(4 * limit + 1)
    reach_y, reach_z = int(radius / dy + 1e-6), int(radius / dz + 1e-6)
    planar = np.empty((depth, height, width), np.float32)
    row = np.empty((height, width), np.float32)
    for z in range(depth):
        for y in range(height):
            last = -1
            for x in range(width):
                if mask[z, y, x]:
                    last = x
                row[y, x] = min(far, np.float32(((x - last) * dx) ** 2)) if last >= 0 else far
            last = -1
            for x in range(width - 1, -1, -1):
                if mask[z, y, x]:
                    last = x
                if last >= 0:
                    row[y, x] = min(row[y, x], np.float32(((last - x) * dx) ** 2))
        for y in range(height):
            planar[z, y] = row[y]
            for other in range(max(0, y - reach_y), min(height, y + reach_y + 1)):
                step = np.float32(((other - y) * dy) ** 2)
                for x in range(width):
                    planar[z, y, x] = min(planar[z, y, x], row[other, x] + step)
    nearest = np.empty((height, width), np.float32)
    for z in range(depth):
        nearest[:] = planar[z]
        for other in range(max(0, z - reach_z), min(depth, z + reach_z + 1)):
            step = np.float32(((other - z) * dz) ** 2)
            for y in range(height):
                for x in range(width):
                    nearest[y, x] = min(nearest[y, x], planar[other, y, x] + step)
        for y in range(height):
            for x in range(width):
                out[z, y, x] = nearest[y, x] <= limit
