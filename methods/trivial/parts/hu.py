"""What the trivial baselines share: no training, and operations on HU that see the region of interest alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from ....common.boxes import bounding_box
from ....datasets.case import Case
from ...context import FitContext
from ...method import Method

if TYPE_CHECKING:
    from ....datasets.healthy import HealthySet

Sign = Literal["darker", "brighter"]


class Untrained(Method):
    """A method that needs no healthy scan."""

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Nothing to learn."""


def map_in_roi(case: Case, compute: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply ``compute(image, roi)`` to the bounding box of the region of interest.

    Returns:
        float32, shape of ``case.image``, 0 outside the region of interest.
    """
    result = np.zeros(case.image.shape, np.float32)
    if not case.roi.any():
        return result
    box = bounding_box(case.roi)
    roi = case.roi[box]
    result[box] = np.where(roi, compute(case.image[box], roi), 0)
    return result


def roi_median(image: np.ndarray, roi: np.ndarray) -> float:
    """Return the median HU of the region of interest."""
    return float(np.median(image[roi]))


def smooth_in_roi(image: np.ndarray, roi: np.ndarray, sigma: float) -> np.ndarray:
    """Blur every axial slice with a Gaussian of ``sigma`` pixels, so that HU outside ``roi`` never leaks in.

    Normalised convolution: blurred (image · roi) divided by blurred roi. Returns float32, 0 outside ``roi``.
    """
    if sigma == 0:
        return np.where(roi, image, 0).astype(np.float32)
    widths = (0.0, sigma, sigma)
    weight = ndimage.gaussian_filter(roi.astype(np.float32), widths, mode="constant")
    centre = np.float32(roi_median(image, roi))
    total = ndimage.gaussian_filter(np.where(roi, image - centre, 0).astype(np.float32), widths, mode="constant")
    return np.where(roi, total / np.where(roi, weight, 1) + centre, 0).astype(np.float32)


def open_in_roi(image: np.ndarray, roi: np.ndarray, radius: int) -> np.ndarray:
    """Grey opening with a ball of ``radius`` voxels over the voxels of ``roi`` alone; removes thin bright structures.

    Returns float32; a voxel outside ``roi`` neither erodes its neighbours nor gets a value (0).
    """
    if radius == 0:
        return np.where(roi, image, 0).astype(np.float32)
    ball = ball_footprint(radius)
    low = ndimage.minimum_filter(np.where(roi, image, np.inf), footprint=ball, mode="constant", cval=np.inf)
    high = ndimage.maximum_filter(np.where(roi, low, -np.inf), footprint=ball, mode="constant", cval=-np.inf)
    return np.where(roi, high, 0).astype(np.float32)


def ball_footprint(radius: int) -> np.ndarray:
    """Return a bool ball, shape (2·radius + 1,)·3."""
    axis = np.arange(-radius, radius + 1) ** 2
    return axis[:, None, None] + axis[:, None] + axis <= radius**2


def signed(values: np.ndarray, sign: Sign) -> np.ndarray:
    """Make larger mean more anomalous: ``darker`` lesions get the negative of the values."""
    return -values if sign == "darker" else values
