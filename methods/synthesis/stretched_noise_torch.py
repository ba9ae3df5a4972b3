"""The stretched-noise masks as batched tensor code, for training on an accelerator."""

from functools import lru_cache

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from .stretched_noise import StretchedNoise


def draw(
    recipe: StretchedNoise, count: int, generator: torch.Generator, size: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return masks (bool) and stretched fields (uint8), both (count, size, size), on the generator's device."""
    device = generator.device
    noise = torch.randint(0, 256, (count, recipe.frame, recipe.frame), generator=generator, device=device)
    noise = _grey_levels(recipe, device)[noise]
    masks, fields = masks_of(recipe, noise)
    at = _positions(recipe, size or recipe.frame, device)
    return masks[:, at][:, :, at], fields[:, at][:, :, at]


def masks_of(recipe: StretchedNoise, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return masks and stretched fields of uint8 noise (count, frame, frame); equal to the compiled path."""
    field = blur(recipe, noise)
    low = field.amin(dim=(1, 2), keepdim=True)
    span = field.amax(dim=(1, 2), keepdim=True) - low
    stretched = torch.div((field - low) * 255, span.clamp(min=1), rounding_mode="floor")
    mask = (stretched > recipe.threshold).float()[:, None]
    for erode in (True, False, False, True):
        mask = 1 - dilate(1 - mask, recipe.halves) if erode else dilate(mask, recipe.halves)
    return mask[:, 0] > 0, stretched.to(torch.uint8)


def blur(recipe: StretchedNoise, noise: torch.Tensor) -> torch.Tensor:
    """Blur uint8 noise (count, n, n) exactly as the fixed-point filter does; int64 result.

    Both matrix products see whole numbers below 256 and sum to less than 2^24, so that they are exact in float32 and
    also where products are rounded to TF32.
    """
    matrix = _matrix(recipe, noise.device)
    with torch.autocast(noise.device.type, enabled=False):
        rows = matrix @ noise.float()
        high = torch.floor(rows / 256)
        total = (high @ matrix.T) * 256 + (rows - 256 * high) @ matrix.T
    return (total.long() + (1 << 15)) >> 16


def dilate(mask: torch.Tensor, halves: np.ndarray) -> torch.Tensor:
    """Dilate 0/1 masks (n, 1, H, W) by the structuring element whose rows reach ``halves`` pixels to either side.

    A convex, symmetric element is the union of one centred rectangle per row width.
    """
    radius = len(halves) // 2
    out = mask
    for half in np.unique(halves):
        reach = radius - int(np.argmax(halves >= half))
        size, pad = (2 * reach + 1, 2 * int(half) + 1), (reach, int(half))
        out = torch.maximum(out, max_pool2d(mask, size, stride=1, padding=pad))
    return out


@lru_cache(maxsize=8)
def _grey_levels(recipe: StretchedNoise, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(recipe.lut).to(device)


@lru_cache(maxsize=8)
def _positions(recipe: StretchedNoise, size: int, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(recipe.positions(size)).to(device)


@lru_cache(maxsize=8)
def _matrix(recipe: StretchedNoise, device: torch.device) -> torch.Tensor:
    """Return the blur of one axis as a matrix, reflect-101 borders, float32 (frame, frame)."""
    n, radius = recipe.frame, len(recipe.taps) // 2
    matrix = np.zeros((n, n), np.float32)
    for offset, tap in zip(range(-radius, radius + 1), recipe.taps, strict=True):
        source = np.abs(np.arange(n) + offset)
        source = np.where(source >= n, 2 * (n - 1) - source, source)
        np.add.at(matrix, (np.arange(n), source), np.float32(tap))
    return torch.from_numpy(matrix).to(device)
