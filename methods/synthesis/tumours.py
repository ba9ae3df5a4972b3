"""Synthetic tumours in healthy organs, made in training (Hu et al. 2023, §3; docs/methods/synthetic-tumors.md)."""

from dataclasses import dataclass

import numpy as np

from ...datasets.case import Spacing
from . import volume_kernels as kernels
from .salt_texture import Look, SaltSettings, brightness_factor, filtered_salt
from .smooth_fields import half_taps
from .tumour_shapes import KINDS, Range, Tumours, draw_tumours, paint_tumours


@dataclass(frozen=True, kw_only=True)
class TumourRecipe:
    """The numbers of the generator; a pair is a uniform range.

    The texture is NormNet's filtered salt with narrower ranges (:mod:`~.salt_texture`). Lengths are mm;
    the filters of the texture are voxels of 1 mm and shrink with the geometric mean of a coarser voxel.

    Attributes:
        probability: chance that an organ gets tumours at all.
        kinds: size classes, one of which is drawn per organ.
        radius_scale: factor on radii and displacements.
        sigma_a, sigma_b: choices for the smoothness of the probability map and the filter of the salt.
        a_low, a_high: lowest and highest probability.
        mean_threshold, mu0: the filtered salt above the threshold gets the mean μ0.
        difference: HU that a texture of 1 changes.
        sign: −1 subtracts (tumours of the liver), 1 adds (lesions of the lung).
        edge: standard deviation of the blurred edge.
    """

    probability: float = 0.9
    kinds: tuple[str, ...] = KINDS
    radius_scale: float = 1.0
    sigma_a: tuple[float, ...] = (3.0, 6.0, 9.0, 12.0, 15.0)
    sigma_b: tuple[float, ...] = (4.0, 7.0)
    a_low: Range = (0.04, 0.06)
    a_high: Range = (0.19, 0.21)
    mean_threshold: float = 0.12
    mu0: Range = (0.5, 0.55)
    difference: Range = (65.0, 145.0)
    sign: int = -1
    edge: Range = (1.0, 2.0)

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds {self.kinds}: choose some of {', '.join(KINDS)}")
        if self.sign not in (-1, 1):
            raise ValueError(f"sign {self.sign}: use -1 for darker or 1 for brighter tumours")


class TumourGenerator:
    """Draws the tumours of an organ and puts the part of them that lies in a crop into the image.

    Args:
        recipe: the numbers.
        window: HU that the image's 0 and 1 stand for.
        rng: source of all randomness.
    """

    def __init__(self, recipe: TumourRecipe, window: tuple[float, float], rng: np.random.Generator) -> None:
        self.recipe = recipe
        self.width = window[1] - window[0]
        self._rng = rng
        self._salt = SaltSettings(mean_threshold=recipe.mean_threshold)

    def draw(self, roi: np.ndarray, spacing: Spacing) -> Tumours:
        """Return the tumours of an organ, none with probability 1 − ``probability``.

        Args:
            roi: bool (z, y, x).
            spacing: mm, order z, y, x.
        """
        r = self.recipe
        if self._rng.random() >= r.probability:
            return Tumours(np.zeros((0, 3), np.int64), np.zeros((0, 3)), np.zeros(0))
        kind = r.kinds[int(self._rng.integers(len(r.kinds)))]
        return draw_tumours(kind, roi, spacing, self._rng, r.radius_scale)

    def place(
        self, image: np.ndarray, roi: np.ndarray, tumours: Tumours, origin: np.ndarray, spacing: Spacing
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a crop with tumours, float32, and their mask, bool.

        The mask is blurred before it scales the texture, so that the image also changes a little around the mask; both
        stay inside the ROI.

        Args:
            image: float32 (z, y, x) in [0, 1].
            roi: bool, same shape.
            origin: int64 (3,), first voxel of the crop in the volume of the tumours.
        """
        r, rng = self.recipe, self._rng
        mask = paint_tumours(tumours, origin, image.shape, spacing, rng) & roi
        if not mask.any():
            return np.array(image, np.float32), mask
        texture = self._texture(image.shape, spacing)
        soft = mask.astype(np.float32)
        sigma = rng.uniform(*r.edge)
        kernels.smooth(soft, *(half_taps(sigma / s, np.float32) for s in spacing))
        change = np.float32(r.sign * rng.uniform(*r.difference) / self.width) * texture * soft
        return np.where(roi, np.clip(image + change, 0, 1), image).astype(np.float32), mask

    def _texture(self, shape: tuple[int, ...], spacing: Spacing) -> np.ndarray:
        """Return filtered salt over the crop, float32 in [0, 1]."""
        r, rng = self.recipe, self._rng
        voxel = float(np.prod(spacing)) ** (1 / 3)
        look = Look(
            sigma_a=float(rng.choice(r.sigma_a)) / voxel,
            a_low=rng.uniform(*r.a_low),
            a_high=rng.uniform(*r.a_high),
            sigma_b=float(rng.choice(r.sigma_b)) / voxel,
            mu0=rng.uniform(*r.mu0),
        )
        salt = filtered_salt(self._salt, look, shape, rng)
        beta = brightness_factor(self._salt, look, salt)
        return np.zeros(shape, np.float32) if beta is None else np.clip(salt * np.float32(beta), 0, 1)
