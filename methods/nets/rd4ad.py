"""Networks of reverse distillation (Deng & Li 2022, §3): one-class bottleneck and mirrored decoder."""

from collections.abc import Sequence

import torch
from torch import nn


class Bottleneck(nn.Module):
    """Residual block 1×1, 3×3, 1×1 with batch normalisation; the width inside is half the width of the output.

    That is the block of a Wide-ResNet-50-2. With ``up`` the 3×3 convolution is a transposed 2×2 of stride 2.
    """

    def __init__(self, channels: int, out: int, *, down: bool = False, up: bool = False) -> None:
        super().__init__()
        inner = out // 2
        self.body = nn.Sequential(
            *unit(channels, inner, 1),
            *(doubling(inner, inner) if up else unit(inner, inner, 3, stride=2 if down else 1)),
            *unit(inner, out, 1)[:-1],
        )
        self.skip: nn.Module = nn.Identity()
        if up:
            self.skip = nn.Sequential(*doubling(channels, out)[:-1])
        elif down or channels != out:
            self.skip = nn.Sequential(*unit(channels, out, 1, stride=2 if down else 1)[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of half, the same or twice the size."""
        return torch.relu(self.body(x) + self.skip(x))


class OneClassBottleneck(nn.Module):
    """Brings three maps to the size of the coarsest, concatenates them and embeds them at half that size.

    Args:
        channels: of the three maps, finest first; each has half the side of the one before.
        depth: residual blocks of the embedding.
    """

    def __init__(self, channels: Sequence[int], depth: int) -> None:
        super().__init__()
        first, second, third = channels
        self.fine = nn.Sequential(*unit(first, second, 3, stride=2), *unit(second, third, 3, stride=2))
        self.middle = nn.Sequential(*unit(second, third, 3, stride=2))
        blocks = [Bottleneck(3 * third, 2 * third, down=True)]
        blocks += [Bottleneck(2 * third, 2 * third) for _ in range(depth - 1)]
        self.embed = nn.Sequential(*blocks)
        self.apply(initialise)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the embedding (n, 2 · channels[2], h/2, w/2) for a coarsest map of h × w."""
        fine, middle, coarse = maps
        return self.embed(torch.cat([self.fine(fine), self.middle(middle), coarse], dim=1))


class ReverseDecoder(nn.Module):
    """Reproduces the three maps from the embedding, the coarsest first.

    Args:
        channels: of the three maps, finest first.
        depths: residual blocks for the coarsest, the middle and the finest map.
    """

    def __init__(self, channels: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        widths = [2 * channels[2], *reversed(channels)]
        self.stages = nn.ModuleList(
            nn.Sequential(Bottleneck(before, out, up=True), *(Bottleneck(out, out) for _ in range(depth - 1)))
            for before, out, depth in zip(widths, widths[1:], depths, strict=False)
        )
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[::-1]


def unit(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return convolution, batch normalisation, ReLU."""
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def doubling(channels: int, out: int) -> list[nn.Module]:
    """Return a transposed 2×2 convolution of stride 2, batch normalisation, ReLU."""
    return [nn.ConvTranspose2d(channels, out, 2, 2, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def initialise(module: nn.Module) -> None:
    """Draw the weights of convolutions as He et al. 2015 do for ReLU, by the number of outputs."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
