"""Means of an organ's voxels over cells of a volume, and the way back: what lies outside the organ enters neither."""

import math

import torch
from torch.nn import functional


def pooled(maps: torch.Tensor, roi: torch.Tensor, pool: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return means over the organ's voxels of each cell, 0 in cells without any, and which cells have some.

    Args:
        maps: (n, channels, Z, Y, X).
        roi: (n, 1, Z, Y, X), 1 inside the organ and 0 outside.
        pool: sides of a cell in voxels; a volume need not be a multiple of it.

    Returns:
        float32 (n, channels, z, y, x) and (n, 1, z, y, x), the latter 1 or 0.
    """
    share = functional.avg_pool3d(roi.float(), pool, ceil_mode=True)
    sums = functional.avg_pool3d(maps.float() * roi, pool, ceil_mode=True)
    return sums / share.clamp(min=1e-6), (share > 0).float()


def spread(cells: torch.Tensor, filled: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Interpolate linearly between the cells that show the organ, 0 where none is near.

    Args:
        cells: (n, 1, z, y, x).
        filled: same shape, 1 for the cells that count and 0 for the others.
        shape: (Z, Y, X) of the result.
    """
    values, weights = (
        functional.interpolate(part, shape, mode="trilinear", align_corners=False) for part in (cells * filled, filled)
    )
    return torch.where(weights > 0, values / weights.clamp(min=1e-6), 0.0)


def waves(places: torch.Tensor, octaves: int) -> torch.Tensor:
    """Return sines and cosines of π · 2^k · places for k < ``octaves``, (n, 6 · octaves, …) from (n, 3, …)."""
    phases = torch.cat([places * (math.pi * 2**k) for k in range(octaves)], dim=1)
    return torch.cat([phases.sin(), phases.cos()], dim=1)
