"""The networks of ASC-Net (Dey and Hong 2021), its main module and its discriminator, and the overlap of two cuts."""

from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from ..losses import soft_dice
from .layers import SeededDropout, ascend, chain, check_sides, descend

NORM_EPS = 1e-3
DICE_SMOOTH = 1.0
ON = 1e-16
JOIN_WEIGHT, JOIN_BIAS = 4.0, -2.0


def disjointness(a: torch.Tensor, b: torch.Tensor, kind: Literal["soft", "binarised"] = "soft") -> torch.Tensor:
    """Return the Dice overlap of two cuts over the whole batch, which the main module makes small.

    Args:
        a: values in [0, 1].
        b: same shape.
        kind: ``soft`` keeps the values, as the released code does where it creates the networks and in its first stage;
            ``binarised`` first sets every value above 10⁻¹⁶ to 1, as in its second stage: the overlap of two sigmoids
            is then 1 and its gradient 0.
    """
    if kind == "binarised":
        a, b = ((torch.where(x > ON, torch.ones_like(x), x)) for x in (a, b))
    return soft_dice(a, b, DICE_SMOOTH)


def cut_unit(inputs: int, outputs: int, momentum: float) -> list[nn.Module]:
    """3×3 convolution with bias, ReLU, batch normalisation, in this order."""
    norm = nn.BatchNorm2d(outputs, eps=NORM_EPS, momentum=momentum)
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), norm]


def initialise(module: nn.Module) -> None:
    """Draw convolution and dense weights as Glorot and Bengio do, uniformly; biases are 0."""
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
        steps = list(pairwise(widths[::-1]))
        unit = partial(cut_unit, momentum=momentum)
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in steps)
        rates = [*[dropout] * (len(steps) - 1), 0.0]
        self.up = nn.ModuleList(
            nn.Sequential(SeededDropout(p), chain(unit, 2 * o, o, o)) for p, (_, o) in zip(rates, steps, strict=True)
        )
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return torch.sigmoid(self.head(ascend(features, self.enlarge, self.up)))


class _CutTrunk(nn.Module):
    """Levels of two convolutions; max pooling and dropout in between."""

    def __init__(self, widths: list[int], dropout: float, momentum: float) -> None:
        super().__init__()
        unit = partial(cut_unit, momentum=momentum)
        self.down = nn.ModuleList(chain(unit, i, o, o) for i, o in pairwise([1, *widths]))
        self.pool = nn.Sequential(nn.MaxPool2d(2), SeededDropout(dropout))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return descend(x, self.down, self.pool)


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
        widths = [base * level for level in (1, 2, 4, 8, 16)]
        self.trunk = _CutTrunk(widths, dropout, momentum)
        self.reference = _Cut(widths, dropout, momentum)
        self.rest = _Cut(widths, dropout, momentum)
        self.join = nn.Conv2d(2, 1, 1)
        self.factor = 2 ** (len(widths) - 1)
        self.apply(initialise)
        # It starts as the union of the cuts: with random signs it can settle where Iro is 0 everywhere.
        for parameter, value in zip(self.join.parameters(), (JOIN_WEIGHT, JOIN_BIAS), strict=True):
            nn.init.constant_(parameter, value)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map (n, 1, H, W) to Ifc, Iwc and Iro, each (n, 1, H, W) in [0, 1].

        Raises:
            ValueError: H or W is not a multiple of 16.
        """
        check_sides(x, self.factor)
        features = self.trunk(x)
        reference, rest = self.reference(features), self.rest(features)
        return reference, rest, torch.sigmoid(self.join(torch.cat([reference, rest], dim=1)))


class Discriminator(nn.Module):
    """Tells reference slices (−1) from cuts (+1): widths base × (1, 2, 4, 8, 8), one dense unit, tanh.

    Args:
        size: side of the images in pixels, a multiple of 16; the dense layer sees all of them.
    """

    def __init__(self, size: int, base: int = 32, dropout: float = 0.3, momentum: float = 0.01) -> None:
        super().__init__()
        widths = [base * level for level in (1, 2, 4, 8, 8)]
        self.trunk = _CutTrunk(widths, dropout, momentum)
        self.dense = nn.Linear(widths[-1] * (size // 2 ** (len(widths) - 1)) ** 2, 1)
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 1, size, size) to (n,) in [−1, 1]."""
        return torch.tanh(self.dense(self.trunk(x)[-1].flatten(1)))[:, 0]
