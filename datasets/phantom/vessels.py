"""Branching trees of vessels and airways: grown towards random end points, with radii by Murray's law."""

from dataclasses import dataclass

import numpy as np

from ...common.jit import kernel
from .shapes import Space, occupancy

STEP_MM = 9.0
MARGIN_MM = 2.0  # by how much the deformation may bend a piece away from the straight line


@dataclass(frozen=True, eq=False)
class Tree:
    """Straight pieces of a vessel tree: end points, shape (n, 3) as x, y, z in anatomical mm, and radii in mm."""

    start: np.ndarray
    stop: np.ndarray
    radius: np.ndarray


def grow(
    rng: np.random.Generator,
    trunk: list[tuple[float, float, float]],
    limbs: list[tuple[float, float, float]],
    ends: np.ndarray,
    *,
    root_radius: float,
    leaf_radius: float,
    exponent: float,
) -> Tree:
    """Connect every end point to the nearest piece of the tree, nearest end points first.

    The radius of a piece is ``root_radius · (share of the end points behind it)^(1/exponent)``, at least
    ``leaf_radius``. ``limbs`` are first branches, all leaving the end of the ``trunk``; points are x, y, z in mm.
    """
    points = [np.asarray(p, float) for p in trunk]
    parents = [-1, *range(len(trunk) - 1)]
    hilum = len(points) - 1
    supplied: list[int] = []
    order = np.argsort(((ends - points[hilum]) ** 2).sum(1), kind="stable")
    for target in [*(np.asarray(limb, float) for limb in limbs), *ends[order]]:
        cloud = np.asarray(points[hilum:])
        parent = hilum + int(((cloud - target) ** 2).sum(1).argmin())
        origin = points[parent]
        length = float(np.linalg.norm(target - origin))
        pieces = max(1, int(np.ceil(length / STEP_MM)))
        sideways = rng.standard_normal(3) * 0.10 * length
        for piece in range(1, pieces + 1):
            t = piece / pieces
            points.append(origin + t * (target - origin) + np.sin(np.pi * t) * sideways)
            parents.append(parent)
            parent = len(points) - 1
        supplied.append(parent)
    leaves = np.zeros(len(points))
    leaves[supplied] = 1
    for node in range(len(points) - 1, 0, -1):
        leaves[parents[node]] += leaves[node]
    stop = np.asarray(points[1:])
    start = np.asarray([points[parent] for parent in parents[1:]])
    radius = np.maximum(root_radius * (leaves[1:] / leaves[0]) ** (1 / exponent), leaf_radius)
    return Tree(start, stop, radius)


def occupy(space: Space, tree: Tree, *, sheath: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of vessel in every sample, and the share of vessel and a sheath of so many mm around it.

    A vessel thinner than a pixel fills the part of it that its cross-section covers.
    """
    share, around = np.zeros(space.shape, np.float32), np.zeros(space.shape, np.float32)
    low, high = space.locate(tree.start), space.locate(tree.stop)
    middles, reaches = (low + high) / 2, np.abs(high - low) / 2 + tree.radius[:, None] + sheath + space.pixel
    for start, stop, radius, middle, reach in zip(tree.start, tree.stop, tree.radius, middles, reaches, strict=True):
        box = space.box(tuple(middle), tuple(reach), margin=MARGIN_MM)
        if any(part.start >= part.stop for part in box):
            continue
        along = (stop - start).astype(np.float32)
        offsets = [axis - np.float32(origin) for axis, origin in zip(space.at(box), start, strict=True)]
        t = sum(offset * part for offset, part in zip(offsets, along, strict=True)) / np.float32(along @ along + 1e-6)
        t = np.clip(t, 0, 1)
        distance = np.sqrt(sum((offset - t * part) ** 2 for offset, part in zip(offsets, along, strict=True)))
        filled = min(1.0, np.pi * radius**2 / space.pixel**2)
        piece = occupancy(distance - np.float32(radius), space.pixel) * np.float32(filled)
        np.maximum(share[box], piece, out=share[box])
        if sheath:
            np.maximum(around[box], occupancy(distance - np.float32(radius + sheath), space.pixel), out=around[box])
    return share, around


def filled_share(space: Space, tree: Tree) -> np.ndarray:
    """Return the share of the tree in every sample, float32: :func:`occupy`, compiled for thousands of pieces.

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
