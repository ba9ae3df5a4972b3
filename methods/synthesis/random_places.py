"""Random places and directions of synthetic lesions."""

import numpy as np


def random_rotations(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return rotations that favour no direction, float64 (count, 3, 3)."""
    quaternions = rng.standard_normal((count, 4))
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows).reshape(3, 3, count), 2, 0)


def random_voxels(roi: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Return the ROI voxels at the shares ``picks`` (0 … 1) of its volume, int64 (n, 3); the ROI must not be empty."""
    ends = np.cumsum([np.count_nonzero(plane) for plane in roi])
    wanted = (picks * ends[-1]).astype(np.int64)
    z = np.searchsorted(ends, wanted, side="right")
    before = np.concatenate([[0], ends])[z]
    inside = [np.flatnonzero(roi[plane])[k] for plane, k in zip(z, wanted - before, strict=True)]
    return np.stack([z, *np.divmod(np.array(inside, np.int64), roi.shape[2])], axis=1)
