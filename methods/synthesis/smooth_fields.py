"""Gaussian-filtered noise over a box, and the taps of its filter."""

from __future__ import annotations

import math

import numpy as np

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
