"""Pieces of another patient's volume, changed a little before they are blended into a crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.spatial.transform import Rotation

from . import volume_kernels as kernels


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
    values, inside = np.empty(image.shape, np.float32), np.empty(image.shape, np.bool_)
    kernels.turned(np.asarray(image, np.float32), roi, matrix, middle - matrix @ middle, values, inside)
    return values, inside
