"""The U-Net that denoises a diffused image (Dhariwal and Nichol 2021), as AnoDDPM, pDDPM and cDDPM use it."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Resample = Literal["up", "down"] | None
GROUPS = 32
LONGEST_PERIOD = 10_000


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a normalisation in 32 groups; narrow nets keep four channels per group.

    With a channel per group the embedding of t, which shifts whole channels, would be normalised away.
    """
    return nn.GroupNorm(math.gcd(GROUPS, max(1, channels // 4)), channels)


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Set a layer to 0, so that the branch that it ends adds nothing at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def resample(x: torch.Tensor, how: Resample) -> torch.Tensor:
    """Halve an image by averaging, double it by repetition, or leave it."""
    if how == "down":
        return functional.avg_pool2d(x, 2)
    return functional.interpolate(x, scale_factor=2, mode="nearest") if how == "up" else x


class TimeEmbedding(nn.Module):
    """Sines and cosines of t at ``width`` / 2 periods from 2π to 20,000π, then two dense layers to 4 · ``width``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.waves = width // 2
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """Embed int64 (n,) as (n, 4 · width)."""
        rate = torch.exp(torch.arange(self.waves, device=t.device) * (-math.log(LONGEST_PERIOD) / self.waves))
        phase = t.float()[:, None] * rate
        return self.dense(torch.cat([phase.sin(), phase.cos()], dim=1))


class TimedBlock(nn.Module):
    """Two 3×3 convolutions, each after group normalisation and swish; t shifts the channels in between.

    With ``how`` the block also changes the size, after the first swish and on the shortcut. With ``scaled`` t scales
    the channels too, and both after the second normalisation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, time_width: int, how: Resample = None, *, scaled: bool = False
    ) -> None:
        super().__init__()
        self.how: Resample = how
        self.scaled = scaled
        self.norm_in = group_norm(in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.shift = nn.Linear(time_width, 2 * out_channels if scaled else out_channels)
        self.norm_out = group_norm(out_channels)
        self.conv_out = zero(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) and the embedding (n, time_width) to (n, out_channels, H', W')."""
        h = self.conv_in(resample(functional.silu(self.norm_in(x)), self.how))
        shift = self.shift(functional.silu(time))[:, :, None, None]
        if self.scaled:
            scale, shift = shift.chunk(2, dim=1)
            h = self.norm_out(h) * (1 + scale) + shift
        else:
            h = self.norm_out(h + shift)
        h = self.conv_out(functional.silu(h))
        return self.shortcut(resample(x, self.how)) + h


class SelfAttention(nn.Module):
    """Every position attends to every other, in ``heads`` heads; the result is added to the input."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Keep the shape (n, channels, H, W); the embedding of t is not used."""
        n, channels, height, width = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(n, 3, self.heads, channels // self.heads, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        h = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(-1, -2).reshape(n, channels, height, width))


class Level(nn.ModuleList):
    """Layers, one after the other, that each take the image and the embedding of t."""

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = layer(x, time)
        return x


class DiffusionUNet(nn.Module):
    """U-Net of residual blocks with self-attention at some resolutions; every block down has a skip to one up.

    Level i has width ``base`` · ``multipliers``[i] and ``blocks`` residual blocks down, one more up; residual blocks
    also halve and double the size. The head starts at 0, so that the untrained net predicts no noise.

    Args:
        size: side of the square image, a multiple of 2^(levels − 1).
        base: width of the first level, a multiple of 4.
        multipliers: widths relative to ``base``; 1, 1, 2, 2, 4, 4 at 256².
        blocks: residual blocks per level.
        attention: sides of the feature maps on which positions attend to each other.
        heads: attention heads.
        scaled: t scales channels as well as shifting them.
        condition: length of a vector that conditions the net, embedded like t and set beside it; 0 is none.

    Raises:
        ValueError: the size cannot be halved often enough.
    """

    def __init__(
        self,
        size: int = 256,
        base: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4, 4),
        blocks: int = 2,
        attention: Sequence[int] = (16, 8),
        heads: int = 2,
        *,
        scaled: bool = False,
        condition: int = 0,
    ) -> None:
        super().__init__()
        factor = 2 ** (len(multipliers) - 1)
        if size % factor:
            raise ValueError(f"size={size}: {len(multipliers)} levels need a multiple of {factor}")
        time_width = 8 * base if condition else 4 * base
        self.time = TimeEmbedding(base)
        if condition:
            self.condition = nn.Sequential(nn.Linear(condition, 4 * base), nn.SiLU(), nn.Linear(4 * base, 4 * base))

        def block(in_channels: int, out_channels: int, how: Resample = None) -> TimedBlock:
            return TimedBlock(in_channels, out_channels, time_width, how, scaled=scaled)

        def level(in_channels: int, out_channels: int, side: int) -> Level:
            layers: list[nn.Module] = [block(in_channels, out_channels)]
            return Level([*layers, SelfAttention(out_channels, heads)] if side in attention else layers)

        self.stem = nn.Conv2d(1, base, 3, padding=1)
        self.down = nn.ModuleList()
        skips, channels = [base], base
        for i, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                self.down.append(level(channels, base * multiplier, size // 2**i))
                channels = base * multiplier
                skips.append(channels)
            if i < len(multipliers) - 1:
                self.down.append(Level([block(channels, channels, "down")]))
                skips.append(channels)
        self.middle = Level(
            [
                block(channels, channels),
                SelfAttention(channels, heads),
                block(channels, channels),
            ]
        )
        self.up = nn.ModuleList()
        for i, multiplier in reversed(list(enumerate(multipliers))):
            for j in range(blocks + 1):
                layers = level(channels + skips.pop(), base * multiplier, size // 2**i)
                channels = base * multiplier
                if i > 0 and j == blocks:
                    layers.append(block(channels, channels, "up"))
                self.up.append(layers)
        self.norm = group_norm(channels)
        self.head = zero(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Predict the noise in images (n, 1, size, size), or the clean images, at steps ``t``, int64 (n,).

        ``condition`` is (n, condition) where the net was built with one.
        """
        time = self.time(t)
        if condition is not None:
            time = torch.cat([time, self.condition(condition)], dim=1)
        x = self.stem(x)
        skips = [x]
        for layers in self.down:
            x = layers(x, time)
            skips.append(x)
        x = self.middle(x, time)
        for layers in self.up:
            x = layers(torch.cat([x, skips.pop()], dim=1), time)
        return self.head(functional.silu(self.norm(x)))
