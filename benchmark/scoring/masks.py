"""From a threshold to a mask."""

from __future__ import annotations

import numpy as np

from ..runs.records import Threshold
from .cases import Opened
from .smoothing import drop_small, least_voxels, smooth


def binarise(case: Opened, threshold: Threshold) -> np.ndarray:
    """Return the mask of a case: ``map > threshold`` (strictly) in the ROI, after smoothing and before minimum size.

    Raises:
        ValueError: the threshold has no value.
    """
    if threshold.threshold is None:
        raise ValueError(f"{threshold.protocol} has no threshold: {threshold.reason}")
    map_ = smooth(case.map, case.roi, case.spacing, threshold.smoothing_mm)
    mask = (map_ > np.float32(threshold.threshold)) & case.roi
    return drop_small(mask, least_voxels(threshold.min_size_mm3, case.spacing))
