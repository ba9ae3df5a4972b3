"""Smooth fields over a box: Gaussian-filtered noise, and splines through a few control points."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates

from . import volume_kernels as kernels

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
    places = (np.asarray(shares, float) * (points - 1))[None]
    return np.stack([map_coordinates(unit, places, order=3, mode="mirror") for unit in np.eye(points)], axis=1)


def interpolated(controls: np.ndarray, bases: Sequence[np.ndarray]) -> np.ndarray:
    """Interpolate control values (c, i, j, k) on a grid with bases (Z, i), (Y, j), (X, k); float64 (c, Z, Y, X)."""
    z, y, x = bases
    return np.einsum("zi,yj,xk,cijk->czyx", z, y, x, controls, optimize=True)
