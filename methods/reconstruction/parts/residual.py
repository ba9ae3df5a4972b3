"""From an image and its reconstruction to an anomaly map, for every method that compares the two."""

from typing import Literal

import numpy as np

Sign = Literal["absolute", "positive", "negative"]


def residual(image: np.ndarray, reconstruction: np.ndarray, sign: Sign) -> np.ndarray:
    """Return |x − x̂|, or its part where the image is brighter (``positive``) or darker (``negative``), float32.

    The positive part finds lesions brighter than the organ only (lung); liver tumours are mostly darker.
    """
    difference = image.astype(np.float32) - reconstruction
    if sign == "absolute":
        return np.abs(difference)
    return np.maximum(difference if sign == "positive" else -difference, 0)


def erode_in_plane(roi: np.ndarray, pixels: int) -> np.ndarray:
    """Erode the region of interest of every slice by ``pixels`` (4-neighbourhood); bool, shape (slices, H, W)."""
    if pixels == 0:
        return roi
    from scipy import ndimage

    return ndimage.binary_erosion(roi, ndimage.generate_binary_structure(2, 1)[None], iterations=pixels)


def filtered_inside(map_: np.ndarray, roi: np.ndarray, median: int, erode: int) -> np.ndarray:
    """Filter a map with a cube of ``median`` voxels inside ``roi``, then keep ``roi`` eroded by ``erode`` pixels.

    The median is 5 in Baur et al. 2021; 0 is none. Neighbours along z are those of the view, which skips slices without
    a region of interest.

    Returns:
        float32, shape (slices, H, W), 0 outside the eroded region of interest.
    """
    map_ = map_ * roi
    if median:
        from scipy import ndimage

        map_ = ndimage.median_filter(map_, size=median)
    return (map_ * erode_in_plane(roi, erode)).astype(np.float32)
