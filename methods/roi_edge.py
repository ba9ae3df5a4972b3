"""How near to the edge of the region of interest a map is kept."""

from __future__ import annotations

import numpy as np


def erode_in_plane(roi: np.ndarray, pixels: int) -> np.ndarray:
    """Erode the region of interest of every slice by ``pixels`` (4-neighbourhood); bool, shape (slices, H, W)."""
    if pixels == 0:
        return roi
    from scipy import ndimage

    return ndimage.binary_erosion(roi, ndimage.generate_binary_structure(2, 1)[None], iterations=pixels)


def inner_foreground(roi: np.ndarray, window: int, share: float) -> np.ndarray:
    """Keep pixels whose ``window`` × ``window`` neighbourhood lies in ``roi`` by more than ``share``; 0 keeps all.

    Kascenas et al. 2022 use 5 and 0.95: one of 25 pixels outside is allowed, two are not.
    """
    if window == 0:
        return roi
    from scipy import ndimage

    count = ndimage.convolve(roi.astype(np.int32), np.ones((1, window, window), np.int32), mode="constant")
    return roi & (count > share * window**2)
