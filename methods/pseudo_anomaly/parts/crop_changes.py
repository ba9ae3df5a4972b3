"""Changes of healthy crops before a synthetic lesion is put in: MONAI's transforms, written for an organ alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.random import Generator
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ...synthesis.foreign_volume import transformed

Range = tuple[float, float]
DEGREE = 3  # of the bias field's polynomials


@dataclass(frozen=True)
class CropChanges:
    """Flips, turns, zooms and changes of grey values, each with one probability (Naval Marimont and Tarroni 2023).

    Attributes:
        probability: of each change; for flips, of each axis.
        zoom: range of the factor.
        turn: largest angle in rad about each axis.
        noise: standard deviation of the noise.
        bias: range of the coefficients of the bias field, a polynomial of degree 3 in the exponent.
        smooth: range of the standard deviation of a Gaussian filter per axis, in voxels.
        gamma: range of the exponent.
    """

    probability: float = 0.1
    zoom: Range = (0.9, 1.1)
    turn: float = 0.1
    noise: float = 0.01
    bias: Range = (0.0, 0.3)
    smooth: Range = (0.25, 1.5)
    gamma: Range = (0.5, 1.5)

    def __call__(self, image: np.ndarray, roi: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return a changed crop, float32 (z, y, x) in [0, 1] and 0 outside the organ, and its organ.

        Crops are square in-plane, and turned by 90° in-plane alone. What a zoom or a turn brings in is 0.
        """
        image, roi = self.moved(image, roi, rng)
        return self.recoloured(image, rng) * roi, roi

    def moved(self, image: np.ndarray, roi: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
        """Flip, turn and zoom a crop and its organ."""
        p = self.probability
        axes = tuple(int(axis) for axis in np.flatnonzero(rng.random(3) < p))
        quarters = int(rng.integers(1, 4)) if rng.random() < p else 0
        image, roi = (np.rot90(np.flip(volume, axes), quarters, (1, 2)) for volume in (image, roi))
        matrix = np.eye(3)
        if rng.random() < p:
            matrix /= rng.uniform(*self.zoom)
        if rng.random() < p:
            matrix = matrix @ Rotation.from_euler("xyz", rng.uniform(-self.turn, self.turn, 3)).as_matrix()
        if (matrix != np.eye(3)).any():
            return transformed(image, roi, matrix)
        return np.ascontiguousarray(image, np.float32), np.ascontiguousarray(roi)

    def recoloured(self, image: np.ndarray, rng: Generator) -> np.ndarray:
        """Add noise and a bias field, filter, and change the contrast; float32 in [0, 1]."""
        p = self.probability
        if rng.random() < p:
            image = image + np.float32(self.noise) * rng.standard_normal(image.shape, np.float32)
        if rng.random() < p:
            image = image * bias_field(image.shape, self.bias, rng)
        if rng.random() < p:
            image = ndimage.gaussian_filter(image, rng.uniform(*self.smooth, 3))
        image = np.clip(image, 0, 1)
        if rng.random() < p:
            image = image ** np.float32(rng.uniform(*self.gamma))
        return image.astype(np.float32)


def bias_field(shape: tuple[int, ...], coefficients: Range, rng: Generator) -> np.ndarray:
    """Return the exponential of a sum of Legendre polynomials up to degree 3 over a box, float32."""
    weights = rng.uniform(*coefficients, (DEGREE + 1,) * 3)
    weights[np.indices(weights.shape).sum(axis=0) > DEGREE] = 0
    z, y, x = (legvander(np.linspace(-1, 1, n), DEGREE).astype(np.float32) for n in shape)
    planes = np.einsum("zi,yj,ijk->zyk", z, y, weights.astype(np.float32), optimize=True)
    return np.exp(planes @ x.T)
