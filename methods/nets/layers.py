"""What several networks share: dropout with a generator of its own, chains of layers, the ways down and up a U-Net."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import nn


class SeededDropout(nn.Module):
    """Dropout that draws from its own generator, so that a fit depends on no global random state.

    Args:
        p: probability with which a value is dropped.
        channels: whole channels of maps (n, c, h, w) are dropped instead of single values.

    Attributes:
        shared: the whole batch gets the same mask: one thinned network instead of one per item.
    """

    def __init__(self, p: float, *, channels: bool = False) -> None:
        super().__init__()
        self.p = p
        self.channels = channels
        self.shared = False
        self.generator: torch.Generator | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop values with probability p in training mode and scale the rest by 1 / (1 − p)."""
        if not self.training or self.p == 0:
            return x
        drawn = x[:1] if self.shared else x
        if self.channels:
            drawn = drawn[:, :, :1, :1]
        keep = torch.empty_like(drawn).bernoulli_(1 - self.p, generator=self.generator)
        return x * keep / (1 - self.p)


def seed_dropout(net: nn.Module, seed: int) -> torch.Generator:
    """Give the dropout layers of a network one generator, on the device of its parameters, and return it."""
    generator = torch.Generator(next(net.parameters()).device).manual_seed(seed)
    for module in net.modules():
        if isinstance(module, SeededDropout):
            module.generator = generator
    return generator


def chain(unit: Callable[[int, int], Iterable[nn.Module]], *widths: int) -> nn.Sequential:
    """Return the layers ``unit(inputs, outputs)`` from each width to the next, one after the other."""
    return nn.Sequential(*(layer for pair in pairwise(widths) for layer in unit(*pair)))


def descend(x: torch.Tensor, blocks: Iterable[nn.Module], pool: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
    """Return the output of every level, finest first; the input of all but the first is pooled."""
    features: list[torch.Tensor] = []
    for block in blocks:
        x = block(pool(x) if features else x)
        features.append(x)
    return features


def ascend(features: list[torch.Tensor], enlarge: Iterable[nn.Module], blocks: Iterable[nn.Module]) -> torch.Tensor:
    """Enlarge the coarsest output level by level; each block gets the enlarged map and the skip, concatenated."""
    *skips, x = features
    for larger, block in zip(enlarge, blocks, strict=True):
        x = block(torch.cat([larger(x), skips.pop()], dim=1))
    return x


def halvings(size: int, coarsest: int) -> int:
    """Return how often the side of an image is halved down to ``coarsest``.

    Raises:
        ValueError: ``size`` is not ``coarsest`` times a power of two, or no more than ``coarsest``.
    """
    stages = round(math.log2(size / coarsest)) if size > coarsest else 0
    if stages < 1 or coarsest * 2**stages != size:
        raise ValueError(f"size={size}: these networks need {2 * coarsest}, {4 * coarsest}, {8 * coarsest}, … pixels")
    return stages


def check_sides(x: torch.Tensor, factor: int, least: int = 0) -> None:
    """Refuse images that cannot be halved often enough.

    Raises:
        ValueError: a side is not a multiple of ``factor``, or shorter than ``least``.
    """
    height, width = x.shape[-2:]
    if height % factor or width % factor or min(height, width) < least:
        enough = f", at least {least}" if least else ""
        raise ValueError(f"image size {height}×{width}: this network needs multiples of {factor}{enough}")
