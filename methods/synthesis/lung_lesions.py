"""Synthetic lung lesions: random blobs filled with filtered salt noise (Yao et al. 2021, §III-C), on one core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.sparse.csgraph import connected_components

from . import volume_kernels as kernels
from .volume_fields import Look, brightness_factor, filtered_salt, random_rotations, random_voxels, smooth_nodes

if TYPE_CHECKING:
    import torch

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class LesionRecipe:
    """The numbers of the generator (Yao et al. 2021, §III-C; docs/methods/normnet.md says which ones are ours).

    Radii, displacements and standard deviations are voxels of the crop; a pair is a uniform range.

    Attributes:
        small_count, medium_count: ellipsoids per unit of fullness λ, rounded after the draw.
        large_probability: chance of one large ellipsoid per unit of λ.
        small_radius, medium_radius, large_radius: range of each of the three radii of an ellipsoid.
        radius_scale: factor of radii, displacements and their smoothness; 0.5 on a grid of twice the spacing. The
            filters of the texture stay: a grain of salt is one voxel of any grid, and with narrower ones on a grid of
            2 mm the spread relative to the mean would be thrice that of a texture made at 0.8 mm and averaged.
        elastic_sigma: smoothness of the displacements.
        elastic_amplitude: least amplitude in voxels, and the largest as a share of the mean radius.
        shapes: ``plain`` puts ``plain_count`` undeformed balls of ``plain_radius`` into any crop (Table V).
        prob_map: draw the salt with a probability that varies in space; off, it is ``plain_probability`` (Table V).
        salt_noise: vary the filter and the brightness of the salt and draw one texture per merged blob; off, they are
            ``plain_sigma_b`` and ``plain_mu0`` and all blobs of a crop are cut from one texture (Table V).
        sigma_a: smoothness of the probability map.
        a_range, a_gap: range of the lowest and the highest probability, and their least difference.
        sigma_b_fine, sigma_b_coarse, sigma_b_fine_share: filter of the salt, and how often it is the fine one.
        mean_threshold: filtered salt above it counts for the mean that is set to μ0.
        mu0: brightness, in units of the window.
        guard_share: see :class:`Look`; a blob without any salt is left out.
        texture_extent: ``box`` draws a texture over the bounding box of the merged blob, ``crop`` over the whole crop;
            the lowest and highest probability and the mean refer to it.
    """

    small_count: Range = (5.0, 10.0)
    medium_count: Range = (5.0, 10.0)
    large_probability: float = 0.2
    small_radius: Range = (3.0, 10.0)
    medium_radius: Range = (10.0, 32.0)
    large_radius: Range = (32.0, 64.0)
    radius_scale: float = 1.0
    elastic_sigma: Range = (4.0, 8.0)
    elastic_amplitude: Range = (1.0, 0.3)
    shapes: Literal["full", "plain"] = "full"
    plain_count: int = 5
    plain_radius: float = 12.0
    prob_map: bool = True
    plain_probability: float = 0.2
    salt_noise: bool = True
    plain_sigma_b: float = 2.0
    plain_mu0: float = 150 / 255
    sigma_a: Range = (2.0, 20.0)
    a_range: Range = (0.0, 0.3)
    a_gap: float = 0.15
    sigma_b_fine: Range = (0.8, 2.0)
    sigma_b_coarse: Range = (2.0, 5.0)
    sigma_b_fine_share: float = 0.7
    mean_threshold: float = 0.2
    mu0: Range = (0.4, 0.8)
    guard_share: float = 0.01
    texture_extent: Literal["box", "crop"] = "box"

    def __post_init__(self) -> None:
        if self.a_range[1] - self.a_range[0] <= self.a_gap:
            raise ValueError(f"a_gap {self.a_gap}: must be smaller than the width of a_range {self.a_range}")
        if self.radius_scale <= 0:
            raise ValueError(f"radius_scale {self.radius_scale}: must be above 0")
        if not 0 < self.guard_share <= 1:
            raise ValueError(f"guard_share {self.guard_share}: must be above 0 and at most 1")
        for name, allowed in (("shapes", ("full", "plain")), ("texture_extent", ("box", "crop"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r}: expected one of {', '.join(allowed)}")

    def draw_look(self, rng: np.random.Generator) -> Look:
        lower, upper = self.a_range
        # Uniform on the triangle of all pairs with the gap: what redrawing until the gap is large enough ends at.
        first, second = np.sort(rng.random(2)) * (upper - lower - self.a_gap) + lower
        a_low, a_high = (first, second + self.a_gap) if self.prob_map else (self.plain_probability,) * 2
        fine = rng.random() < self.sigma_b_fine_share
        sigma_a = rng.uniform(*self.sigma_a)
        sigma_b = rng.uniform(*(self.sigma_b_fine if fine else self.sigma_b_coarse))
        mu0 = rng.uniform(*self.mu0)
        return Look(
            sigma_a=sigma_a,
            a_low=a_low,
            a_high=a_high,
            sigma_b=sigma_b if self.salt_noise else self.plain_sigma_b,
            mu0=mu0 if self.salt_noise else self.plain_mu0,
            mean_threshold=self.mean_threshold,
            guard_share=self.guard_share,
            probability=None if self.prob_map else self.plain_probability,
        )


def check(image: tuple[int, ...], roi: tuple[int, ...], fullness: np.ndarray | torch.Tensor) -> None:
    """Refuse shapes that do not fit together and a negative fullness."""
    if len(image) != 4 or image != roi or (image[0],) != tuple(fullness.shape):
        raise ValueError(
            f"images {image}, rois {roi}, fullness {tuple(fullness.shape)}: expected (n, z, y, x) twice and (n,)"
        )
    if len(fullness) and float(fullness.min()) < 0:
        raise ValueError(f"fullness {float(fullness.min())}: must not be negative")


def generate(
    recipe: LesionRecipe, images: np.ndarray, rois: np.ndarray, fullness: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch of crops with lesions, float32, and the voxels of their blobs, bool.

    The lesions only ever brighten: the result is the maximum of image and textures (their eq. 9). Ellipsoids are
    placed on random ROI voxels, cut at the ends of the crop, merged where they touch (26 neighbours), and limited to
    the ROI at the end. A crop without ROI comes back unchanged.

    Args:
        images: float32 (n, z, y, x) in [0, 1].
        rois: bool, same shape.
        fullness: λ of each crop, (n,): ROI voxels of this crop over those of the fullest crop.

    Raises:
        ValueError: shapes differ, or ``fullness`` is negative.
    """
    check(images.shape, rois.shape, fullness)
    augmented = np.array(images, np.float32, order="C")
    masks = np.zeros(augmented.shape, np.bool_)
    whole = recipe.texture_extent == "crop"
    crops = zip(augmented, masks, np.ascontiguousarray(rois, np.bool_), np.asarray(fullness, float), strict=True)
    for image, mask, roi, share in crops:
        ellipsoids = draw_ellipsoids(recipe, rng, share)
        picks = rng.random(len(ellipsoids))
        if not len(ellipsoids) or not roi.any():
            continue
        centres = random_voxels(roi, picks)
        blobs = paint_blobs(ellipsoids, centres, roi.shape, rng, merge_all=not recipe.salt_noise)
        for which, (start, stop) in enumerate(zip(blobs.start, blobs.stop, strict=True)):
            box = tuple(map(slice, start, stop))
            if roi[box].any():
                look = recipe.draw_look(rng)
                texture = filtered_salt(look, roi.shape if whole else tuple(stop - start), rng)
                beta = brightness_factor(look, texture)
                if beta is not None:
                    part = texture[box] if whole else texture
                    kernels.inject(part, beta, start, blobs.component, which, blobs.owner, roi, image, mask)
    return augmented, masks


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
    def to_unit(self) -> np.ndarray:
        """Matrices that take offsets from the centre to the unit ball, float64 (n, 3, 3)."""
        return self.axes.transpose(0, 2, 1) / self.radii[:, :, None]

    def boxes(self, centres: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return first voxels and ends (exclusive) of the boxes that hold the ellipsoids in a crop, int64 (n, 3)."""
        farthest = np.sqrt(((self.axes * self.radii[:, None, :]) ** 2).sum(axis=2)) + self.amplitude[:, None]
        reach = np.ceil(farthest).astype(np.int64)
        return np.maximum(centres - reach, 0), np.minimum(centres + reach + 1, shape)


def draw_ellipsoids(recipe: LesionRecipe, rng: np.random.Generator, fullness: float) -> Ellipsoids:
    """Draw number, radii, axes and deformation of the ellipsoids of a crop with the given ``fullness`` λ."""
    if recipe.shapes == "plain":
        count = recipe.plain_count
        radii = np.full((count, 3), recipe.plain_radius * recipe.radius_scale)
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
    """Deform the ellipsoids, place them in a crop of the given ``shape`` and merge those that touch, or all.

    The displacements are Gaussian-filtered noise on the ellipsoid's box, scaled so that the largest is the amplitude;
    what reaches beyond the crop is cut off. An ellipsoid that its deformation tears stays one blob.
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
            box = tuple(stops[i] - starts[i])
            field = smooth_nodes(box, ellipsoids.sigma[i], rng, 3, per_sigma=2.0, dtype=np.float32)
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
