"""Pieces of another patient's volume, changed a little and blended into a crop under a soft mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import ndimage
from scipy.spatial.transform import Rotation

from .foreign_patch import solve_poisson


@dataclass(frozen=True)
class PatchChanges:
    """How a foreign piece is changed before it is blended (Naval Marimont and Tarroni 2023, released code).

    Attributes:
        probability: of each of the three changes.
        shift: largest change of brightness.
        noise: standard deviation of the noise.
        turn: largest angle in rad about each axis.
    """

    probability: float = 0.2
    shift: float = 0.2
    noise: float = 0.2
    turn: float = 1.0

    def __call__(self, image: np.ndarray, roi: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return a changed piece, float32 (z, y, x) in [0, 1] and 0 outside the organ, and its organ."""
        if rng.random() < self.probability:
            image = image + np.float32(rng.uniform(-self.shift, self.shift))
        if rng.random() < self.probability:
            image = image + np.float32(self.noise) * rng.standard_normal(image.shape, np.float32)
        image = np.clip(image, 0, 1) * roi
        if rng.random() < self.probability:
            turn = Rotation.from_euler("xyz", rng.uniform(-self.turn, self.turn, 3)).as_matrix()
            image, roi = transformed(image, roi, turn)
        return image.astype(np.float32), roi


def transformed(image: np.ndarray, roi: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read a volume linearly at positions ``matrix`` · p about its middle, from its organ alone; nothing lies around.

    Returns:
        float32, 0 outside the organ; bool, where at least half of what is read is organ.
    """
    middle = (np.array(image.shape) - 1) / 2
    offset: Any = middle - matrix @ middle
    share, values = (
        ndimage.affine_transform(volume.astype(np.float32), matrix, offset, order=1) for volume in (roi, image * roi)
    )
    inside = share >= 0.5
    return np.divide(values, share, out=np.zeros_like(values), where=inside), inside


def blend_linear(own: np.ndarray, foreign: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return own·(1 − m) + foreign·m, float32; all (z, y, x)."""
    return own + mask * (foreign - own)


def blend_gradients(own: np.ndarray, foreign: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blend by gradients under a soft mask: Poisson's equation in 3D (Pérez et al. 2003, mixed gradients).

    Between two voxels the gradient moves by their mean mask value from that of ``own`` to the larger in magnitude of
    the two. Voxels on the surface of the box keep their value.

    Args:
        own: float (z, y, x).
        foreign: same shape.
        mask: float in [0, 1], same shape; 0 where one of the two is not organ, so that no background enters.

    Returns:
        float32, same shape, clipped to [0, 1]; it also changes a little around the mask, without a seam.
    """
    divergence = np.zeros([n - 2 for n in own.shape])
    for axis in range(3):
        ahead, behind = ([slice(1, -1)] * 3 for _ in range(2))
        low, high = ([slice(None)] * 3 for _ in range(2))
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        first, second = tuple(low), tuple(high)
        weight = np.where((mask[first] > 0) & (mask[second] > 0), (mask[first] + mask[second]) / 2, 0.0)
        here, there = (np.diff(volume.astype(np.float64), axis=axis) for volume in (own, foreign))
        excess = weight * np.where(np.abs(there) > np.abs(here), there - here, 0.0)
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        divergence += excess[tuple(ahead)] - excess[tuple(behind)]
    out = own.astype(np.float32, copy=True)
    out[1:-1, 1:-1, 1:-1] += solve_poisson(divergence).astype(np.float32)
    return np.clip(out, 0, 1)


BLENDS = {"linear": blend_linear, "poisson": blend_gradients}
