"""Backbones of timm for grey images: their feature maps, and CutPaste's classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from ...common.errors import DataError
from .weights import fitting

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class GreyBackbone(nn.Module):
    """A timm network ``net`` that looks at grey images (n, 1, H, W) in [0, 1], and that can be filled and frozen.

    Grey is replicated to three channels and normalised as the backbone's published weights expect (for ResNets the mean
    and standard deviation of ImageNet). Networks start with random weights.

    Args:
        backbone: timm model name, such as ``resnet18.tv_in1k``.
        net: the network, whose tensors have timm's names.

    Attributes:
        channels: of each map.
        strides: of each map, in pixels.
        sha256: of the weights, noted by whoever fills them in.
        licence: of the published weights, as timm notes it; empty where it does not.
    """

    scale: torch.Tensor
    shift: torch.Tensor
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    sha256: str = ""

    def __init__(self, backbone: str, net: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.net: Any = net
        config = get_pretrained_cfg(backbone)
        self.licence = "" if config is None else config.license or ""
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config is None else (config.mean, config.std)
        self.register_buffer("scale", 1 / torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", -(torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1), persistent=False)
        self.frozen = False

    def normalised(self, grey: torch.Tensor) -> torch.Tensor:
        """Return what the network sees of grey images, (n, 3, H, W)."""
        return torch.addcmul(self.shift, grey, self.scale).contiguous(memory_format=torch.channels_last)

    def normalise_with(self, mean: float, std: float) -> Self:
        """Normalise images with one mean and standard deviation in place of those that the backbone expects."""
        self.scale.fill_(1 / std)
        self.shift.fill_(-mean / std)
        return self

    def freeze(self) -> Self:
        """Never train again: no gradients, normalisation with running statistics."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        """Switch to training, unless frozen."""
        super().train(mode and not self.frozen)
        return self

    def fill(self, state: Mapping[str, torch.Tensor]) -> Self:
        """Load pretrained weights; tensors of parts that are not used here are left aside.

        Raises:
            WeightsError: a tensor is missing or has another shape.
        """
        misfit, fix = f"the weights do not fit {self.backbone}", "give a file of this very model"
        self.net.load_state_dict(fitting(state, self.net.state_dict(), misfit, fix))
        return self


class TimmFeatures(GreyBackbone):
    """The stages of a timm backbone, up to the last one that is asked for.

    Args:
        backbone: timm model name, such as ``resnet18.tv_in1k``.
        stages: which feature maps; 1, 2, 3 are the maps of stride 4, 8, 16 (layers 1 to 3 of a ResNet).

    Raises:
        DataError: timm has no such model, or it has no such stages.
    """

    def __init__(self, backbone: str, stages: Sequence[int]) -> None:
        try:
            net: Any = timm.create_model(backbone, pretrained=False, features_only=True, out_indices=tuple(stages))
        except Exception as error:  # timm's own types differ from model to model
            raise DataError(f"backbone={backbone}, stages {tuple(stages)}: timm cannot build it ({error})") from error
        super().__init__(backbone, net)
        self.channels = tuple(int(n) for n in net.feature_info.channels())
        self.strides = tuple(int(n) for n in net.feature_info.reduction())
        last = net.feature_info.module_name()[-1].split(".")
        if last[0] == "blocks":  # timm keeps the blocks behind the last map, and runs them
            net.blocks = net.blocks[: int(last[1]) + 1]

    def forward(self, grey: torch.Tensor) -> list[torch.Tensor]:
        return self.net(self.normalised(grey))


class CutPasteNet(nn.Module):
    """ResNet-18 that classifies grey images, and embeds them by its pooled features.

    Li et al. 2021, §4.1: backbone, average pooling, a projection head, a linear classifier. Grey values are repeated on
    three channels and normalised as for ImageNet.

    Args:
        channels, layers: widths and blocks of the four groups; the defaults are ResNet-18.
        hidden: widths of the head's layers (linear without bias, batch norm, ReLU).
        classes: number of classes.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512),
        layers: Sequence[int] = (2, 2, 2, 2),
        hidden: Sequence[int] = (512, 128),
        classes: int = 3,
    ) -> None:
        super().__init__()
        self.backbone = timm.create_model(
            "resnet18",
            pretrained=False,
            num_classes=0,
            channels=tuple(channels),
            layers=tuple(layers),
            zero_init_last=False,
        )
        self.width = channels[-1]
        head: list[nn.Module] = []
        for previous, width in zip((self.width, *hidden), hidden, strict=False):
            head += [nn.Linear(previous, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        self.head = nn.Sequential(*head)
        self.classifier = nn.Linear(hidden[-1], classes)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Map grey images (n, 1, H, W) in [0, 1] to features (n, width)."""
        return self.backbone((x - self.mean) / self.std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map grey images (n, 1, H, W) in [0, 1] to logits (n, classes)."""
        return self.classifier(self.head(self.embed(x)))
