"""The network of AE-U: an autoencoder that predicts an image and how uncertain it is of every pixel."""

import torch
from torch import nn

from .layers import chain, halvings

COARSEST = 4


def down_unit(inputs: int, outputs: int) -> list[nn.Module]:
    """4×4 convolution of stride 2, batch normalisation, ReLU."""
    return [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def up_unit(inputs: int, outputs: int) -> list[nn.Module]:
    """4×4 transposed convolution of stride 2, batch normalisation, ReLU."""
    larger = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return [larger, nn.BatchNorm2d(outputs), nn.ReLU()]


def dense_unit(inputs: int, outputs: int) -> list[nn.Module]:
    """Linear layer, batch normalisation, ReLU."""
    return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]


class UncertainAutoencoder(nn.Module):
    """Autoencoder with a dense code and two output channels (Mao et al. 2020; widths and code as in MedIAnomaly).

    Encoder widths are width · (1, 2, 4, 4, …) down to 4 × 4 pixels, the decoder mirrors them; one dense layer of
    64 · width units lies on each side of the code.

    Args:
        size: side of the square image, 8, 16, 32, 64, …
        z: length of the code.
        width: width of the first stage; 16 in MedIAnomaly.
    """

    def __init__(self, size: int = 64, z: int = 16, width: int = 16) -> None:
        super().__init__()
        widths = [width * min(2**i, 4) for i in range(halvings(size, COARSEST))]
        self.shape = (widths[-1], COARSEST, COARSEST)
        flat, hidden = widths[-1] * COARSEST**2, 64 * width
        self.encoder = chain(down_unit, 1, *widths)
        self.to_z = nn.Sequential(*dense_unit(flat, hidden), nn.Linear(hidden, z))
        self.from_z = nn.Sequential(*dense_unit(z, hidden), nn.Linear(hidden, flat))
        self.decoder = chain(up_unit, widths[-1], *widths[-2::-1])
        self.head = nn.ConvTranspose2d(widths[0], 2, 4, stride=2, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log variance, float32 (n, 1, size, size) each, of images of that shape in [−1, 1]."""
        z = self.to_z(self.encoder(x).flatten(1))
        mean, log_variance = self.head(self.decoder(self.from_z(z).view(-1, *self.shape))).float().chunk(2, dim=1)
        return mean, log_variance
