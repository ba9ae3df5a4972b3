"""Soft masks in a cube, under which a foreign volume is blended in: cuboids, balls and rough ellipsoids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from . import volume_kernels as kernels
from .layered_lesions import LayerRecipe, perturbed_radii
from .volume_fields import random_rotations

Range = tuple[float, float]
EDGE_SIGMA = 2**0.5  # the released kernel is exp(−(d / 2σ)²) with σ 1


@dataclass(frozen=True)
class BlendShapes:
    """Draws a mask α · shape with a soft edge (Naval Marimont and Tarroni 2023, released code).

    The three kinds are equally likely. The release reads the third from a file of 300 random shapes; here it is an
    ellipsoid in any direction whose radius varies over its surface.

    Attributes:
        sides: range of a cuboid's sides, a ball's diameter and an ellipsoid's diameters, in voxels; the cube in which
            shapes lie is as long as the upper end.
        turn: largest angle in rad about each axis by which every other cuboid is turned.
        alpha: range of the strength.
        kernels: sides of the Gaussian kernel of the edge, one of which is drawn; 1 leaves it hard.
        roughness: range of the standard deviation of an ellipsoid's radius, as a share of itself.
    """

    sides: tuple[int, int] = (10, 128)
    turn: float = 3.0
    alpha: Range = (0.3, 1.0)
    kernels: tuple[int, ...] = (1, 1, 1, 1, 3, 3, 5, 7)
    roughness: Range = (0.1, 0.3)

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Return a mask of values in [0, 1], float32 (n, n, n) with n the upper end of ``sides``."""
        kind = (self.cuboid, self.ball, self.rough)[int(rng.integers(3))]
        mask = kind(rng).astype(np.float32)
        mask *= np.float32(rng.uniform(*self.alpha))
        return softened(mask, int(rng.choice(self.kernels)))

    def cuboid(self, rng: np.random.Generator) -> np.ndarray:
        """Return a cuboid in the middle of the cube, turned in half of the draws; bool."""
        halves = rng.integers(self.sides[0], self.sides[1] + 1, 3) / 2
        turned = rng.random() < 0.5
        angles = rng.uniform(-self.turn, self.turn, 3)
        axes = Rotation.from_euler("xyz", angles).as_matrix() if turned else np.eye(3)
        within = [np.abs(along) <= half for along, half in zip(self._along(axes), halves, strict=True)]
        return within[0] & within[1] & within[2]

    def ball(self, rng: np.random.Generator) -> np.ndarray:
        """Return a ball in the middle of the cube; bool."""
        diameter = rng.integers(self.sides[0], self.sides[1] + 1)
        z, y, x = self._along(np.eye(3))
        return z**2 + y**2 + x**2 <= diameter**2 / 4

    def rough(self, rng: np.random.Generator) -> np.ndarray:
        """Return an ellipsoid with a rough surface in the middle of the cube; bool."""
        radii = rng.uniform(*self.sides, 3) / 2
        table = perturbed_radii(LayerRecipe(roughness=self.roughness), rng)
        n = self.sides[1]
        out = np.empty((n, n, n), np.bool_)
        to_unit = random_rotations(1, rng)[0] / radii[:, None]
        kernels.rough_ball(np.hstack([table, table[:, :1]]), to_unit, np.full(3, -(n // 2)), out)
        return out

    def _along(self, axes: np.ndarray) -> list[np.ndarray]:
        """Return the distance of every voxel from the middle along three directions, the rows of ``axes``."""
        at = np.arange(self.sides[1]) - (self.sides[1] - 1) / 2
        z, y, x = at[:, None, None], at[None, :, None], at[None, None]
        return [a * z + b * y + c * x for a, b, c in axes]


def softened(mask: np.ndarray, side: int) -> np.ndarray:
    """Filter a volume with a Gaussian kernel of an odd ``side``, zeros around; 1 changes nothing."""
    if side == 1:
        return mask
    distance = np.arange(side) - side // 2
    taps = np.exp(-(distance**2) / (2 * EDGE_SIGMA**2))
    taps /= taps.sum()
    for axis in range(3):
        mask = ndimage.correlate1d(mask, taps, axis=axis, mode="constant")
    return mask
