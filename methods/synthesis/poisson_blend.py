"""Gradient-domain pasting on rectangles: Poisson's equation solved by a fast sine transform."""

from functools import lru_cache

import numpy as np
from scipy.fft import dstn, idstn

SINE = 1


def poisson_blend(own: np.ndarray, foreign: np.ndarray, common: np.ndarray, alpha: float) -> np.ndarray:
    """Blend ``foreign`` into ``own`` by mixed gradients (Pérez et al. 2003; Tan et al. 2021, PII).

    Between two neighbours the guidance is the larger in magnitude of (1 − α)·∇own and α·∇foreign; the pixels of the
    outer ring keep their value. Where one of two neighbours is not ``common``, the guidance is ∇own, so that neither
    image's background enters.

    Args:
        own: float (h + 2, w + 2), the patch with a ring of one pixel around it.
        foreign: same shape.
        common: bool, same shape; pixels that belong to the region of interest of both images.
        alpha: share of the foreign gradients, 0 to 1.

    Returns:
        float64 (h, w), the patch without its ring, neither clipped nor limited to ``common``.
    """
    own, foreign = own.astype(np.float64), foreign.astype(np.float64)
    down = _excess(np.diff(own, axis=0), np.diff(foreign, axis=0), common[1:] & common[:-1], alpha)
    right = _excess(np.diff(own, axis=1), np.diff(foreign, axis=1), common[:, 1:] & common[:, :-1], alpha)
    divergence = np.diff(down, axis=0)[:, 1:-1] + np.diff(right, axis=1)[1:-1]
    return own[1:-1, 1:-1] + solve_poisson(divergence)


def solve_poisson(divergence: np.ndarray) -> np.ndarray:
    """Solve Δu = ``divergence`` with the five-point Laplacian and u = 0 on the ring around the rectangle.

    Args:
        divergence: float64 (h, w).

    Returns:
        float64 (h, w).
    """
    height, width = divergence.shape
    spectrum = dstn(divergence, type=SINE) / (_eigenvalues(height)[:, None] + _eigenvalues(width))
    return np.asarray(idstn(spectrum, type=SINE))


def _excess(own: np.ndarray, foreign: np.ndarray, common: np.ndarray, alpha: float) -> np.ndarray:
    """Return the mixed guidance less the own gradient, 0 where a neighbour is not common."""
    weak, strong = (1 - alpha) * own, alpha * foreign
    mixed = np.where(np.abs(strong) > np.abs(weak), strong, weak)
    return np.where(common, mixed - own, 0.0)


@lru_cache(maxsize=1024)
def _eigenvalues(length: int) -> np.ndarray:
    """Eigenvalues of the second difference with zero ends."""
    return 2 * np.cos(np.pi * np.arange(1, length + 1) / (length + 1)) - 2
