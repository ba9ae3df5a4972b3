"""Wide residual encoder-decoder: the network of FPI and PII."""

import torch
from torch import nn

STEM = 16
GROUPS = (1, 2, 4)


class WideBlock(nn.Module):
    """Pre-activated residual block: twice batch norm, ReLU, 3×3 convolution (Zagoruyko and Komodakis 2016).

    Where width or stride changes, the shortcut is a 1×1 convolution of the first activation.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        changes = in_channels != out_channels or stride != 1
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) to (n, out_channels, H / stride, W / stride)."""
        active = torch.relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(active)
        return kept + self.conv2(torch.relu(self.norm2(self.conv1(active))))


class WideResidualNet(nn.Module):
    """WRN-n-k as encoder, mirrored as decoder, without skips between the two; one logit per pixel.

    A 3×3 convolution to 16 channels; three groups of N = (n − 4) / 6 blocks with 16k, 32k and 64k channels, the second
    and third halving the grid; two groups with 32k and 16k channels, each after bilinear enlarging; batch norm, ReLU
    and a 1×1 convolution.

    Args:
        depth: n, layers of the encoder as WRN counts them: 10, 16, 22, …
        widen: k.

    Raises:
        ValueError: ``depth`` is not 6N + 4.
    """

    factor = 4

    def __init__(self, depth: int = 16, widen: int = 4, in_channels: int = 1, out_channels: int = 1) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth {depth}: a wide residual net has 6N + 4 layers (10, 16, 22, …)")
        low, middle, high = (STEM * widen * g for g in GROUPS)
        self.stem = nn.Conv2d(in_channels, STEM, 3, padding=1, bias=False)
        self.down = nn.Sequential(
            _group(STEM, low, blocks), _group(low, middle, blocks, stride=2), _group(middle, high, blocks, stride=2)
        )
        enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.up = nn.Sequential(enlarge, _group(high, middle, blocks), enlarge, _group(middle, low, blocks))
        self.norm = nn.BatchNorm2d(low)
        self.head = nn.Conv2d(low, out_channels, 1)
        for module in (self.stem, *self.down.modules(), *self.up.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, H, W) to logits (n, out_channels, H, W).

        Raises:
            ValueError: H or W is not a multiple of 4.
        """
        if x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise ValueError(f"image size {x.shape[-2]}×{x.shape[-1]}: this network needs multiples of {self.factor}")
        return self.head(torch.relu(self.norm(self.up(self.down(self.stem(x))))))


def _group(in_channels: int, out_channels: int, blocks: int, stride: int = 1) -> nn.Sequential:
    first = WideBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(WideBlock(out_channels, out_channels) for _ in range(blocks - 1)))
