"""Post-processing that ``val`` and ``oracle`` may add to a map: smoothing and a minimum size, inside the ROI only."""

import math

import numpy as np

from ...common.boxes import bounding_box
from ...datasets.case import Spacing
from .bin_kernels import max_tree, open_area
from .bins import LOWEST


def smooth(map_: np.ndarray, roi: np.ndarray, spacing: Spacing, sigma_mm: float) -> np.ndarray:
    """Average a float32 map (z, y, x) with Gaussian weights over voxels of the ROI only (normalised convolution).

    Values outside the ROI neither count nor mean anything afterwards; with 0 mm the map returns as it is.
    """
    if sigma_mm == 0 or not roi.any():
        return map_
    from scipy.ndimage import gaussian_filter

    box = bounding_box(roi)
    inside = roi[box].astype(np.float32)
    sigma = [sigma_mm / s for s in spacing]
    weight = gaussian_filter(inside, sigma, mode="constant", truncate=3.0)
    total = gaussian_filter(np.where(roi[box], map_[box], np.float32(0)), sigma, mode="constant", truncate=3.0)
    out = map_.copy()
    out[box] = np.where(roi[box], total / np.maximum(weight, np.float32(1e-6)), map_[box])
    return out


def least_voxels(size_mm3: float, spacing: Spacing) -> int:
    """Return how many voxels a component needs to reach a volume."""
    return max(1, math.ceil(size_mm3 / math.prod(spacing) - 1e-9))


def drop_small(mask: np.ndarray, least: int) -> np.ndarray:
    """Return a mask without the components (joined by faces) that have fewer than ``least`` voxels."""
    if least <= 1 or not mask.any():
        return mask
    import cc3d

    box = bounding_box(mask)
    labels = cc3d.connected_components(np.ascontiguousarray(mask[box]), connectivity=6)
    keep = np.bincount(labels.reshape(-1)) >= least
    keep[0] = False
    out = np.zeros_like(mask)
    out[box] = keep[labels]
    return out


def area_openings(map_: np.ndarray, roi: np.ndarray, leasts: list[int]) -> list[np.ndarray]:
    """Return the map's values in the ROI, float32 (ROI voxels,), after one area opening per least size.

    Thresholding an area opening equals thresholding the map and dropping small components, for every threshold at once;
    where none leaves a large enough component, it holds ``LOWEST``. Components end at the border of the ROI. Their tree
    is built from the highest voxel down with a union-find (Berger et al. 2007).
    """
    values = map_[roi]
    box = bounding_box(roi)
    padded = np.pad(roi[box], 1)
    grid = np.full(padded.size, -1, np.int32)
    position = np.flatnonzero(padded).astype(np.int32)
    grid[position] = np.arange(len(position), dtype=np.int32)
    row, plane = padded.shape[2], padded.shape[1] * padded.shape[2]
    offsets = np.array([-plane, -row, -1, 1, row, plane], np.int64)
    order = np.argsort(values, kind="stable")[::-1].astype(np.int32)
    parent, area = np.empty_like(order), np.empty_like(order)
    max_tree(order, values, grid, position, offsets, parent, area)
    openings = []
    for least in leasts:
        out = np.empty_like(values)
        open_area(order, values, parent, area, least, LOWEST, out)
        openings.append(out)
    return openings
