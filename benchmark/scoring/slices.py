"""Slice scores: how a map becomes one number per slice."""

from __future__ import annotations

import math

import numpy as np

from ...methods.card import SliceScore


def slice_scores(map_: np.ndarray, roi: np.ndarray, how: SliceScore) -> tuple[np.ndarray, np.ndarray]:
    """Score every slice that shows the ROI, from the map inside it.

    Args:
        map_: float32 (z, y, x).
        roi: bool, same shape.
        how: ``max``; ``mean``; ``top1%``, the mean of the highest hundredth of the voxels (at least one);
            ``("meanpool", k)``, the highest mean over k × k pixels (pixels outside the ROI count as 0, as in DRAEM).

    Returns:
        z of the slices (int64) and their scores (float32).
    """
    z = np.flatnonzero(roi.any(axis=(1, 2)))
    return z, np.array([_score(map_[k], roi[k], how) for k in z], np.float32)


def _score(image: np.ndarray, roi: np.ndarray, how: SliceScore) -> float:
    if isinstance(how, tuple):
        from scipy.ndimage import uniform_filter

        pooled = uniform_filter(np.where(roi, image, 0).astype(np.float64), how[1], mode="constant")
        return float(pooled[roi].max())
    values = image[roi]
    if how == "max":
        return float(values.max())
    if how == "mean":
        return float(values.mean(dtype=np.float64))
    count = max(1, math.ceil(len(values) / 100))
    return float(np.partition(values, len(values) - count)[len(values) - count :].mean(dtype=np.float64))
