"""Shapes of the lung lesions: deformed, turned ellipsoids, merged where they touch (Yao et al. 2021, §III-C.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from . import volume_kernels as kernels
from .lesion_recipe import LesionRecipe
from .random_places import random_rotations
from .smooth_fields import smooth_nodes


@dataclass(frozen=True, eq=False)
class Ellipsoids:
    """The ellipsoids of one crop, before they are placed.

    Attributes:
        radii: float64 (n, 3), voxels.
        axes: float64 (n, 3, 3), the directions (z, y, x) of the three radii in columns.
        sigma: float64 (n,), smoothness of the displacements in voxels.
        amplitude: float64 (n,), largest displacement along an axis in voxels; 0 where nothing is deformed.
    """

    radii: np.ndarray
    axes: np.ndarray
    sigma: np.ndarray
    amplitude: np.ndarray

    def __len__(self) -> int:
        return len(self.radii)

    def __getitem__(self, which: np.ndarray) -> Ellipsoids:
        return Ellipsoids(self.radii[which], self.axes[which], self.sigma[which], self.amplitude[which])

    @classmethod
    def joined(cls, parts: list[Ellipsoids]) -> Ellipsoids:
        """Put the ellipsoids of several crops into one list."""
        names = ("radii", "axes", "sigma", "amplitude")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @property
    def reach(self) -> np.ndarray:
        """Farthest voxel from the centre along z, y and x, float64 (n, 3)."""
        return np.sqrt(((self.axes * self.radii[:, None, :]) ** 2).sum(axis=2)) + self.amplitude[:, None]

    @property
    def to_unit(self) -> np.ndarray:
        """Matrices that take offsets from the centre to the unit ball, float64 (n, 3, 3)."""
        return self.axes.transpose(0, 2, 1) / self.radii[:, :, None]

    def boxes(self, centres: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return first voxels and ends (exclusive) of the boxes that hold the ellipsoids in a crop, int64 (n, 3)."""
        reach = np.ceil(self.reach).astype(np.int64)
        return np.maximum(centres - reach, 0), np.minimum(centres + reach + 1, shape)


def draw_ellipsoids(recipe: LesionRecipe, rng: np.random.Generator, fullness: float) -> Ellipsoids:
    """Draw number, radii, axes and deformation of the ellipsoids of a crop with the given ``fullness`` λ."""
    if recipe.shapes == "plain":
        radii = np.full((recipe.plain_count, 3), recipe.plain_radius * recipe.radius_scale)
        count = len(radii)
        return Ellipsoids(radii, np.tile(np.eye(3), (count, 1, 1)), np.ones(count), np.zeros(count))
    counts = [
        round(rng.uniform(*recipe.small_count) * fullness),
        round(rng.uniform(*recipe.medium_count) * fullness),
        int(rng.random() < recipe.large_probability * fullness),
    ]
    ranges = (recipe.small_radius, recipe.medium_radius, recipe.large_radius)
    radii = np.concatenate([rng.uniform(*r, (n, 3)) for r, n in zip(ranges, counts, strict=True)])
    least, share = recipe.elastic_amplitude
    amplitude = rng.uniform(least, np.maximum(share * radii.mean(axis=1), least))
    sigma = rng.uniform(*recipe.elastic_sigma, len(radii))
    scale = recipe.radius_scale
    return Ellipsoids(radii * scale, random_rotations(len(radii), rng), sigma * scale, amplitude * scale)


@dataclass(frozen=True, eq=False)
class Blobs:
    """Merged blobs of one crop.

    Attributes:
        owner: uint16 (z, y, x), label of one of the ellipsoids that cover the voxel, 0 where none does.
        component: int64, merged blob of each label; −1 for label 0.
        start, stop: int64 (m, 3), the box of each merged blob, ends exclusive.
    """

    owner: np.ndarray
    component: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def paint_blobs(
    ellipsoids: Ellipsoids, centres: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator, *, merge_all: bool
) -> Blobs:
    """Deform, place and merge the ellipsoids in a crop of the given ``shape``.

    The displacements are Gaussian-filtered noise on the ellipsoid's box, scaled so that the largest is the amplitude;
    what reaches beyond the crop is cut off. An ellipsoid that its deformation tears stays one blob.

    Args:
        centres: int64 (n, 3).
        merge_all: make one blob of all of them, touching or not.
    """
    count = len(ellipsoids)
    owner = np.zeros(shape, np.uint16)
    touching = np.zeros((count, count + 1), np.bool_)
    lows, highs = np.zeros((count, 3), np.int64), np.zeros((count, 3), np.int64)
    starts, stops = ellipsoids.boxes(centres, shape)
    to_unit = ellipsoids.to_unit
    for i in range(count):
        field, slack = np.zeros((3, 1, 1, 1)), 0.0
        if ellipsoids.amplitude[i] > 0:
            field = smooth_nodes(
                tuple(stops[i] - starts[i]), ellipsoids.sigma[i], rng, 3, per_sigma=2.0, dtype=np.float32
            )
            field = np.tensordot(to_unit[i] * (ellipsoids.amplitude[i] / np.abs(field).max()), field, 1)
            slack = math.sqrt((field**2).sum(axis=0).max())
        found = kernels.paint(field, slack, starts[i], stops[i], centres[i], to_unit[i], i + 1, owner, touching[i])
        lows[i], highs[i] = found[0:6:2], found[1:6:2]
    component, start, stop = merge(touching[:, 1:] | merge_all, lows, highs + 1)
    return Blobs(owner, component, start, stop)


def merge(touching: np.ndarray, lows: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join the blobs that touch and their boxes.

    Args:
        touching: bool (n, n), which blobs overlap or touch; one direction is enough.
        lows, stops: int64 (n, 3), boxes of the blobs, ends exclusive; an empty box is a blob without a voxel.

    Returns:
        ``component``, ``start`` and ``stop`` of :class:`Blobs`.
    """
    groups = np.full(len(touching), -1, np.int64)
    alive = np.flatnonzero((stops > lows).all(axis=1))
    if len(alive):
        groups[alive] = connected_components(touching[np.ix_(alive, alive)], directed=False)[1]
    found = range(groups.max(initial=-1) + 1)
    start = np.array([lows[groups == g].min(axis=0) for g in found], np.int64).reshape(-1, 3)
    stop = np.array([stops[groups == g].max(axis=0) for g in found], np.int64).reshape(-1, 3)
    return np.concatenate([[-1], groups]), start, stop
