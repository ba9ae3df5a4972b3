"""The networks of ASC-Net (Dey and Hong 2021), its main module and its discriminator, and the overlap of two cuts."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from ..losses import soft_dice
from .seeded_dropout import SeededDropout

LEVELS = (1, 2, 4, 8, 16)
DISCRIMINATOR_LEVELS = (1, 2, 4, 8, 8)
NORM_EPS = 1e-3
DICE_SMOOTH = 1.0
ON = 1e-16
JOIN_WEIGHT, JOIN_BIAS = 4.0, -2.0


def disjointness(a: torch.Tensor, b: torch.Tensor, kind: Literal["soft", "binarised"] = "soft") -> torch.Tensor:
    """Return the Dice overlap of two cuts over the whole batch, which the main module makes small.

    Args:
        a: values in [0, 1].
        b: same shape.
        kind: ``binarised`` first sets every value above 10⁻¹⁶ to 1, as a published script does: the overlap of two
            sigmoids is then 1 and its gradient 0.
    """
    if kind == "binarised":
        a, b = ((torch.where(x > ON, torch.ones_like(x), x)) for x in (a, b))
    return soft_dice(a, b, DICE_SMOOTH)


def conv_block(in_channels: int, out_channels: int, momentum: float) -> nn.Sequential:
    """Twice: 3×3 convolution with bias, ReLU, batch normalisation, in this order."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(out_channels, eps=NORM_EPS, momentum=momentum),
        ]
    return nn.Sequential(*layers)


def initialise(net: nn.Module) -> None:
    """Draw convolution and dense weights as Glorot and Bengio do, uniformly; biases are 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def regularised(net: nn.Module) -> list[torch.Tensor]:
    """Return the weights under the L2 penalty: the 3×3 kernels, without biases, 1×1, transposed and dense layers."""
    return [m.weight for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


class _Cut(nn.Module):
    """One decoder: transposed 2×2 convolution, skip, dropout (not at the finest level), two convolutions; sigmoid."""

    def __init__(self, widths: list[int], dropout: float, momentum: float) -> None:
        super().__init__()
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in steps)
        self.drop = nn.ModuleList(SeededDropout(dropout if k < len(steps) - 1 else 0.0) for k in range(len(steps)))
        self.up = nn.ModuleList(conv_block(2 * o, o, momentum) for _, o in steps)
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = features[-1]
        for enlarge, drop, up, skip in zip(self.enlarge, self.drop, self.up, features[-2::-1], strict=True):
            x = up(drop(torch.cat([enlarge(x), skip], dim=1)))
        return torch.sigmoid(self.head(x))


class CutNet(nn.Module):
    """Main module: a U-Net encoder of widths base × (1, 2, 4, 8, 16) and two decoders, joined by a 1×1 convolution.

    The first decoder gives Ifc, the cut that shall look like the reference set; the second Iwc, the rest; a 1×1
    convolution with sigmoid joins them to the reconstruction Iro.

    Args:
        base: width of the finest level, 32 in the paper.
        dropout: rate after every pooling and every skip but the finest.
        momentum: share of a batch in the running statistics of batch normalisation.
    """

    def __init__(self, base: int = 32, dropout: float = 0.3, momentum: float = 0.01) -> None:
        super().__init__()
        widths = [base * level for level in LEVELS]
        self.down = nn.ModuleList(conv_block(i, o, momentum) for i, o in zip([1, *widths[:-1]], widths, strict=True))
        self.drop = SeededDropout(dropout)
        self.reference = _Cut(widths, dropout, momentum)
        self.rest = _Cut(widths, dropout, momentum)
        self.join = nn.Conv2d(2, 1, 1)
        self.factor = 2 ** (len(widths) - 1)
        initialise(self)
        # It starts as the union of the cuts: with random signs it can settle where Iro is 0 everywhere.
        for parameter, value in zip(self.join.parameters(), (JOIN_WEIGHT, JOIN_BIAS), strict=True):
            nn.init.constant_(parameter, value)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map (n, 1, H, W) to Ifc, Iwc and Iro, each (n, 1, H, W) in [0, 1].

        Raises:
            ValueError: H or W is not a multiple of 16.
        """
        if x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise ValueError(f"image size {x.shape[-2]}×{x.shape[-1]}: this network needs multiples of {self.factor}")
        features: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.drop(functional.max_pool2d(x, 2)))
            features.append(x)
        reference, rest = self.reference(features), self.rest(features)
        return reference, rest, torch.sigmoid(self.join(torch.cat([reference, rest], dim=1)))


class Discriminator(nn.Module):
    """Tells reference slices (−1) from cuts (+1): widths base × (1, 2, 4, 8, 8), one dense unit, tanh.

    Args:
        size: side of the images in pixels, a multiple of 16; the dense layer sees all of them.
    """

    def __init__(self, size: int, base: int = 32, dropout: float = 0.3, momentum: float = 0.01) -> None:
        super().__init__()
        widths = [base * level for level in DISCRIMINATOR_LEVELS]
        self.down = nn.ModuleList(conv_block(i, o, momentum) for i, o in zip([1, *widths[:-1]], widths, strict=True))
        self.drop = SeededDropout(dropout)
        self.dense = nn.Linear(widths[-1] * (size // 2 ** (len(widths) - 1)) ** 2, 1)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 1, size, size) to (n,) in [−1, 1]."""
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.drop(functional.max_pool2d(x, 2)))
        return torch.tanh(self.dense(x.flatten(1)))[:, 0]
