"""Synthetic lung lesions: random blobs filled with filtered salt noise (Yao et al. 2021, §III-C)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from . import volume_kernels as kernels
from .lesion_recipe import LesionRecipe, check
from .lung_shapes import Blobs, draw_ellipsoids, paint_blobs
from .random_places import random_voxels
from .salt_texture import Look, brightness_factor, filtered_salt


@dataclass(frozen=True)
class Lesion:
    """What one merged blob got: its texture's numbers and what they gave inside blob and ROI.

    Attributes:
        crop: index of the crop in its batch.
        box: first voxels and ends (exclusive) of the blob's box, z, y, x.
        look: the numbers that were drawn.
        beta: factor that brought the filtered salt to μ0.
        voxels: voxels inside blob and ROI.
        mean, spread: mean and standard deviation of the texture there, before the maximum with the image.
        bright: share of these voxels at or above τ.
    """

    crop: int
    box: tuple[tuple[int, int, int], tuple[int, int, int]]
    look: Look
    beta: float
    voxels: int
    mean: float
    spread: float
    bright: float


class LesionGenerator:
    """Puts synthetic lesions into healthy lung (Yao et al. 2021, §III-C).

    The lesions only ever brighten: the result is the maximum of image and textures (their eq. 9). Ellipsoids are
    placed on random ROI voxels, cut at the ends of the crop, merged where they touch (26 neighbours), and limited to
    the ROI at the end.

    Args:
        recipe: the numbers.
        seed: a seed or a generator; its state alone decides what is drawn.
    """

    def __init__(self, recipe: LesionRecipe | None = None, seed: int | np.random.Generator = 0) -> None:
        self.recipe = recipe or LesionRecipe()
        self.lesions: tuple[Lesion, ...] = ()
        self._rng = np.random.default_rng(seed)

    def __call__(self, image: np.ndarray, roi: np.ndarray, fullness: float) -> tuple[np.ndarray, np.ndarray]:
        """Return one crop with lesions, float32, and the voxels of the blobs, bool; :attr:`lesions` describes them.

        A crop without ROI comes back unchanged.

        Args:
            image: float32 (z, y, x) in [0, 1].
            roi: bool (z, y, x).
            fullness: λ, ROI voxels of this crop over those of the fullest crop.

        Raises:
            ValueError: shapes differ, or ``fullness`` is negative.
        """
        augmented, blobs = self.generate(image[None], roi[None], np.array([fullness]))
        return augmented[0], blobs[0]

    def generate(self, images: np.ndarray, rois: np.ndarray, fullness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a batch of crops with lesions, as :meth:`__call__` for float32 (n, z, y, x) and λ (n,)."""
        check(images.shape, rois.shape, fullness)
        augmented = np.array(images, np.float32, order="C")
        rois = np.ascontiguousarray(rois, np.bool_)
        masks = np.zeros(augmented.shape, np.bool_)
        lesions: list[Lesion] = []
        for crop, share in enumerate(np.asarray(fullness, float)):
            blobs = self._shapes(rois[crop], share)
            for which in range(len(blobs.start)):
                lesion = self._fill(blobs, which, rois[crop], augmented[crop], masks[crop], crop)
                lesions += [lesion] if lesion else []
        self.lesions = tuple(lesions)
        return augmented, masks

    def _shapes(self, roi: np.ndarray, fullness: float) -> Blobs:
        ellipsoids = draw_ellipsoids(self.recipe, self._rng, fullness)
        picks = self._rng.random(len(ellipsoids))
        if not len(ellipsoids) or not roi.any():
            none = np.zeros((0, 3), np.int64)
            return Blobs(np.zeros(roi.shape, np.uint16), np.array([-1]), none, none)
        centres = random_voxels(roi, picks)
        return paint_blobs(ellipsoids, centres, roi.shape, self._rng, merge_all=not self.recipe.salt_noise)

    def _fill(
        self, blobs: Blobs, which: int, roi: np.ndarray, image: np.ndarray, mask: np.ndarray, crop: int
    ) -> Lesion | None:
        """Draw the texture of one merged blob and put it in place; None where there is nothing to put."""
        start, stop = blobs.start[which], blobs.stop[which]
        if not roi[tuple(map(slice, start, stop))].any():
            return None
        whole = self.recipe.texture_extent == "crop"
        look = self.recipe.draw_look(self._rng)
        texture = filtered_salt(self.recipe.salt, look, roi.shape if whole else tuple(stop - start), self._rng)
        beta = brightness_factor(self.recipe.salt, look, texture)
        if beta is None:
            return None
        count, total, squares, bright = kernels.inject(
            texture[tuple(map(slice, start, stop))] if whole else texture,
            beta,
            start,
            blobs.component,
            which,
            blobs.owner,
            roi,
            self.recipe.tau,
            image,
            mask,
        )
        if not count:
            return None
        mean = total / count
        box = (tuple(start.tolist()), tuple(stop.tolist()))
        spread = math.sqrt(max(squares / count - mean**2, 0.0))
        return Lesion(crop, box, look, beta, count, mean, spread, bright / count)
