"""Generator, critic and encoder of f-AnoGAN (Schlegl et al. 2019): the residual networks of WGAN-GP for 64² images."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from .layers import halvings

Norm = Callable[[int], nn.Module]
COARSEST = 4
WIDEST = 8


def layer_norm(channels: int) -> nn.GroupNorm:
    """Normalise an image over channels and pixels at once, then scale and shift each channel.

    A critic with a gradient penalty must treat images one by one, which batch normalisation does not.
    """
    return nn.GroupNorm(1, channels)


def widths(size: int, dim: int) -> list[int]:
    """Return the channels at every resolution from ``size`` down to 4 × 4: dim, 2·dim, 4·dim, 8·dim, 8·dim for 64²."""
    return [dim * min(WIDEST, 2**i) for i in range(halvings(size, COARSEST) + 1)]


class ResBlock(nn.Module):
    """Pre-activation residual block that halves or doubles the image; the shortcut is a 1×1 convolution.

    Down: norm, ReLU, 3×3, norm, ReLU, 3×3, mean of 2×2. Up: norm, ReLU, repeat 2×2, 3×3, norm, ReLU, 3×3. The first
    convolution has no bias; it keeps the width on the way down and changes it on the way up.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, how: Literal["up", "down"]) -> None:
        super().__init__()
        self.how = how
        between = in_channels if how == "down" else out_channels
        self.norm1, self.norm2 = norm(in_channels), norm(between)
        self.conv1 = nn.Conv2d(in_channels, between, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(between, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) to (n, out_channels, H/2, W/2) or (n, out_channels, 2H, 2W)."""
        h = functional.relu(self.norm1(x))
        if self.how == "up":
            h = self.conv1(functional.interpolate(h, scale_factor=2, mode="nearest"))
            h = self.conv2(functional.relu(self.norm2(h)))
            return h + functional.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")
        h = self.conv2(functional.relu(self.norm2(self.conv1(h))))
        return functional.avg_pool2d(h, 2) + self.shortcut(functional.avg_pool2d(x, 2))


class Trunk(nn.Sequential):
    """3×3 convolution, then halving blocks to 4 × 4, flattened: what critic and encoder have in common."""

    def __init__(self, size: int, dim: int, norm: Norm) -> None:
        channels = widths(size, dim)
        blocks = [ResBlock(i, o, norm, "down") for i, o in pairwise(channels)]
        super().__init__(nn.Conv2d(1, dim, 3, padding=1), *blocks, nn.Flatten())
        self.features = channels[-1] * COARSEST**2


class Generator(nn.Module):
    """Dense layer to 4 × 4, doubling blocks, batch normalisation, ReLU, 3×3 convolution, tanh.

    Args:
        size: side of the image: 8, 16, 32, 64, …
        z: length of the latent vector.
        dim: channels at full resolution.
    """

    def __init__(self, size: int = 64, z: int = 128, dim: int = 64) -> None:
        super().__init__()
        channels = widths(size, dim)[::-1]
        self.shape = (channels[0], COARSEST, COARSEST)
        self.dense = nn.Linear(z, math.prod(self.shape))
        blocks = [ResBlock(i, o, nn.BatchNorm2d, "up") for i, o in pairwise(channels)]
        self.up = nn.Sequential(*blocks, nn.BatchNorm2d(dim), nn.ReLU(), nn.Conv2d(dim, 1, 3, padding=1), nn.Tanh())
        initialise(self)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map latent vectors (n, z) to images (n, 1, size, size) in [−1, 1]."""
        return self.up(self.dense(z).view(-1, *self.shape))


class Critic(nn.Module):
    """Trunk with layer normalisation and a dense layer to one number."""

    def __init__(self, size: int = 64, dim: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(size, dim, layer_norm)
        self.dense = nn.Linear(self.trunk.features, 1)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Judge images: (n,), larger = more real."""
        return self.dense(self.trunk(x))[:, 0]


class LatentEncoder(nn.Module):
    """Trunk with batch normalisation, a dense layer to the latent vector, tanh."""

    def __init__(self, size: int = 64, z: int = 128, dim: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(size, dim, nn.BatchNorm2d)
        self.dense = nn.Linear(self.trunk.features, z)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (n, 1, size, size) to latent vectors (n, z) in [−1, 1]."""
        return torch.tanh(self.dense(self.trunk(x)))


def initialise(net: nn.Module) -> None:
    """Draw weights uniformly: variance 4 / (fan in + fan out) before a ReLU, half of it on shortcuts and dense layers.

    Biases start at 0 (Gulrajani et al. 2017, the residual networks of WGAN-GP).
    """
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            relu = isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and name != "trunk.0"
            nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(2) if relu else 1.0)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
