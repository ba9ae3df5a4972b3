"""Networks of Screener (Goncharov et al. 2025): dense descriptors, their expander, and a Gaussian given a condition."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import nn

from .layers import ascend
from .mood_unet import SLOPE, stage
from .unets import group_count


class VoxelDescriptors(nn.Module):
    """3D U-Net with a descriptor per voxel, and the expander on which its training loss is taken.

    Two 3×3×3 convolutions with instance normalisation and leaky ReLU per level, strided convolutions down, transposed
    ones up. The expander is a perceptron of one hidden layer with group normalisation and SiLU.

    Args:
        channels: widths of the levels.
        width: numbers in a descriptor.
        expander: widths of the expander's hidden and last layer.
        inputs: input channels; a second one says what is masked.
    """

    def __init__(self, channels: Sequence[int], width: int, expander: tuple[int, int], inputs: int = 1) -> None:
        super().__init__()
        self.inputs = inputs
        make = partial(stage, norm="instance")
        downs = [(inputs, channels[0], 1), *((i, o, 2) for i, o in pairwise(channels))]
        ups = list(pairwise(channels[::-1]))
        self.down = nn.ModuleList(make(*down) for down in downs)
        self.enlarge = nn.ModuleList(nn.ConvTranspose3d(i, o, 2, stride=2, bias=False) for i, o in ups)
        self.up = nn.ModuleList(make(2 * o, o, 1) for _, o in ups)
        self.head = nn.Conv3d(channels[0], width, 1)
        hidden, last = expander
        self.expander = nn.Sequential(
            nn.Linear(width, hidden), nn.GroupNorm(group_count(hidden), hidden), nn.SiLU(), nn.Linear(hidden, last)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, inputs, Z, Y, X) to descriptors (n, width, Z, Y, X); every side a multiple of 2^(levels − 1)."""
        features: list[torch.Tensor] = []
        for block in self.down:
            x = block(x)
            features.append(x)
        return self.head(ascend(features, self.enlarge, self.up))


class ConditionalGaussian(nn.Module):
    """Mean and logarithm of the variance of a descriptor, each number for itself, from the conditions around it.

    Args:
        width: numbers in a descriptor.
        condition: channels of the condition; 0 makes it one Gaussian for all voxels.
        hidden: width between the two 3×3×3 convolutions.
    """

    LOG_VARIANCE = 6.0  # largest size of log σ²

    def __init__(self, width: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.everywhere = None if condition else nn.Parameter(torch.zeros(2 * width, 1, 1, 1))
        self.layers = nn.Sequential()
        if condition:
            self.layers = nn.Sequential(
                nn.Conv3d(condition, hidden, 3, padding=1), nn.SiLU(), nn.Conv3d(hidden, 2 * width, 3, padding=1)
            )

    def forward(self, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return μ and log σ² in [−6, 6], (n, width, z, y, x) each, given conditions (n, condition, z, y, x)."""
        if self.everywhere is None:
            out = self.layers(condition)
        else:
            out = self.everywhere.expand(len(condition), -1, *condition.shape[2:])
        mean, log_variance = out.chunk(2, dim=1)
        return mean, log_variance.clamp(-self.LOG_VARIANCE, self.LOG_VARIANCE)

    def surprise(self, descriptors: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Return −log q without its constant, Σ ½(log σ² + (y − μ)² / σ²), float32 (n, 1, z, y, x)."""
        mean, log_variance = (part.float() for part in self(condition))
        terms = log_variance + (descriptors.float() - mean) ** 2 * torch.exp(-log_variance)
        return terms.sum(dim=1, keepdim=True) / 2
