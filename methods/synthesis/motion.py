"""Small random rotations, shifts and changes of scale of training images."""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class Motion:
    """Turn, shift and scale images about their centre, each image by amounts of its own; zeros come in from outside.

    Attributes:
        turn: largest angle in degrees.
        shift: largest shift along each axis in pixels.
        zoom: largest relative change of scale.
        share: share of images that are moved.
    """

    turn: float
    shift: float
    zoom: float
    share: float

    def __call__(self, images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """Move images (n, c, H, W), bilinearly."""
        return moved(images, self.matrices(len(images), images.shape[-1], draws))

    def matrices(self, count: int, size: int, draws: torch.Generator) -> torch.Tensor:
        """Draw where each image of ``size`` pixels is read, (count, 2, 3), as ``affine_grid`` takes it."""
        uniform = 2 * torch.rand(count, 4, generator=draws, device=draws.device) - 1
        chosen = torch.rand(count, generator=draws, device=draws.device) < self.share
        angle, scale = uniform[:, 0] * math.radians(self.turn), 1 + uniform[:, 1] * self.zoom
        offset = uniform[:, 2:] * (2 * self.shift / size)
        cosine, sine = angle.cos() / scale, angle.sin() / scale
        rows = [torch.stack([cosine, -sine, offset[:, 0]], 1), torch.stack([sine, cosine, offset[:, 1]], 1)]
        still = torch.eye(2, 3, device=draws.device)
        return torch.where(chosen[:, None, None], torch.stack(rows, dim=1), still)


def moved(images: torch.Tensor, matrices: torch.Tensor, *, nearest: bool = False) -> torch.Tensor:
    """Read images (n, c, H, W) where matrices (n, 2, 3) say, bilinearly, or the nearest pixel for masks."""
    grid = affine_grid(matrices, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="nearest" if nearest else "bilinear", align_corners=False)
