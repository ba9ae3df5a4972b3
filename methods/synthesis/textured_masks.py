"""Local anomalies of GLASS (Chen et al. 2024): one or two Perlin masks joined, filled with a texture."""

from dataclasses import dataclass

import torch

from .textures import OPERATIONS, OPERATIONS_PER_TEXTURE, perlin_noise, to_all

SHARE = (0.5, 0.1, 0.2, 0.8)
"""Mean, standard deviation, least and greatest of β, the share of the image in a blended texture."""


@dataclass(eq=False)
class TexturedMasks:
    """Blend a texture into a mask inside the organ: out = β·image + (1 − β)·texture.

    A mask is one field above the threshold, or the union or the intersection of two, each in a third of the slices. The
    texture is another slice under three random operations; outside its organ it is the mean of the organ.

    Attributes:
        size: side of the slices.
        generator: source of all randomness; its device does the work.
        octaves: largest binary logarithm of the number of Perlin cells per axis.
        threshold: Perlin value above which a pixel belongs to a mask.
        draws: masks drawn per slice, of which the first one that meets the organ is taken. Waiting for one would stop
            an accelerator; where all miss, the slice stays healthy.
    """

    size: int
    generator: torch.Generator
    octaves: int = 5
    threshold: float = 0.5
    draws: int = 4

    def __call__(
        self, images: torch.Tensor, rois: torch.Tensor, textures: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return uint8 images altered, float32 in [0, 1], and masks inside ``rois``, bool; all (n, H, W).

        Args:
            textures: as many other slices and their regions of interest.
        """
        clean = images.float() / 255
        masks = self.masks(rois)
        mean, spread, least, greatest = SHARE
        share = torch.randn(len(images), generator=self.generator, device=images.device) * spread + mean
        share = share.clamp(least, greatest)[:, None, None]
        slices, organs = textures
        filling = slices.float() / 255
        inside = (filling * organs).sum((1, 2), keepdim=True) / organs.sum((1, 2), keepdim=True).clamp(min=1)
        filling = self._varied(torch.where(organs, filling, inside))
        return torch.where(masks, share * clean + (1 - share) * filling, clean), masks

    def _varied(self, textures: torch.Tensor) -> torch.Tensor:
        """Apply three different random operations to each texture, without waiting for which they are."""
        chances = torch.rand(len(textures), len(OPERATIONS), generator=self.generator, device=self.generator.device)
        for numbers in chances.argsort(dim=1)[:, :OPERATIONS_PER_TEXTURE].T:
            textures = to_all(textures, numbers, self.generator)
        return textures

    def masks(self, rois: torch.Tensor) -> torch.Tensor:
        """Draw masks inside regions of interest, bool (n, H, W); a mask is empty where every draw missed."""
        count = len(rois)
        drawn = torch.stack([self._joined(count) & rois for _ in range(self.draws)])
        first = drawn.flatten(2).any(dim=2).to(torch.uint8).argmax(dim=0)
        return drawn[first, torch.arange(count, device=rois.device)]

    def _joined(self, count: int) -> torch.Tensor:
        one, other = (
            perlin_noise(count, self.size, self.generator, octaves=self.octaves) > self.threshold for _ in range(2)
        )
        kind = torch.randint(3, (count, 1, 1), generator=self.generator, device=self.generator.device)
        return torch.where(kind == 0, one, torch.where(kind == 1, one | other, one & other))
