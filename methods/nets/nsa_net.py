"""The network of NSA: a ResNet-18 encoder and a transposed residual decoder (Schlüter et al. 2022, released code)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import nn

from .layers import check_sides


class TransposedBlock(nn.Module):
    """Residual block that doubles the grid: 3×3 transposed convolution, 3×3 convolution, 1×1 transposed shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 1, stride=2, output_padding=1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, inputs, H, W) to (n, outputs, 2·H, 2·W)."""
        return torch.relu(self.main(x) + self.shortcut(x))


class NSANet(nn.Module):
    """Encoder and decoder without skips between the two; one logit per pixel.

    Two 1×1 convolutions halve the encoder's width twice, three blocks halve it three times more and double the grid
    each, then a bilinear step and a 7×7 transposed convolution double it.

    Args:
        channels, layers: widths and blocks of the encoder's four groups; the defaults are ResNet-18. The last width is
            a multiple of 32.
    """

    def __init__(self, channels: Sequence[int] = (64, 128, 256, 512), layers: Sequence[int] = (2, 2, 2, 2)) -> None:
        super().__init__()
        self.encoder: Any = timm.create_model(
            "resnet18",
            pretrained=False,
            in_chans=1,
            num_classes=0,
            channels=tuple(channels),
            layers=tuple(layers),
            zero_init_last=False,
        )
        widths = [channels[-1] // 2**k for k in range(6)]
        self.narrow = nn.Sequential(*(nn.Conv2d(i, o, 1, bias=False) for i, o in pairwise(widths[:3])))
        self.up = nn.Sequential(*(TransposedBlock(i, o) for i, o in pairwise(widths[2:])))
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.head = nn.ConvTranspose2d(widths[-1], 1, 7, stride=2, padding=3, output_padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map grey images (n, 1, H, W) in [0, 1] to logits of the same shape.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        check_sides(x, 32)
        return self.head(self.enlarge(self.up(self.narrow(self.encoder.forward_features(x)))))
