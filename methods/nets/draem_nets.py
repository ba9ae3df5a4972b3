"""The two networks of DRAEM: a restoration autoencoder without skips and a discriminative U-Net."""

from collections.abc import Sequence

import torch
from torch import nn

INIT_STD = 0.02
RESTORATION_BASE, DISCRIMINATIVE_BASE = 128, 64
RESTORATION_WIDTHS = (1, 2, 4, 8, 8)
DISCRIMINATIVE_WIDTHS = (1, 2, 4, 8, 8, 8)


def conv_block(in_channels: int, *widths: int) -> nn.Sequential:
    """3×3 convolution, batch normalisation and ReLU, once per width."""
    layers: list[nn.Module] = []
    for previous, width in zip((in_channels, *widths), widths, strict=False):
        layers += [nn.Conv2d(previous, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def initialise(net: nn.Module, narrower: float = 1.0) -> None:
    """Draw convolution weights from N(0, 0.02), normalisation weights from N(1, 0.02); normalisation biases are 0.

    Args:
        narrower: published over present width. A layer's weights grow with its root, which keeps their norm: under
            normalisation small weights make the steps of the optimiser large, and a narrow net then learns nothing.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, INIT_STD * narrower**0.5)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, INIT_STD)
            nn.init.zeros_(module.bias)


class _Trunk(nn.Module):
    """Levels of two convolutions with max pooling down and bilinear enlarging plus one convolution up."""

    def __init__(
        self, in_channels: int, out_channels: int, widths: Sequence[int], *, skips: bool, narrower: float
    ) -> None:
        super().__init__()
        inputs = [in_channels, *widths[:-1]]
        self.down = nn.ModuleList(conv_block(i, w, w) for i, w in zip(inputs, widths, strict=True))
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        width = widths[-1]
        for level in range(len(widths) - 2, -1, -1):
            here = widths[level]
            out = widths[max(level - 1, 0)]
            if skips:
                self.up.append(conv_block(width, out))
                self.merge.append(conv_block(out + here, out, out))
            else:
                self.up.append(conv_block(width, width))
                self.merge.append(conv_block(width, here, out))
            width = out
        self.head = nn.Conv2d(width, out_channels, 3, padding=1)
        self.skips = skips
        self.factor = 2 ** (len(widths) - 1)
        initialise(self, narrower)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) to (n, out_channels, H, W).

        Raises:
            ValueError: H or W is not a multiple of 2^(levels − 1).
        """
        if x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise ValueError(f"image size {x.shape[-2]}×{x.shape[-1]}: this network needs multiples of {self.factor}")
        kept: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            kept.append(x)
        kept.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(self.enlarge(x))
            skip = kept.pop()
            x = merge(torch.cat([x, skip], dim=1) if self.skips else x)
        return self.head(x)


class RestorationAE(_Trunk):
    """DRAEM's reconstructive network: widths base × (1, 2, 4, 8, 8), no skips, no output activation."""

    def __init__(self, in_channels: int = 1, out_channels: int = 1, base: int = RESTORATION_BASE) -> None:
        widths = [base * w for w in RESTORATION_WIDTHS]
        super().__init__(in_channels, out_channels, widths, skips=False, narrower=RESTORATION_BASE / base)


class DiscriminativeUNet(_Trunk):
    """DRAEM's discriminative network: widths base × (1, 2, 4, 8, 8, 8), skips, logits of two classes."""

    def __init__(self, in_channels: int = 2, out_channels: int = 2, base: int = DISCRIMINATIVE_BASE) -> None:
        widths = [base * w for w in DISCRIMINATIVE_WIDTHS]
        super().__init__(in_channels, out_channels, widths, skips=True, narrower=DISCRIMINATIVE_BASE / base)
