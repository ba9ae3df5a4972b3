"""Synthetic lung lesions: random blobs filled with filtered salt noise (Yao et al. 2021, §III-C)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import volume_kernels as kernels
from .lung_shapes import Blobs, draw_ellipsoids, paint_blobs
from .random_places import random_voxels
from .salt_texture import Look, SaltSettings, brightness_factor, filtered_salt

if TYPE_CHECKING:
    import torch

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class LesionRecipe:
    """The numbers of the generator (Yao et al. 2021, §III-C; docs/methods.md says which ones are ours).

    Radii, displacements and standard deviations are voxels of the crop; a pair is a uniform range.

    Attributes:
        small_count, medium_count: ellipsoids per unit of fullness λ, rounded after the draw.
        large_probability: chance of one large ellipsoid per unit of λ.
        small_radius, medium_radius, large_radius: range of each of the three radii of an ellipsoid.
        radius_scale: factor of radii, displacements and their smoothness; 0.5 on a grid of twice the spacing.
        elastic_sigma: smoothness of the displacements.
        elastic_amplitude: least amplitude in voxels, and the largest as a share of the mean radius.
        shapes: ``plain`` puts ``plain_count`` undeformed balls of ``plain_radius`` into any crop (Table V).
        prob_map: draw the salt with a probability that varies in space; off, it is ``plain_probability`` (Table V).
        salt_noise: vary the filter and the brightness of the salt and draw one texture per merged blob; off, they are
            ``plain_sigma_b`` and ``plain_mu0`` and all blobs of a crop are cut from one texture (Table V).
        sigma_a: smoothness of the probability map.
        a_range, a_gap: range of the lowest and the highest probability, and their least difference.
        sigma_b_fine, sigma_b_coarse, sigma_b_fine_share: filter of the salt, and how often it is the fine one.
        mean_threshold: filtered salt above it counts for the mean that is set to μ0.
        mu0: brightness, in units of the window.
        guard_share: share of voxels whose mean stands in where none is above ``mean_threshold``; a blob without any
            salt is left out.
        texture_extent: ``box`` draws a texture over the bounding box of the merged blob, ``crop`` over the whole crop;
            the lowest and highest probability and the mean refer to it.
        tau: brightness that :class:`Lesion` counts as bright (−500 HU).
    """

    small_count: Range = (5.0, 10.0)
    medium_count: Range = (5.0, 10.0)
    large_probability: float = 0.2
    small_radius: Range = (3.0, 10.0)
    medium_radius: Range = (10.0, 32.0)
    large_radius: Range = (32.0, 64.0)
    radius_scale: float = 1.0
    elastic_sigma: Range = (4.0, 8.0)
    elastic_amplitude: Range = (1.0, 0.3)
    shapes: Literal["full", "plain"] = "full"
    plain_count: int = 5
    plain_radius: float = 12.0
    prob_map: bool = True
    plain_probability: float = 0.2
    salt_noise: bool = True
    plain_sigma_b: float = 2.0
    plain_mu0: float = 150 / 255
    sigma_a: Range = (2.0, 20.0)
    a_range: Range = (0.0, 0.3)
    a_gap: float = 0.15
    sigma_b_fine: Range = (0.8, 2.0)
    sigma_b_coarse: Range = (2.0, 5.0)
    sigma_b_fine_share: float = 0.7
    mean_threshold: float = 0.2
    mu0: Range = (0.4, 0.8)
    guard_share: float = 0.01
    texture_extent: Literal["box", "crop"] = "box"
    tau: float = 1 / 3

    def __post_init__(self) -> None:
        if self.a_range[1] - self.a_range[0] <= self.a_gap:
            raise ValueError(f"a_gap {self.a_gap}: must be smaller than the width of a_range {self.a_range}")
        if self.radius_scale <= 0:
            raise ValueError(f"radius_scale {self.radius_scale}: must be above 0")
        if not 0 < self.guard_share <= 1:
            raise ValueError(f"guard_share {self.guard_share}: must be above 0 and at most 1")
        for name in ("shapes", "texture_extent"):
            allowed = {"shapes": ("full", "plain"), "texture_extent": ("box", "crop")}[name]
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r}: expected one of {', '.join(allowed)}")

    @property
    def salt(self) -> SaltSettings:
        """What the textures have in common."""
        return SaltSettings(
            mean_threshold=self.mean_threshold,
            guard_share=self.guard_share,
            probability=None if self.prob_map else self.plain_probability,
        )

    def draw_look(self, rng: np.random.Generator) -> Look:
        """Draw the numbers of one texture."""
        lower, upper = self.a_range
        # Uniform on the triangle of all pairs with the gap: what redrawing until the gap is large enough ends at.
        first, second = np.sort(rng.random(2)) * (upper - lower - self.a_gap) + lower
        a_low, a_high = (first, second + self.a_gap) if self.prob_map else (self.plain_probability,) * 2
        fine = rng.random() < self.sigma_b_fine_share
        sigma_a, sigma_b = (
            rng.uniform(*self.sigma_a),
            rng.uniform(*(self.sigma_b_fine if fine else self.sigma_b_coarse)),
        )
        mu0 = rng.uniform(*self.mu0)
        if not self.salt_noise:
            sigma_b, mu0 = self.plain_sigma_b, self.plain_mu0
        return Look(sigma_a=sigma_a, a_low=a_low, a_high=a_high, sigma_b=sigma_b, mu0=mu0)


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
        seed: a seed or a generator; its state alone decides what :meth:`__call__` and :meth:`generate` draw.
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

    def generate_on(
        self, images: torch.Tensor, rois: torch.Tensor, fullness: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch of crops with lesions on the images' device, as :meth:`generate` in batched tensor code.

        Args:
            images: float (n, z, y, x).
            rois: bool (n, z, y, x).
            fullness: λ, (n,).
            generator: on the images' device; its state alone decides what is drawn.
        """
        from .lung_lesions_torch import generate

        return generate(self.recipe, images, rois, fullness, generator)

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


def check(image: tuple[int, ...], roi: tuple[int, ...], fullness: np.ndarray | torch.Tensor) -> None:
    """Refuse shapes that do not fit together and a negative fullness."""
    if len(image) != 4 or image != roi or (image[0],) != tuple(fullness.shape):
        raise ValueError(
            f"images {image}, rois {roi}, fullness {tuple(fullness.shape)}: expected (n, z, y, x) twice and (n,)"
        )
    if len(fullness) and float(fullness.min()) < 0:
        raise ValueError(f"fullness {float(fullness.min())}: must not be negative")
