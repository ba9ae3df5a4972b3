"""How much of every sample a tree of vessels or airways fills; compiled, since a lung has thousands of pieces."""

from __future__ import annotations

import numpy as np

from ...common.jit import kernel
from .shapes import Space
from .vessels import Tree

MARGIN_MM = 2.0  # by how much the deformation may bend a piece away from the straight line


def filled_share(space: Space, tree: Tree) -> np.ndarray:
    """Return the share of the tree in every sample, float32; the same picture as :func:`.vessels.occupy`.

    A piece thinner than a pixel fills the part of it that its cross-section covers.
    """
    share = np.zeros(space.shape, np.float32)
    low, high = space.locate(tree.start), space.locate(tree.stop)
    reach = np.abs(high - low) / 2 + tree.radius[:, None] + space.pixel + MARGIN_MM
    middle = (low + high) / 2
    first = [np.searchsorted(axis, (middle - reach)[:, 2 - k]) for k, axis in enumerate(space.axes)]
    last = [np.searchsorted(axis, (middle + reach)[:, 2 - k]) for k, axis in enumerate(space.axes)]
    z, y, x = (np.ascontiguousarray(coordinate, dtype=np.float32) for coordinate in space.warped)
    ends = (tree.start.astype(np.float32), tree.stop.astype(np.float32), tree.radius.astype(np.float32))
    _fill(share, z, y, x, *ends, np.stack(first, 1), np.stack(last, 1), np.float32(space.pixel))
    return share


@kernel
def _fill(share, z, y, x, start, stop, radius, first, last, pixel):
    """Keep the largest share of any piece in every sample of the pieces' boxes (numba)."""
    for piece in range(len(radius)):
        ax, ay, az = start[piece]
        bx, by, bz = stop[piece] - start[piece]
        length = bx * bx + by * by + bz * bz + np.float32(1e-6)
        most = min(np.float32(1), np.float32(np.pi) * radius[piece] ** 2 / pixel**2)
        for i in range(first[piece, 0], last[piece, 0]):
            for j in range(first[piece, 1], last[piece, 1]):
                for k in range(first[piece, 2], last[piece, 2]):
                    dx, dy, dz = x[i, j, k] - ax, y[i, j, k] - ay, z[i, j, k] - az
                    t = min(max((dx * bx + dy * by + dz * bz) / length, np.float32(0)), np.float32(1))
                    dx, dy, dz = dx - t * bx, dy - t * by, dz - t * bz
                    inside = np.float32(0.5) - (np.sqrt(dx * dx + dy * dy + dz * dz) - radius[piece]) / pixel
                    value = min(max(inside, np.float32(0)), np.float32(1)) * most
                    share[i, j, k] = max(share[i, j, k], value)
