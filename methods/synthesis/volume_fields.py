"""What synthetic lesions in volumes are made of: random places and directions, smooth fields, filtered salt noise."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import spline_filter1d

from . import volume_kernels as kernels
from .stretched_noise_cpu import fill_noise

TRUNCATE = 4.0
FEWEST_NODES = 16


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


def spline_basis(shares: np.ndarray, points: int) -> np.ndarray:
    """Return the weights of evenly spaced control points at places along an axis, by cubic spline interpolation.

    Args:
        shares: float (n,), places between the first (0) and the last (1) control point; beyond them it is mirrored.
        points: control points, at least 2.

    Returns:
        float64 (n, points); every row adds up to 1.
    """
    places = np.abs(np.asarray(shares, float) * (points - 1)) % (2 * (points - 1))
    places = np.minimum(places, 2 * (points - 1) - places)
    left = np.minimum(places.astype(np.int64), points - 2)
    weights = np.zeros((len(places), points + 2))  # one control point of margin on both sides
    for tap, weight in enumerate(cubic_weights(places - left)):
        weights[np.arange(len(places)), left + tap] = weight
    weights[:, 2] += weights[:, 0]
    weights[:, -3] += weights[:, -1]
    return weights[:, 1:-1] @ _coefficients(points)


def cubic_weights(t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the weights of the four cubic B-splines around places ``t`` (0 … 1) between the middle two."""
    s = 1 - t
    return s**3 / 6, (4 - 3 * t * t * (2 - t)) / 6, (4 - 3 * s * s * (2 - s)) / 6, t**3 / 6


@cache
def _coefficients(points: int) -> np.ndarray:
    """Return what turns values at mirrored control points into coefficients of cubic B-splines."""
    return spline_filter1d(np.eye(points), order=3, axis=0, mode="mirror")


def free_basis(shares: np.ndarray, points: int, locked: int) -> np.ndarray:
    """Return the weights of the control points of cubic B-splines over an axis, without the locked ones at its ends.

    As SimpleITK lays them: an axis has ``points`` − 3 cells, and one control point lies beyond each end of it.

    Args:
        shares: float (n,), places along the axis from 0 to 1; beyond them those of its ends.
        locked: control points on both sides that are left out.

    Returns:
        float64 (n, points − 2·locked).
    """
    at = np.clip(shares, 0, 1) * (points - 3)
    far = np.abs(at[:, None] - (np.arange(locked, points - locked) - 1))
    near = (4 - 3 * far**2 * (2 - far)) / 6
    return np.where(far < 1, near, np.maximum(2 - far, 0) ** 3 / 6)


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


@dataclass(frozen=True, kw_only=True)
class Look:
    """The numbers of one texture of filtered salt, named as by Yao et al. 2021, §III-C.2.

    Attributes:
        mean_threshold: filtered salt above it counts for the mean that is set to μ0.
        guard_share: share of voxels, the brightest, whose mean stands in where none is above ``mean_threshold``.
        probability: of salt, the same everywhere; None draws a map of it that varies in space.
    """

    sigma_a: float
    a_low: float
    a_high: float
    sigma_b: float
    mu0: float
    mean_threshold: float
    guard_share: float = 0.01
    probability: float | None = None


def filtered_salt(look: Look, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return the salt of one texture after its filter, float32 of the given ``shape`` (b2 of the paper)."""
    if look.probability is not None:
        nodes = np.full((1, 1, 1), look.probability)
    else:
        nodes = smooth_nodes(shape, look.sigma_a, rng)[0]
        low, high = nodes.min(), nodes.max()
        nodes = (nodes - low) * ((look.a_high - look.a_low) / max(high - low, np.finfo(float).tiny)) + look.a_low
    texture = np.empty(shape, np.float32)
    words = np.empty((texture.size + 1) // 2, np.uint64)
    fill_noise(rng.integers(0, 2**64, dtype=np.uint64), words)
    kernels.salt(nodes, words.view(np.uint32), texture)
    kernels.smooth(texture, *[half_taps(look.sigma_b, np.float32)] * 3)
    return texture


def brightness_factor(look: Look, texture: np.ndarray) -> float | None:
    """Return β: μ0 over the mean of the filtered salt above the threshold; None where there is no salt."""
    total, count = kernels.sum_above(texture, look.mean_threshold)
    if not count:
        count = max(round(look.guard_share * texture.size), 1)
        total = float(np.partition(texture.ravel(), -count)[-count:].sum(dtype=np.float64))
    return look.mu0 * count / total if total > 0 else None
