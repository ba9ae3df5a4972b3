"""Random-shape pseudo outliers with several fillings: shifted, constant or textured."""

from __future__ import annotations

from typing import Literal

import torch

from .shift import ShiftedRegions

Fill = Literal["shift", "constant", "texture"]


class FilledRegions(ShiftedRegions):
    """The masks of :class:`.ShiftedRegions` with a choice of what replaces the tissue.

    Deng and Li 2022 as far as it survives in the liver paper (docs/methods/random-shape.md).

    Args:
        fill: ``shift`` adds C to the pixels; ``constant`` paints the tissue's mean plus C; ``texture`` paints the
            stretched noise behind the mask, scaled so that its mean there is the tissue's plus C.
    """

    def __init__(self, size: int, device: str, seed: int, *, fill: Fill = "shift", **settings) -> None:
        super().__init__(size, device, seed, control_texture=fill == "texture", **settings)
        self.fill = fill

    def __call__(self, images: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return augmented images, float32 in [0, 1], and masks, bool; both (n, H, W).

        Args:
            images: uint8 (n, H, W).
            rois: bool (n, H, W); masks lie inside.
        """
        masks, fields = self._masks((images > 0) & rois)
        clean = images.float()
        shift = torch.from_numpy(self.draw_shifts(len(images))).to(images.device)[:, None, None]
        filled = clean + shift
        if self.fill != "shift":
            filled = _mean(clean, rois) + shift
        if self.fill == "texture":
            noise = fields.to(clean.device).float()
            filled = noise * (filled / _mean(noise, masks).clamp(min=1))
        return torch.where(masks, filled.clamp(0, 255).floor(), clean) / 255, masks


def _mean(images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return the mean of images (n, H, W) over masks, (n, 1, 1)."""
    return (images * inside).sum(dim=(1, 2), keepdim=True) / inside.sum(dim=(1, 2), keepdim=True).clamp(min=1)
