"""Lesions as a layer over normal tissue (Zhang et al. 2021; docs/methods/layer-decomposition.md).

x = (1 − αM)·normal + αM·lesion, with the mask and the texture of the released ``dataload.py``.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from ...common.boxes import Box
from ...datasets.case import Spacing
from . import volume_kernels as kernels
from .simplex import SimplexNoise
from .volume_fields import free_basis, half_taps, random_rotations, random_voxels

Range = tuple[float, float]
POLAR = 48  # rows of the table of radii, from pole to pole; twice as many columns
LEAST_RADIUS = 0.2  # of the unperturbed sphere


@dataclass(frozen=True, kw_only=True)
class LayerRecipe:
    """The numbers of the generator; a pair is a uniform range.

    Attributes:
        volume: of the mask before it is cut at the organ, mm³.
        flattening: ρ of the ellipsoid, whose radii are those of a ball times ρ, 1 and 1/ρ.
        octaves: least and largest number of octaves of the simplex noise on the unit sphere.
        persistence: amplitude of an octave relative to the one before.
        cell: lattice of the first octave, in radii of the sphere.
        roughness: standard deviation of the radius as a share of itself.
        alpha: opacity of the lesion.
        factors: ranges of the lesion's brightness relative to the organ; one draw over their union.
        zero: grey value that the factor leaves where it is.
        control_points, locked: of the texture's deformation along each axis of its organ's box, and how many of them
            stay where they are on both sides.
        displacement: largest shift of the others along each axis, mm.
        blur: standard deviation of the texture's filter along each axis, mm.
    """

    volume: Range = (7_000.0, 200_000.0)
    flattening: Range = (0.8, 1.0)
    octaves: tuple[int, int] = (4, 7)
    persistence: float = 0.5
    cell: float = 1.0
    roughness: Range = (0.123, 0.13)
    alpha: Range = (0.2, 0.8)
    factors: tuple[Range, ...] = ((0.4, 0.9), (1.1, 1.4))
    zero: float = 0.0
    control_points: int = 7
    locked: int = 2
    displacement: float = 7.5
    blur: Range = (0.0, 2.0)

    def __post_init__(self) -> None:
        if not self.factors or any(low >= high for low, high in self.factors):
            raise ValueError(f"factors {self.factors}: give at least one range (low, high)")

    def draw_factor(self, rng: np.random.Generator) -> float:
        widths = np.array([high - low for low, high in self.factors])
        which = int(rng.choice(len(widths), p=widths / widths.sum()))
        return float(rng.uniform(*self.factors[which]))


@dataclass(frozen=True, eq=False)
class Organ:
    """A healthy organ: where a lesion lies, or where its texture comes from.

    Attributes:
        image: grey values of a view (Z, H, W).
        roi: bool, same shape.
        spacing: voxel size in mm, order z, y, x.
        box: bounding box of ``roi``.
        mean: grey value of the organ.
    """

    image: np.ndarray
    roi: np.ndarray
    spacing: Spacing
    box: Box
    mean: float


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion of a crop; its arrays have the shape of ``box``, a part of the crop.

    Attributes:
        mask: bool, inside the organ, not empty.
        layer: float32, the lesion's own layer; it counts inside the mask alone.
        alpha: opacity.
        factor: brightness relative to the organ.
    """

    box: tuple[slice, ...]
    mask: np.ndarray
    layer: np.ndarray
    alpha: float
    factor: float

    def mixture(self, normal: np.ndarray) -> np.ndarray:
        """Return what shows inside the mask over a crop without the lesion, float32 (voxels of the mask,)."""
        under = normal[self.box][self.mask]
        return under + np.float32(self.alpha) * (self.layer[self.mask] - under)


@dataclass(frozen=True, eq=False)
class LayerGenerator:
    """Covers a part of a healthy crop with a texture from another organ, or from another place in the same one."""

    recipe: LayerRecipe
    rng: np.random.Generator

    def __call__(self, roi: np.ndarray, origin: np.ndarray, organ: Organ, other: Organ) -> Lesion:
        """Return a lesion around a random voxel of a crop's ROI, bool (z, y, x), not empty.

        Args:
            origin: first voxel of the crop in ``organ``, int64 (3,).
            other: gives the texture, at the place that corresponds in the boxes of both; ``organ`` itself at any place.
        """
        r, rng = self.recipe, self.rng
        alpha, factor = float(rng.uniform(*r.alpha)), r.draw_factor(rng)
        centre = random_voxels(roi, rng.random(1))[0]
        box, inside = self._ellipsoid(centre, roi.shape, organ.spacing)
        inside &= roi[box]
        start = np.array([part.start for part in box])
        texture = self._texture(inside.shape, start - centre, centre + origin, organ, other)
        # The release multiplies the texture by one number; where grey values may be 0 or less that has no meaning, so
        # the factor scales contrast and mean on their own.
        texture -= np.float32(texture[inside].mean(dtype=np.float64))
        texture += np.float32(organ.mean - r.zero)
        texture *= np.float32(factor)
        texture += np.float32(r.zero)
        return Lesion(box, inside, np.clip(texture, 0, 1, out=texture), alpha, factor)

    def _ellipsoid(
        self, centre: np.ndarray, shape: tuple[int, ...], spacing: Spacing
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """Return a box of the crop and the voxels in it that lie in a perturbed, turned ellipsoid, bool."""
        rng, voxel = self.rng, np.asarray(spacing)
        radius = (3 * rng.uniform(*self.recipe.volume) / (4 * math.pi)) ** (1 / 3)
        flat = rng.uniform(*self.recipe.flattening)
        radii = radius * np.array([flat, 1, 1 / flat])
        table = perturbed_radii(self.recipe, rng)
        reach = np.ceil(table.max() * radii.max() / voxel).astype(np.int64)
        low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, shape)
        to_unit = random_rotations(1, rng)[0] / radii[:, None] * voxel
        inside = np.empty(tuple(high - low), np.bool_)
        kernels.rough_ball(np.hstack([table, table[:, :1]]), to_unit, low - centre, inside)
        return tuple(map(slice, low.tolist(), high.tolist())), inside

    def _texture(
        self, sides: tuple[int, ...], start: np.ndarray, centre: np.ndarray, organ: Organ, other: Organ
    ) -> np.ndarray:
        """Return a part of another organ, deformed and blurred, float32 of the shape ``sides``.

        ``start`` is the first voxel of that part relative to ``centre``, a voxel of ``organ``.
        """
        r, rng = self.recipe, self.rng
        low, high = np.array([[part.start, part.stop] for part in other.box]).T
        if other is organ:
            middle = low + random_voxels(other.roi[other.box], rng.random(1))[0]
        else:
            own = [(c - part.start) / (part.stop - part.start) for c, part in zip(centre, organ.box, strict=True)]
            middle = low + np.array(own) * (high - low)
        step = np.asarray(organ.spacing) / np.asarray(other.spacing)
        first = middle + start * step
        free = r.control_points - 2 * r.locked
        most = r.displacement / np.asarray(other.spacing)
        controls = rng.uniform(-1, 1, (3, free, free, free)) * most[:, None, None, None]
        bases = [
            free_basis((a + np.arange(n) * s - b) / max(e - b - 1, 1), r.control_points, r.locked)
            for a, n, s, b, e in zip(first, sides, step, low, high, strict=True)
        ]
        begin = np.clip(np.floor(first - most), 0, np.array(other.image.shape) - 1).astype(np.int64)
        end = np.maximum(np.ceil(first + (np.array(sides) - 1) * step + most).astype(np.int64) + 2, begin + 1)
        part = tuple(map(slice, begin, end))
        source = np.array(other.image[part], np.float32)
        source[~other.roi[part]] = other.mean
        texture = np.empty(sides, np.float32)
        kernels.warp(source, np.float32(other.mean), first - begin, step, controls, *bases, texture)
        kernels.smooth(texture, *(half_taps(rng.uniform(*r.blur) / s, np.float32) for s in organ.spacing))
        return texture


def perturbed_radii(recipe: LayerRecipe, rng: np.random.Generator) -> np.ndarray:
    """Return the radii of a rough ball with the volume of the unit ball, float64 (polar, azimuth).

    Rows are polar angles (i + ½)·π/n, columns azimuths j·π/n. Simplex noise is read on the unit sphere.
    """
    points, widths = _sphere()
    octaves = int(rng.integers(recipe.octaves[0], recipe.octaves[1] + 1))
    noise = SimplexNoise(octaves=octaves, persistence=recipe.persistence, frequency=recipe.cell)
    bumps = noise.at(points, int(rng.integers(2**32))).reshape(POLAR, 2 * POLAR)
    radii = np.maximum(1 + rng.uniform(*recipe.roughness) * bumps, LEAST_RADIUS)
    return radii / ((radii**3).mean(axis=1) @ widths / widths.sum()) ** (1 / 3)


@cache
def _sphere() -> tuple[np.ndarray, np.ndarray]:
    """Return the points of the table on the unit sphere, float64 (n, 3), and the weight of each row in its surface."""
    polar = (np.arange(POLAR) + 0.5) * math.pi / POLAR
    around = np.arange(2 * POLAR) * math.pi / POLAR
    t, p = np.meshgrid(polar, around, indexing="ij")
    points = np.stack([np.cos(t), np.sin(t) * np.sin(p), np.sin(t) * np.cos(p)], axis=-1).reshape(-1, 3)
    return points, np.sin(polar)
