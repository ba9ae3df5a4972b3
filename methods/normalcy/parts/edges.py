"""Segmentation errors at the border of an ROI: bright rims that are not part of the organ (Yao et al. 2021, §III-B)."""

from __future__ import annotations

import numpy as np

from .growing import Components
from .growing_kernels import mark_edges

EDGE = np.uint8(2)


def remove_erroneous_edges(image: np.ndarray, roi: np.ndarray, *, tau: float, share: float = 0.5) -> np.ndarray:
    """Erase from an ROI the bright components that lie mostly on its border; for healthy training volumes only.

    Components are joined by faces, so that a rim, which runs diagonally in places, takes no vessel beside it along.
    The border is what an erosion by one voxel within the slice takes away; outside the image is outside the ROI. The
    paper asks for components with "most" voxels on the border, without a number.

    Args:
        image: float32 or float16 (z, y, x).
        roi: bool, same shape.
        tau: least value of a bright voxel.
        share: part of a component's voxels on the border above which it is erased.

    Returns:
        bool (z, y, x), the ROI without those components.

    Raises:
        ValueError: the arrays are not 3D or differ in shape, or ``share`` is not in [0, 1].
    """
    if image.ndim != 3 or image.shape != roi.shape:
        raise ValueError(f"image and roi must be volumes of one shape: {image.shape, roi.shape}")
    if not 0 <= share <= 1:
        raise ValueError(f"share {share}: choose a value between 0 and 1")
    state = np.empty(image.shape, np.uint8)
    for z, out in enumerate(state):
        mark_edges(np.ascontiguousarray(image[z], np.float32), np.ascontiguousarray(roi[z]), np.float32(tau), out)
    bright = Components.of(state, EDGE)
    erased = bright.paint(bright.marked > share * bright.size, state)
    return roi & ~erased
