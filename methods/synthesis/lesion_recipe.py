"""The numbers of the synthetic lung lesions (Yao et al. 2021, §III-C)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .salt_texture import Look, SaltSettings

if TYPE_CHECKING:
    import torch

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class LesionRecipe:
    """The numbers of the generator (Yao et al. 2021, §III-C; docs/methods/normnet.md says which ones are ours).

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


def check(image: tuple[int, ...], roi: tuple[int, ...], fullness: np.ndarray | torch.Tensor) -> None:
    """Refuse shapes that do not fit together and a negative fullness."""
    if len(image) != 4 or image != roi or (image[0],) != tuple(fullness.shape):
        raise ValueError(
            f"images {image}, rois {roi}, fullness {tuple(fullness.shape)}: expected (n, z, y, x) twice and (n,)"
        )
    if len(fullness) and float(fullness.min()) < 0:
        raise ValueError(f"fullness {float(fullness.min())}: must not be negative")
