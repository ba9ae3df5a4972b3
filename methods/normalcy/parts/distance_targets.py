"""What NormNet learns to mark, and how full of lung a training crop is (Yao et al. 2021, §III-A and §III-C)."""

from __future__ import annotations

from typing import Any

import numpy as np


def target(clean: Any, blobs: Any, roi: Any, tau: float) -> Any:
    """Return the bright normal voxels of a crop (Yao et al. 2021, Eq. 1).

    A synthetic lesion excludes its whole blob, vessels inside it too; dark voxels are 0 whether normal or not.

    Args:
        clean: float array or tensor in [0, 1] without lesions, any shape.
        blobs: bool, same shape, all voxels of the synthetic lesions.
        roi: bool, same shape.
        tau: least value of a bright voxel.

    Returns:
        bool array or tensor, same shape and device.
    """
    return (clean >= tau) & roi & ~blobs


def fullness(rois: np.ndarray, most: int = 0) -> np.ndarray:
    """Return λ, the ROI voxels of each crop relative to the fullest crop (Yao et al. 2021, §III-C.1).

    Args:
        rois: bool (n, z, y, x).
        most: ROI voxels of the fullest crop of the training set; crops that are fuller still count as full.

    Returns:
        float32 (n,) in [0, 1]; 0 for crops without ROI.
    """
    voxels = np.count_nonzero(rois, axis=(1, 2, 3))
    return (voxels / max(most, int(voxels.max(initial=0)), 1)).astype(np.float32)
