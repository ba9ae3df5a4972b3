"""A ResNet that embeds grey slices, and its pre-training by masked image modelling (SparK, Tian et al. 2023)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from timm.models.resnet import Bottleneck, ResNet
from torch import nn
from torch.nn import functional

KEPT_VARIANCE = 1e-6


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that, while a mask is set, takes its statistics from visible cells and leaves 0 elsewhere.

    As every convolution of a ResNet is followed by one, nothing of a hidden cell is passed on: with zeros there, a
    dense convolution does what a sparse one would.

    Attributes:
        visible: float32 (n, 1, h, w), 1 where a cell is visible; None is all.
    """

    visible: torch.Tensor | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = input
        if self.visible is None:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        inside = resized(self.visible, x)
        if self.training:
            count = inside.sum()
            mean = (x.float() * inside).sum((0, 2, 3)) / count
            variance = ((x.float() - mean[:, None, None]) ** 2 * inside).sum((0, 2, 3)) / count
            with torch.no_grad():
                momentum = self.momentum or 0.0
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), momentum)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return ((x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]) * inside


def resized(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Enlarge a mask (n, 1, h, w) to the size of maps (n, c, H, W), whose sides are multiples of its own."""
    return functional.interpolate(mask, size=like.shape[-2:], mode="nearest")


class ResNetEncoder(nn.Module):
    """Bottleneck ResNet of one input channel that embeds slices; ResNet-50 with the default widths and depths.

    Args:
        outputs: length of the embedding.
        channels: inner width of each stage, a quarter of what it returns.
        layers: blocks of each stage.
    """

    def __init__(
        self, outputs: int = 512, channels: Sequence[int] = (64, 128, 256, 512), layers: Sequence[int] = (3, 4, 6, 3)
    ) -> None:
        super().__init__()
        self.net = ResNet(
            cast(Any, Bottleneck), tuple(layers), outputs, 1, channels=tuple(channels), norm_layer=MaskedBatchNorm2d
        )
        self.widths = tuple(Bottleneck.expansion * width for width in channels)
        self.stride = 2 ** (len(channels) + 1)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the map of every stage for images (n, 1, H, W), finest first, the first of stride 4."""
        x = self.net.maxpool(self.net.act1(self.net.bn1(self.net.conv1(x))))
        found = []
        for i in range(len(self.widths)):
            x = self.net.get_submodule(f"layer{i + 1}")(x)
            found.append(x)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed images (n, 1, H, W) as (n, outputs)."""
        return self.net.fc(self.net.global_pool(self.maps(x)[-1]))


class MaskedModelling(nn.Module):
    """Fills in hidden cells of images from an encoder's maps of the visible ones; the light decoder of SparK.

    Each map of the encoder is normalised, a learned token takes the place of what is hidden, and a convolution brings
    it to the width of the decoder, which doubles the size step by step and adds the map of that size.

    Args:
        encoder: its widths and stride decide the sizes.
        width: of the decoder at the coarsest level; halved at each finer one.
    """

    def __init__(self, encoder: ResNetEncoder, width: int = 512) -> None:
        super().__init__()
        steps = encoder.stride.bit_length() - 1
        widths = [max(1, width // 2**i) for i in range(steps + 1)]
        coarsest_first = encoder.widths[::-1]
        self.norms = nn.ModuleList(MaskedBatchNorm2d(n) for n in coarsest_first)
        self.tokens = nn.ParameterList(nn.init.trunc_normal_(torch.empty(1, n, 1, 1), std=0.02) for n in coarsest_first)
        self.join = nn.ModuleList(
            nn.Conv2d(n, out, 3 if i else 1, padding=1 if i else 0)
            for i, (n, out) in enumerate(zip(coarsest_first, widths, strict=False))
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(before, before, 4, 2, 1),
                *(nn.Conv2d(before, before, 3, padding=1, bias=False), nn.BatchNorm2d(before), nn.ReLU6()),
                *(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)),
            )
            for before, after in pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, encoder: ResNetEncoder, images: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Predict images (n, 1, H, W) of which the encoder sees the cells in ``visible`` alone.

        ``visible`` is float32 (n, 1, H / stride, W / stride), 0 or 1.
        """
        norms = [m for net in (encoder, self.norms) for m in net.modules() if isinstance(m, MaskedBatchNorm2d)]
        for norm in norms:
            norm.visible = visible
        try:
            maps = encoder.maps(images * resized(visible, images))[::-1]
            filled = [
                norm(found) + token * (1 - resized(visible, found))
                for norm, token, found in zip(self.norms, self.tokens, maps, strict=True)
            ]
        finally:
            for norm in norms:
                norm.visible = None
        x = self.up[0](self.join[0](filled[0]))
        for i, up in enumerate(self.up[1:], start=1):
            x = up(x + self.join[i](filled[i]) if i < len(filled) else x)
        return self.head(x)


def random_cells(count: int, side: int, hidden: float, draws: torch.Generator) -> torch.Tensor:
    """Hide this share of the cells of grids at random, at least one and never all; float32 (count, 1, side, side)."""
    left = min(max(1, round((1 - hidden) * side**2)), side**2 - 1)
    order = torch.rand(count, side**2, generator=draws, device=draws.device).argsort(dim=1).argsort(dim=1)
    return (order < left).float().view(count, 1, side, side)


def hidden_error(predicted: torch.Tensor, images: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error over the hidden cells, each image cell scaled to mean 0 and variance 1.

    Images are (n, 1, H, W), ``visible`` (n, 1, h, w).
    """
    side = images.shape[-1] // visible.shape[-1]

    def cells(x: torch.Tensor) -> torch.Tensor:
        return functional.unfold(x.float(), side, stride=side).transpose(1, 2)

    target = cells(images)
    mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True, unbiased=False)
    error = ((cells(predicted) - (target - mean) / (variance + KEPT_VARIANCE).sqrt()) ** 2).mean(-1)
    hidden = 1 - visible.flatten(1)
    return (error * hidden).sum() / hidden.sum()
