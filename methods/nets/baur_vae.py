"""Variational autoencoder on the unified trunk of Baur et al. 2021, with a dense or a spatial code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .baur import Decoder, DenseBottleneck, Encoder, Norm
from .seeded_dropout import SeededDropout, seed_dropout


class DenseCode(DenseBottleneck):
    """The autoencoder's dense bottleneck with a second head; dropout follows both heads and the dense layer back."""

    def __init__(self, channels: int, z: int, dropout: float) -> None:
        super().__init__(channels, z, dropout)
        self.decoder_channels = channels
        self.to_log_std = nn.Linear(self.to_z.in_features, z)
        self.drop_log_std = SeededDropout(dropout)

    def encode(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (n, channels, 8, 8) to mean and logarithm of the standard deviation, each (n, z)."""
        flat = self.flatten(features)
        return self.drop_z(self.to_z(flat)), self.drop_log_std(self.to_log_std(flat))


class SpatialCode(nn.Module):
    """Two 1×1 convolutions to z channels at 8 × 8, with dropout; the code is the decoder's input."""

    def __init__(self, channels: int, z: int, dropout: float) -> None:
        super().__init__()
        self.decoder_channels = z
        self.to_mean = nn.Conv2d(channels, z, 1)
        self.to_log_std = nn.Conv2d(channels, z, 1)
        self.drop_mean = SeededDropout(dropout)
        self.drop_log_std = SeededDropout(dropout)

    def encode(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (n, channels, 8, 8) to mean and logarithm of the standard deviation, each (n, z, 8, 8)."""
        return self.drop_mean(self.to_mean(features)), self.drop_log_std(self.to_log_std(features))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the code itself."""
        return z


class BaurVAE(nn.Module):
    """Variational autoencoder on the unified trunk.

    Arguments are those of :class:`.baur.BaurAE`; dropout follows both heads and the dense layer back.

    Args:
        spatial: the code is an 8 × 8 map of ``z`` channels, made by 1×1 convolutions.
    """

    def __init__(
        self,
        size: int = 128,
        z: int = 128,
        norm: Norm = "batch",
        dropout: float = 0.2,
        width: int = 32,
        spatial: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(size, norm, width)
        self.code = (SpatialCode if spatial else DenseCode)(self.encoder.channels, z, dropout)
        self.decoder = Decoder(self.code.decoder_channels, size, norm, width)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and logarithm of the standard deviation of the code of images (n, 1, size, size).

        Both have shape (n, z), or (n, z, 8, 8) with a spatial code.
        """
        return self.code.encode(self.encoder(x))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the image (n, 1, size, size) of codes."""
        return self.decoder(self.code.decode(z))

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reconstruct images (n, 1, size, size) from z = mean + exp(log_std) · noise; without noise, from the mean.

        Returns:
            reconstruction, mean, log_std.
        """
        mean, log_std = self.encode(x)
        z = mean if noise is None else mean + torch.exp(log_std) * noise
        return self.decode(z), mean, log_std

    def draw(self, x: torch.Tensor, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reconstruct images from a random code; returns what :meth:`forward` returns."""
        mean, log_std = self.encode(x)
        noise = torch.empty_like(mean).normal_(generator=draws)
        return self.decode(mean + torch.exp(log_std) * noise), mean, log_std


def kl(mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """Return KL(N(mean, exp(log_std)²) ‖ N(0, 1)) summed over the latent dimensions, float32 (n,)."""
    mean, log_std = mean.float(), log_std.float()
    return 0.5 * (mean**2 + torch.exp(2 * log_std) - 1 - 2 * log_std).flatten(1).sum(1)


@contextmanager
def thinned(net: nn.Module, seed: int) -> Iterator[Callable[[torch.Tensor], Any]]:
    """Yield the network with the units that ``seed`` drops removed, everything else in evaluation mode.

    Every call and every item of a batch sees the same thinned network (dropout as sampling of networks, Gal and
    Ghahramani 2016); normalisation keeps its running statistics.
    """
    layers = [module for module in net.modules() if isinstance(module, SeededDropout)]
    net.eval()
    for layer in layers:
        layer.train()
        layer.shared = True

    def forward(x: torch.Tensor) -> Any:
        seed_dropout(net, seed)
        return net(x)

    try:
        yield forward
    finally:
        net.eval()
        for layer in layers:
            layer.shared = False
