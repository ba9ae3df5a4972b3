"""Coarse Gaussian noise of the denoising autoencoder (Kascenas et al. 2022, §2)."""

from __future__ import annotations

import torch
from torch.nn import functional


def coarse_noise(count: int, size: int, grid: int, std: float, generator: torch.Generator) -> torch.Tensor:
    """Draw normal noise on a coarse grid, enlarge it bilinearly and roll each image by a random shift per axis.

    Args:
        size: side of the square images in pixels.
        grid: side of the coarse grid.
        std: standard deviation on the coarse grid.
        generator: decides the noise and the device.

    Returns:
        float32, shape (count, 1, size, size), on the generator's device.
    """
    device = generator.device
    noise = std * torch.randn((count, 1, grid, grid), generator=generator, device=device)
    noise = functional.interpolate(noise, size=(size, size), mode="bilinear", align_corners=True)
    shift = torch.randint(size, (2, count, 1), generator=generator, device=device)
    rows, columns = (torch.arange(size, device=device) - shift) % size
    image = torch.arange(count, device=device)[:, None, None]
    return noise[image, 0, rows[:, :, None], columns[:, None, :]][:, None]
