"""Shapes of the lung lesions: deformed, turned ellipsoids, merged where they touch (Yao et al. 2021, §III-C.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components

from . import lung_lesions_kernels as kernels

if TYPE_CHECKING:
    from .lung_lesions import LesionRecipe

TRUNCATE = 4.0
FEWEST_NODES = 16


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


def random_rotations(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return rotations that favour no direction, float64 (count, 3, 3)."""
    quaternions = rng.standard_normal((count, 4))
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows).reshape(3, 3, count), 2, 0)


def random_voxels(roi: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Return the ROI voxels at the shares ``picks`` (0 … 1) of its volume, int64 (n, 3); the ROI must not be empty."""
    ends = np.cumsum([np.count_nonzero(plane) for plane in roi])
    wanted = (picks * ends[-1]).astype(np.int64)
    z = np.searchsorted(ends, wanted, side="right")
    before = np.concatenate([[0], ends])[z]
    inside = [np.flatnonzero(roi[plane])[k] for plane, k in zip(z, wanted - before, strict=True)]
    return np.stack([z, *np.divmod(np.array(inside, np.int64), roi.shape[2])], axis=1)


def smooth_nodes(
    shape: tuple[int, ...],
    sigma: float,
    rng: np.random.Generator,
    count: int = 1,
    *,
    per_sigma: float = 3.0,
    dtype: type[np.floating] = np.float64,
) -> np.ndarray:
    """Return ``count`` Gaussian-filtered uniform fields (±0.5 before the filter) for a box, (count, …) in ``dtype``.

    A field this smooth is drawn on nodes at most ``sigma / per_sigma`` apart, spread evenly over the box, and read
    between them. A short axis keeps one node per voxel.
    """
    nodes = [min(n, max(FEWEST_NODES, math.ceil((n - 1) * per_sigma / sigma) + 1)) for n in shape]
    fields = rng.random((count, *nodes), dtype=dtype)
    fields -= dtype(0.5)
    spacing = [(n - 1) / (m - 1) if m < n else 1.0 for m, n in zip(nodes, shape, strict=True)]
    taps = [half_taps(sigma / step, dtype) for step in spacing]
    for field in fields:
        kernels.smooth(field, *taps)
    return fields


def half_taps(sigma: float, dtype: type = np.float64) -> np.ndarray:
    """Middle and one side of a Gaussian filter cut at four standard deviations, as SciPy's; sum over both sides 1."""
    distance = np.arange(int(TRUNCATE * sigma + 0.5) + 1)
    taps = np.exp(-0.5 * (distance / sigma) ** 2)
    return (taps / (2 * taps.sum() - taps[0])).astype(dtype)


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
