"""Smooth fields spanned by a few control points, for elastic deformations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates


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
