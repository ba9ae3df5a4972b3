"""Synthetic tumours in healthy organs, made in training (Hu et al. 2023, §3; docs/methods/synthetic-tumors.md).

Ellipsoids of four sizes are deformed in three planes and filled with filtered salt.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion

from ...datasets.case import Spacing
from . import volume_kernels as kernels
from .volume_fields import Look, brightness_factor, filtered_salt, half_taps, spline_basis

Range = tuple[float, float]
PLANES = ((0, 1), (1, 2), (0, 2))
CONTROL_POINTS = 3
CONTROL_REACH = 2.0  # the control points span twice the ellipsoid
OVERSHOOT = 1.25  # of a cubic spline beyond its control values
NODES = 12  # per axis, at which a deformation is computed before it is read linearly
RADIUS_SPREAD = 0.25
EROSION_MM = 2.0  # a 5×5 square on a grid of 1 mm
MIDDLE = (0.3, 0.7)


@dataclass(frozen=True)
class TumourSize:
    """One size class.

    Attributes:
        radius: mean radius in mm; each of the three radii is drawn within ±25 %.
        count: least and largest number per organ.
        elastic: range of the standard deviation of the displacements of the control points, mm.
    """

    radius: float
    count: tuple[int, int]
    elastic: Range


SIZES = {
    "tiny": TumourSize(4, (3, 10), (0.5, 1)),
    "small": TumourSize(8, (3, 10), (1, 2)),
    "medium": TumourSize(16, (2, 5), (3, 6)),
    "large": TumourSize(32, (1, 3), (5, 10)),
}
MIX_COUNT = {"small": (5, 10)}
KINDS = (*SIZES, "mix")


@dataclass(frozen=True, eq=False)
class Tumours:
    """The tumours of one organ, before they are painted.

    Attributes:
        centres: int64 (n, 3), voxels of the volume.
        radii: float64 (n, 3), mm along z, y, x.
        elastic: float64 (n,), standard deviation of the control points' displacements, mm.
    """

    centres: np.ndarray
    radii: np.ndarray
    elastic: np.ndarray

    def __len__(self) -> int:
        return len(self.centres)


def draw_tumours(
    kind: str, roi: np.ndarray, spacing: Spacing, rng: np.random.Generator, radius_scale: float = 1.0
) -> Tumours:
    """Draw the tumours of one organ, of a kind in :data:`KINDS`; none where its middle does not survive the erosion."""
    names = tuple(SIZES) if kind == "mix" else (kind,)
    radii, elastic = [], []
    for name in names:
        size = SIZES[name]
        least, most = MIX_COUNT.get(name, size.count) if kind == "mix" else size.count
        count = int(rng.integers(least, most + 1))
        spread = rng.uniform(1 - RADIUS_SPREAD, 1 + RADIUS_SPREAD, (count, 3))
        radii.append(radius_scale * size.radius * spread)
        elastic.append(radius_scale * rng.uniform(*size.elastic, count))
    wanted = np.concatenate(radii)
    centres = random_centres(roi, spacing, len(wanted), rng)
    return Tumours(centres, wanted[: len(centres)], np.concatenate(elastic)[: len(centres)])


def random_centres(roi: np.ndarray, spacing: Spacing, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return voxels in the eroded slices of the middle 30–70 % of the organ's z extent, int64 (count, 3).

    A slice that vanishes under the erosion by a square of 5 mm is left out; with no slice left the result is empty.
    """
    filled = np.flatnonzero(roi.any(axis=(1, 2)))
    if not len(filled):
        return np.zeros((0, 3), np.int64)
    first, extent = int(filled[0]), int(filled[-1] - filled[0])
    lowest, highest = (first + round(share * extent) for share in MIDDLE)
    reach = [round(EROSION_MM / s) for s in spacing[1:]]
    square = np.ones([2 * r + 1 for r in reach], bool)
    slices, eroded, centres = list(range(lowest, highest + 1)), {}, []
    while slices and len(centres) < count:
        z = slices[int(rng.integers(len(slices)))]
        if z not in eroded:
            eroded[z] = np.flatnonzero(binary_erosion(roi[z], square))
        if not len(eroded[z]):
            slices.remove(z)
            continue
        y, x = divmod(int(eroded[z][rng.integers(len(eroded[z]))]), roi.shape[2])
        centres.append((z, y, x))
    return np.array(centres, np.int64).reshape(-1, 3)


def paint_tumours(
    tumours: Tumours, origin: np.ndarray, shape: tuple[int, ...], spacing: Spacing, rng: np.random.Generator
) -> np.ndarray:
    """Deform the ellipsoids and paint those parts that lie in a crop.

    Each plane (z, y), (y, x) and (z, x) is deformed by 3×3 control points with normal displacements; the published
    generator applies the three one after another, here they are added. The crop begins at the voxel ``origin``, int64
    (3,); the result is bool, ``shape``.
    """
    owner, voxel = np.zeros(shape, np.uint16), np.asarray(spacing, float)
    touched = np.zeros(2, np.bool_)
    for at, radii, sigma in zip(tumours.centres - origin, tumours.radii, tumours.elastic, strict=True):
        controls = rng.normal(0, sigma, (len(PLANES), 2, CONTROL_POINTS, CONTROL_POINTS))
        slip = OVERSHOOT * np.abs(controls).max() * 2
        reach = np.ceil((radii + slip) / voxel).astype(np.int64)
        start, stop = np.maximum(at - reach, 0), np.minimum(at + reach + 1, shape)
        if (stop <= start).any():
            continue
        shares = [
            ((np.linspace(a, b - 1, min(b - a, NODES)) - c) * v / (CONTROL_REACH * r) + 1) / 2
            for a, b, c, v, r in zip(start, stop, at, voxel, radii, strict=True)
        ]
        field = _planar_field(controls, shares) / radii[:, None, None, None]
        slack = float(np.sqrt((field**2).sum(axis=0)).max())
        kernels.paint(field, slack, start, stop, at, np.diag(voxel / radii), 1, owner, touched)
    return owner > 0


def _planar_field(controls: np.ndarray, shares: list[np.ndarray]) -> np.ndarray:
    """Add up the displacements (mm) of the three planes on a grid of shares; float64 (3, Z, Y, X)."""
    ends = np.cumsum([len(s) for s in shares])
    bases = np.split(spline_basis(np.concatenate(shares), CONTROL_POINTS), ends[:-1])
    field = np.zeros((3, *map(len, shares)))
    for (a, b), plane in zip(PLANES, controls, strict=True):
        constant = ({0, 1, 2} - {a, b}).pop()
        for axis, values in zip((a, b), plane, strict=True):
            field[axis] += np.expand_dims(bases[a] @ values @ bases[b].T, constant)
    return field


@dataclass(frozen=True, kw_only=True)
class TumourRecipe:
    """The numbers of the generator; a pair is a uniform range.

    The texture is NormNet's filtered salt with narrower ranges (:class:`.Look`). Lengths are mm;
    the filters of the texture are voxels of 1 mm and shrink with the geometric mean of a coarser voxel.

    Attributes:
        probability: chance that an organ gets tumours at all.
        kinds: size classes, one of which is drawn per organ.
        radius_scale: factor on radii and displacements.
        sigma_a, sigma_b: choices for the smoothness of the probability map and the filter of the salt.
        a_low, a_rise: lowest probability, and by how much the highest is above it.
        mean_threshold, mu0: the filtered salt above the threshold gets the mean μ0.
        difference: HU that a texture of 1 changes.
        sign: −1 subtracts (tumours of the liver), 1 adds (lesions of the lung).
        edge: standard deviation of the blurred edge.
    """

    probability: float = 0.9
    kinds: tuple[str, ...] = KINDS
    radius_scale: float = 1.0
    sigma_a: tuple[float, ...] = (3.0, 6.0, 9.0, 12.0, 15.0)
    sigma_b: tuple[float, ...] = (4.0, 7.0)
    a_low: Range = (0.04, 0.06)
    a_rise: Range = (0.19, 0.21)
    mean_threshold: float = 0.12
    mu0: Range = (0.5, 0.55)
    difference: Range = (65.0, 145.0)
    sign: int = -1
    edge: Range = (1.0, 2.0)

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds {self.kinds}: choose some of {', '.join(KINDS)}")
        if self.sign not in (-1, 1):
            raise ValueError(f"sign {self.sign}: use -1 for darker or 1 for brighter tumours")


class TumourGenerator:
    """Draws the tumours of an organ and puts the part of them that lies in a crop into the image, in HU."""

    def __init__(self, recipe: TumourRecipe, rng: np.random.Generator) -> None:
        self.recipe = recipe
        self._rng = rng

    def draw(self, roi: np.ndarray, spacing: Spacing) -> Tumours:
        """Return the tumours of an organ, none with probability 1 − ``probability``."""
        r = self.recipe
        if self._rng.random() >= r.probability:
            return Tumours(np.zeros((0, 3), np.int64), np.zeros((0, 3)), np.zeros(0))
        kind = r.kinds[int(self._rng.integers(len(r.kinds)))]
        return draw_tumours(kind, roi, spacing, self._rng, r.radius_scale)

    def place(
        self, image: np.ndarray, roi: np.ndarray, tumours: Tumours, origin: np.ndarray, spacing: Spacing
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a crop (z, y, x) in HU with tumours, float32, and their mask, bool.

        Nothing is clipped: the published training clips to its window afterwards.

        The mask is blurred before it scales the texture, so that the image also changes a little around the mask; both
        stay inside the ROI. ``origin`` is the first voxel of the crop in the volume of the tumours.
        """
        r, rng = self.recipe, self._rng
        mask = paint_tumours(tumours, origin, image.shape, spacing, rng) & roi
        if not mask.any():
            return np.array(image, np.float32), mask
        texture = self._texture(image.shape, spacing)
        soft = mask.astype(np.float32)
        sigma = rng.uniform(*r.edge)
        kernels.smooth(soft, *(half_taps(sigma / s, np.float32) for s in spacing))
        texture *= soft
        texture *= np.float32(r.sign * rng.uniform(*r.difference))
        texture *= roi
        texture += image
        return texture, mask

    def _texture(self, shape: tuple[int, ...], spacing: Spacing) -> np.ndarray:
        """Return filtered salt over the crop, float32 in [0, 1]."""
        r, rng = self.recipe, self._rng
        voxel = float(np.prod(spacing)) ** (1 / 3)
        sigma_a, base = float(rng.choice(r.sigma_a)) / voxel, rng.uniform(*r.a_low)
        look = Look(
            sigma_a=sigma_a,
            a_low=base,
            a_high=base + rng.uniform(*r.a_rise),
            sigma_b=float(rng.choice(r.sigma_b)) / voxel,
            mu0=rng.uniform(*r.mu0),
            mean_threshold=r.mean_threshold,
        )
        salt = filtered_salt(look, shape, rng)
        beta = brightness_factor(look, salt)
        salt *= np.float32(beta or 0)
        return np.clip(salt, 0, 1, out=salt)
