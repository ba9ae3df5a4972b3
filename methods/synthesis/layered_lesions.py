"""Lesions as a layer over normal tissue (Zhang et al. 2021; docs/methods/layer-decomposition.md).

x = (1 − αM)·normal + αM·lesion.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from ...datasets.case import Spacing
from . import volume_kernels as kernels
from .simplex import SimplexNoise
from .volume_fields import half_taps, interpolated, random_rotations, random_voxels, spline_basis

Range = tuple[float, float]
POLAR = 48  # rows of the table of radii, from pole to pole; twice as many columns
LEAST_RADIUS = 0.2  # of the unperturbed sphere
CANDIDATES = 8


@dataclass(frozen=True, kw_only=True)
class LayerRecipe:
    """The numbers of the generator; a pair is a uniform range.

    Attributes:
        volume: of the mask before it is cut at the organ, mm³; drawn as the radius of a ball.
        octaves: least and largest number of octaves of the simplex noise on the sphere.
        persistence: amplitude of an octave relative to the one before.
        cell: lattice of the first octave, in radii of the sphere.
        roughness: standard deviation of the radius as a share of itself.
        alpha: opacity of the lesion.
        factors: ranges of the lesion's brightness relative to the normal tissue under it; one draw over their union.
        zero: grey value that the factor leaves where it is.
        control_points, elastic: of the texture's deformation along each axis, and the standard deviation of their
            displacements as a share of their distance.
        blur: standard deviation of the texture's filter in voxels.
    """

    volume: Range = (7_000.0, 200_000.0)
    octaves: tuple[int, int] = (4, 7)
    persistence: float = 0.5
    cell: float = 1.0
    roughness: Range = (0.05, 0.2)
    alpha: Range = (0.2, 0.8)
    factors: tuple[Range, ...] = ((0.4, 0.9), (1.1, 1.4))
    zero: float = 0.0
    control_points: int = 7
    elastic: float = 0.25
    blur: Range = (0.5, 1.5)

    def __post_init__(self) -> None:
        if not self.factors or any(low >= high for low, high in self.factors):
            raise ValueError(f"factors {self.factors}: give at least one range (low, high)")

    def draw_factor(self, rng: np.random.Generator) -> float:
        widths = np.array([high - low for low, high in self.factors])
        which = int(rng.choice(len(widths), p=widths / widths.sum()))
        return float(rng.uniform(*self.factors[which]))


@dataclass(frozen=True, eq=False)
class Layers:
    """A crop with one lesion and what it is made of; all (z, y, x).

    Attributes:
        image: float32, the composition.
        normal: float32, the crop without the lesion.
        lesion: float32, the lesion's layer inside the mask, 0 elsewhere.
        mask: bool, inside the ROI.
        alpha: opacity.
        factor: brightness relative to the normal tissue.
    """

    image: np.ndarray
    normal: np.ndarray
    lesion: np.ndarray
    mask: np.ndarray
    alpha: float
    factor: float


@dataclass(frozen=True, eq=False)
class LayerGenerator:
    """Covers a part of a healthy crop with a texture from another part of it."""

    recipe: LayerRecipe
    rng: np.random.Generator

    def __call__(self, normal: np.ndarray, roi: np.ndarray, spacing: Spacing) -> Layers:
        """Return a crop, float32 (z, y, x) in [0, 1], with a lesion around a random ROI voxel; as it is without any."""
        r, rng = self.recipe, self.rng
        alpha, factor = float(rng.uniform(*r.alpha)), r.draw_factor(rng)
        mask = np.zeros(normal.shape, bool)
        lesion = np.zeros(normal.shape, np.float32)
        if roi.any():
            centre = random_voxels(roi, rng.random(1))[0]
            box, inside = self._ball(centre, normal.shape, spacing)
            inside &= roi[box]
            texture = self._texture(normal, roi, box, inside)
            tissue = normal[box][inside].mean(dtype=np.float64) - r.zero
            values = r.zero + factor * (texture - texture[inside].mean(dtype=np.float64) + tissue)
            mask[box] = inside
            lesion[box] = np.where(inside, np.clip(values, 0, 1), 0)
        share = np.float32(alpha) * mask
        return Layers((1 - share) * normal + share * lesion, normal, lesion, mask, alpha, factor)

    def _ball(
        self, centre: np.ndarray, shape: tuple[int, ...], spacing: Spacing
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """Return a box of the crop and the voxels in it that lie in a perturbed, turned ball, bool."""
        rng, (least, most) = self.rng, self.recipe.volume
        radius = rng.uniform(*((3 * v / (4 * math.pi)) ** (1 / 3) for v in (least, most)))
        table = perturbed_radii(self.recipe, rng) * radius
        reach = np.ceil(table.max() / np.asarray(spacing)).astype(int)
        low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, shape)
        axes = [(np.arange(a, b) - c) * s for a, b, c, s in zip(low, high, centre, spacing, strict=True)]
        turned = np.einsum("ab,bzyx->azyx", random_rotations(1, rng)[0], np.stack(np.meshgrid(*axes, indexing="ij")))
        distance = np.sqrt((turned**2).sum(axis=0))
        polar = np.arccos(np.clip(turned[0] / np.maximum(distance, 1e-9), -1, 1)) * (POLAR / math.pi) - 0.5
        around = np.arctan2(turned[1], turned[2]) % (2 * math.pi) * (POLAR / math.pi)
        closed = np.concatenate([table, table[:, :1]], axis=1)
        surface = map_coordinates(closed, [polar, around], order=1, mode="nearest")
        return tuple(map(slice, low, high)), distance <= surface

    def _texture(self, image: np.ndarray, roi: np.ndarray, box: tuple[slice, ...], inside: np.ndarray) -> np.ndarray:
        """Return another part of the image, deformed and blurred, in the shape of the box; float32."""
        r, rng = self.recipe, self.rng
        sides = inside.shape
        start = np.array([part.start for part in box])
        offset = self._elsewhere(roi, start, sides)
        controls = rng.normal(0, r.elastic, (3, *(r.control_points,) * 3))
        step = np.array([max(n - 1, 1) / (r.control_points - 1) for n in sides])
        bases = [spline_basis(np.linspace(0, 1, n), r.control_points) for n in sides]
        places = interpolated(controls * step[:, None, None, None], bases) + np.indices(sides)
        places += (start + offset)[:, None, None, None]
        filled = np.where(roi, image, image[roi].mean(dtype=np.float64)).astype(np.float32)
        texture = map_coordinates(filled, places, order=1, mode="mirror")
        kernels.smooth(texture, *(half_taps(rng.uniform(*r.blur), np.float32),) * 3)
        return texture

    def _elsewhere(self, roi: np.ndarray, start: np.ndarray, sides: tuple[int, ...]) -> np.ndarray:
        """Return the offset of another box: of a few random ones, that with most ROI and least overlap."""
        centre = start + np.array(sides) // 2
        best, most = np.zeros(3, np.int64), -1.0
        for candidate in random_voxels(roi, self.rng.random(CANDIDATES)):
            offset = candidate - centre
            low = np.maximum(start + offset, 0)
            part = roi[tuple(slice(a, a + n) for a, n in zip(low, sides, strict=True))]
            apart = 1 - np.prod(np.maximum(1 - np.abs(offset) / np.array(sides), 0))
            value = np.count_nonzero(part) * apart
            if value > most:
                best, most = offset, value
        return best


def perturbed_radii(recipe: LayerRecipe, rng: np.random.Generator) -> np.ndarray:
    """Return the radii of a rough ball with the volume of the unit ball, float64 (polar, azimuth).

    Rows are polar angles (i + ½)·π/n, columns azimuths j·π/n. Simplex noise is read on the unit sphere.
    """
    polar = (np.arange(POLAR) + 0.5) * math.pi / POLAR
    around = np.arange(2 * POLAR) * math.pi / POLAR
    t, p = np.meshgrid(polar, around, indexing="ij")
    points = np.stack([np.cos(t), np.sin(t) * np.sin(p), np.sin(t) * np.cos(p)], axis=-1).reshape(-1, 3)
    octaves = int(rng.integers(recipe.octaves[0], recipe.octaves[1] + 1))
    noise = SimplexNoise(octaves=octaves, persistence=recipe.persistence, frequency=recipe.cell)
    bumps = noise.at(points, int(rng.integers(2**32))).reshape(t.shape)
    radii = np.maximum(1 + rng.uniform(*recipe.roughness) * bumps, LEAST_RADIUS)
    return radii / ((radii**3 * np.sin(t)).sum() / np.sin(t).sum()) ** (1 / 3)
