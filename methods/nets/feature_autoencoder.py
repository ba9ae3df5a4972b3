"""The autoencoder of pretrained feature maps of FAE (Meissen et al. 2022, released code)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from .layers import SeededDropout, chain, check_sides


def down_unit(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    """5×5 convolution of stride 2, batch normalisation, leaky ReLU (slope 0.01), dropout of whole channels."""
    convolution = nn.Conv2d(inputs, outputs, 5, stride=2, padding=2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(), SeededDropout(dropout, channels=True)]


def up_unit(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    """6×6 transposed convolution of stride 2, batch normalisation, leaky ReLU, dropout of whole channels."""
    convolution = nn.ConvTranspose2d(inputs, outputs, 6, stride=2, padding=2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(), SeededDropout(dropout, channels=True)]


class FeatureAutoencoder(nn.Module):
    """Halves feature maps as often as it has widths and enlarges them again; no layer has a bias.

    Args:
        channels: of the feature maps, which are also those of the result; 256 in the paper.
        widths: of the encoder, finest first; the decoder mirrors them.
        dropout: rate after every stage, in training.
    """

    def __init__(self, channels: int = 256, widths: Sequence[int] = (100, 150, 200, 300), dropout: float = 0.1) -> None:
        super().__init__()
        down, up = (partial(unit, dropout=dropout) for unit in (down_unit, up_unit))
        self.encoder = chain(down, channels, *widths)
        self.bottleneck = nn.Conv2d(widths[-1], widths[-1], 5, padding=2, bias=False)
        self.decoder = chain(up, *widths[::-1], channels)
        self.head = nn.Conv2d(channels, channels, 1, bias=False)
        self.factor = 2 ** len(widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, channels, H, W) to the same shape.

        Raises:
            ValueError: H or W is not a multiple of 2^len(widths).
        """
        check_sides(x, self.factor)
        return self.head(self.decoder(self.bottleneck(self.encoder(x))))
