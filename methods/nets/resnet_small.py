"""ResNet-18 with a projection head and a three-way classifier: the network of CutPaste."""

from collections.abc import Sequence

import timm
import torch
from torch import nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class CutPasteNet(nn.Module):
    """Classify grey images, and embed them by the pooled features of the backbone.

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
