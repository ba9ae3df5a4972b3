"""The 3D U-Net of the winner of MOOD 2022 (Naval Marimont and Tarroni 2023, released code)."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

SLOPE = 0.01
MOST_HEADS = 4


def stage(inputs: int, outputs: int, stride: int, norm: str) -> nn.Sequential:
    """Twice a 3×3×3 convolution without bias, normalisation, leaky ReLU; the first one has the stride."""
    layers: list[nn.Module] = []
    for i, step in ((inputs, stride), (outputs, 1)):
        normalisation = nn.BatchNorm3d(outputs) if norm == "batch" else nn.InstanceNorm3d(outputs, affine=True)
        layers += [nn.Conv3d(i, outputs, 3, step, padding=1, bias=False), normalisation, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


class MoodUNet(nn.Module):
    """U-Net with strided convolutions down, transposed convolutions up, and a head on each of the four finest levels.

    Args:
        channels: widths of the levels.
        norm: ``batch`` as published, or ``instance`` for small batches.
    """

    def __init__(
        self, channels: Sequence[int] = (32, 64, 128, 256, 320, 320), norm: Literal["batch", "instance"] = "batch"
    ) -> None:
        super().__init__()
        make = partial(stage, norm=norm)
        downs = [(1, channels[0], 1), *((i, o, 2) for i, o in pairwise(channels))]
        ups = list(pairwise(channels[::-1]))
        self.down = nn.ModuleList(make(*down) for down in downs)
        self.enlarge = nn.ModuleList(nn.ConvTranspose3d(i, o, 2, stride=2, bias=False) for i, o in ups)
        self.up = nn.ModuleList(make(2 * o, o, 1) for _, o in ups)
        finest = channels[: min(MOST_HEADS, len(ups))]
        self.heads = nn.ModuleList(nn.Conv3d(width, 1, 1, bias=False) for width in finest)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)

    def pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of every head, finest first; each level has half the sides of the one before.

        Args:
            x: (n, 1, Z, Y, X); every side a multiple of 2^(levels − 1).
        """
        features: list[torch.Tensor] = []
        for block in self.down:
            x = block(features[-1] if features else x)
            features.append(x)
        maps: list[torch.Tensor] = []
        *skips, x = features
        for larger, block in zip(self.enlarge, self.up, strict=True):
            x = block(torch.cat([larger(x), skips.pop()], dim=1))
            maps.insert(0, x)
        return [head(level) for head, level in zip(self.heads, maps, strict=False)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the finest level, shape of ``x``."""
        return self.pyramid(x)[0]
