"""The unified autoencoder trunk of the comparative study of Baur et al. 2021 (Medical Image Analysis 69)."""

import math
from typing import Literal

import torch
from torch import nn

from .seeded_dropout import SeededDropout

Norm = Literal["batch", "affine"]
BOTTLENECK_SIZE = 8
SLOPE = 0.3


class Affine2d(nn.Module):
    """Scale and shift per channel: batch normalisation whose statistics stay at mean 0 and variance 1.

    The published networks behave like this, because their batch normalisation was called in inference mode.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return weight · x + bias, shape (n, channels, H, W)."""
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def stage_count(size: int) -> int:
    """Return the number of halvings from ``size`` to the 8 × 8 bottleneck.

    Raises:
        ValueError: ``size`` is not 8 times a power of two, or no more than 8.
    """
    stages = round(math.log2(size / BOTTLENECK_SIZE)) if size > BOTTLENECK_SIZE else 0
    if stages < 1 or BOTTLENECK_SIZE * 2**stages != size:
        raise ValueError(f"size={size}: the trunk needs 16, 32, 64, 128, … pixels")
    return stages


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """Return the layer named ``norm``."""
    return nn.BatchNorm2d(channels) if norm == "batch" else Affine2d(channels)


class Encoder(nn.Sequential):
    """log2(size / 8) stages of 5×5 convolution with stride 2, normalisation and leaky ReLU (slope 0.3).

    Widths are min(4·width, width·2^i): 32, 64, 128, 128 at 128². Output (n, ``channels``, 8, 8).
    """

    def __init__(self, size: int, norm: Norm, width: int) -> None:
        layers: list[nn.Module] = []
        channels = 1
        for i in range(stage_count(size)):
            wider = min(4 * width, width * 2**i)
            layers += [nn.Conv2d(channels, wider, 5, stride=2, padding=2), normalisation(norm, wider)]
            layers += [nn.LeakyReLU(SLOPE)]
            channels = wider
        super().__init__(*layers)
        self.channels = channels


class Decoder(nn.Sequential):
    """Normalisation, ReLU, then as many 5×5 transposed convolutions as the encoder has stages, and a 1×1 head.

    Widths are max(width, 4·width / 2^i): 128, 64, 32, 32 at 128². The output has no activation.
    """

    def __init__(self, channels: int, size: int, norm: Norm, width: int) -> None:
        layers: list[nn.Module] = [normalisation(norm, channels), nn.ReLU()]
        for i in range(stage_count(size)):
            narrower = max(width, 4 * width // 2**i)
            layers += [
                nn.ConvTranspose2d(channels, narrower, 5, stride=2, padding=2, output_padding=1),
                normalisation(norm, narrower),
                nn.LeakyReLU(SLOPE),
            ]
            channels = narrower
        super().__init__(*layers, nn.Conv2d(channels, 1, 1))


class DenseBottleneck(nn.Module):
    """1×1 convolution to an eighth of the channels, dense to z, dense back, 1×1 convolution to the old width.

    Dropout follows z and the second dense layer.
    """

    def __init__(self, channels: int, z: int, dropout: float) -> None:
        super().__init__()
        self.shape = (channels // 8, BOTTLENECK_SIZE, BOTTLENECK_SIZE)
        flat = math.prod(self.shape)
        self.reduce = nn.Conv2d(channels, channels // 8, 1)
        self.to_z = nn.Linear(flat, z)
        self.from_z = nn.Linear(z, flat)
        self.drop_z = SeededDropout(dropout)
        self.drop_flat = SeededDropout(dropout)
        self.expand = nn.Conv2d(channels // 8, channels, 1)

    def flatten(self, features: torch.Tensor) -> torch.Tensor:
        """Map (n, channels, 8, 8) to (n, channels / 8 · 64), what the dense layers see."""
        return self.reduce(features).flatten(1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Map codes (n, z) to (n, channels, 8, 8)."""
        return self.expand(self.drop_flat(self.from_z(z)).view(-1, *self.shape))


class BaurAE(nn.Module):
    """Autoencoder with a dense latent vector on the unified trunk.

    Args:
        size: side of the square image, 16, 32, 64, 128, …
        z: length of the latent vector.
        norm: ``batch``, or ``affine`` for the published networks' effective behaviour.
        dropout: rate in training, after the latent vector and after the second dense layer.
        width: width of the first stage, a multiple of 8; 32 in the paper.

    Raises:
        ValueError: ``size`` does not fit the trunk.
    """

    def __init__(
        self, size: int = 128, z: int = 128, norm: Norm = "batch", dropout: float = 0.2, width: int = 32
    ) -> None:
        super().__init__()
        self.encoder = Encoder(size, norm, width)
        self.bottleneck = DenseBottleneck(self.encoder.channels, z, dropout)
        self.decoder = Decoder(self.encoder.channels, size, norm, width)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the codes (n, z) of images (n, 1, size, size), before dropout."""
        return self.bottleneck.to_z(self.bottleneck.flatten(self.encoder(x)))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the images (n, 1, size, size) of codes (n, z), to which dropout is applied."""
        return self.decoder(self.bottleneck.decode(self.bottleneck.drop_z(z)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reconstruct images (n, 1, size, size)."""
        return self.decode(self.encode(x))
