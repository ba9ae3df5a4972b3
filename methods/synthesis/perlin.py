"""Perlin noise as batched tensor code: the mask source of DRAEM (Zavrtanik et al. 2021)."""

import math

import torch
from torch.nn.functional import affine_grid, grid_sample

MAX_ANGLE = 90.0


def perlin_noise(
    count: int, size: int, generator: torch.Generator, *, octaves: int = 5, max_angle: float = MAX_ANGLE
) -> torch.Tensor:
    """Draw rotated Perlin noise, float32 (count, size, size), about −1 … 1, on the generator's device.

    Each axis of each sample has 2^k lattice cells with k uniform in 0 … ``octaves``; the sample is turned by a uniform
    angle up to ``max_angle`` degrees; what the turn brings in from outside the frame is 0. The noise is evaluated at
    the turned positions, so that nothing is interpolated twice.
    """
    device = generator.device
    cells = 2 ** torch.randint(0, octaves + 1, (count, 2), generator=generator, device=device)
    nodes = 2**octaves + 1
    angles = torch.rand(count, nodes * nodes, generator=generator, device=device) * (2 * math.pi)
    x, y = turned_positions(count, size, random_angles(count, max_angle, generator))
    inside = (x.abs() <= 1) & (y.abs() <= 1)
    x = (x + 1) * 0.5 * cells[:, 0, None, None]
    y = (y + 1) * 0.5 * cells[:, 1, None, None]
    column, row = x.floor().clamp_(0, nodes - 2), y.floor().clamp_(0, nodes - 2)
    fx, fy = x - column, y - row
    first = (row * nodes + column).long().view(count, -1)
    cosines, sines = angles.cos(), angles.sin()

    def corner(dx: int, dy: int) -> torch.Tensor:
        at = first + (dy * nodes + dx)
        along_x = cosines.gather(1, at).view_as(fx) * (fx - dx)
        return along_x + sines.gather(1, at).view_as(fy) * (fy - dy)

    wx, wy = _fade(fx), _fade(fy)
    top = torch.lerp(corner(0, 0), corner(1, 0), wx)
    bottom = torch.lerp(corner(0, 1), corner(1, 1), wx)
    return math.sqrt(2) * torch.lerp(top, bottom, wy) * inside


def random_angles(count: int, max_angle: float, generator: torch.Generator) -> torch.Tensor:
    """Return ``count`` uniform angles between −``max_angle`` and ``max_angle`` degrees, in radians."""
    uniform = torch.rand(count, generator=generator, device=generator.device) * 2 - 1
    return uniform * math.radians(max_angle)


def turned_positions(count: int, size: int, angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the x and y, in −1 … 1 across the frame, that each pixel centre has after a turn; (count, size, size)."""
    grid = affine_grid(_turns(angles), [count, 1, size, size], align_corners=False)
    return grid[..., 0], grid[..., 1]


def rotate(images: torch.Tensor, angles: torch.Tensor, *, nearest: bool = False) -> torch.Tensor:
    """Turn float images (n, H, W) about their centre, zeros from outside; bilinear, or nearest for masks."""
    grid = affine_grid(_turns(angles), [len(images), 1, *images.shape[-2:]], align_corners=False)
    mode = "nearest" if nearest else "bilinear"
    return grid_sample(images[:, None], grid, mode=mode, padding_mode="zeros", align_corners=False)[:, 0]


def _turns(angles: torch.Tensor) -> torch.Tensor:
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    return torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)


def _fade(t: torch.Tensor) -> torch.Tensor:
    return t * t * t * (t * (t * 6 - 15) + 10)
