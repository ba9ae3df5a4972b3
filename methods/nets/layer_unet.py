"""3D U-Net of Çiçek et al. 2016 with a head per layer: normal tissue, lesion, mask (Zhang et al. 2021)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class LayerUNet(nn.Module):
    """Two 3×3×3 convolutions per level, max pooling, up-convolutions of 2×2×2 and concatenated skips.

    Going down, the first convolution of a level has half of its width. Batch normalisation keeps no running statistics:
    at test too it uses those of the batch, so that a window's result depends on what is scored with it.

    Args:
        channels: widths of the levels; 64, 128, 256, 512 in both papers.
        inputs: input channels.
    """

    def __init__(self, channels: Sequence[int] = (64, 128, 256, 512), inputs: int = 1) -> None:
        super().__init__()
        below = (inputs, *channels)
        pairs = list(zip(below, channels, strict=False))
        self.down = nn.ModuleList(nn.Sequential(_block(i, o // 2), _block(o // 2, o)) for i, o in pairs)
        steps = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.enlarge = nn.ModuleList(nn.ConvTranspose3d(i, i, 2, stride=2, bias=False) for i, _ in steps)
        self.up = nn.ModuleList(nn.Sequential(_block(i + o, o), _block(o, o)) for i, o in steps)
        self.normal = nn.Conv3d(channels[0], 1, 1)
        self.lesion = nn.Conv3d(channels[0], 1, 1)
        self.mask = nn.Conv3d(channels[0], 1, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the normal layer, the lesion layer and the logits of the mask, each (n, 1, Z, Y, X).

        Args:
            x: (n, inputs, Z, Y, X); every side a multiple of 2^(levels − 1).
        """
        skips = []
        for i, level in enumerate(self.down):
            x = level(functional.max_pool3d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for enlarge, level in zip(self.enlarge, self.up, strict=True):
            x = level(torch.cat([enlarge(x), skips.pop()], dim=1))
        return self.normal(x), self.lesion(x), self.mask(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, batch normalisation, rectifier."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1),
        nn.BatchNorm3d(outputs, track_running_stats=False),
        nn.ReLU(inplace=True),
    )
