"""The networks of the comparative study of Baur et al. 2021 (Medical Image Analysis 69): one trunk, four kinds of code.

Autoencoder, variational autoencoders with a dense or a spatial code, and the Gaussian mixture variational autoencoder
(Dilokthanakul et al. 2016).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from .layers import SeededDropout, halvings, seed_dropout

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
        for i in range(halvings(size, BOTTLENECK_SIZE)):
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
        for i in range(halvings(size, BOTTLENECK_SIZE)):
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
        self.to_z, self.from_z = nn.Linear(flat, z), nn.Linear(z, flat)
        self.drop_z, self.drop_flat = SeededDropout(dropout), SeededDropout(dropout)
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
        return self.decode(self.encode(x))


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
        self.to_mean, self.to_log_std = nn.Conv2d(channels, z, 1), nn.Conv2d(channels, z, 1)
        self.drop_mean, self.drop_log_std = SeededDropout(dropout), SeededDropout(dropout)

    def encode(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (n, channels, 8, 8) to mean and logarithm of the standard deviation, each (n, z, 8, 8)."""
        return self.drop_mean(self.to_mean(features)), self.drop_log_std(self.to_log_std(features))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z


class BaurVAE(nn.Module):
    """Variational autoencoder on the unified trunk.

    Arguments are those of :class:`BaurAE`; dropout follows both heads and the dense layer back.

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
        """Return mean and logarithm of the standard deviation of the code, (n, z), or (n, z, 8, 8) if spatial."""
        return self.code.encode(self.encoder(x))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the image (n, 1, size, size) of codes."""
        return self.decoder(self.code.decode(z))

    def forward(
        self, x: torch.Tensor, draws: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Reconstruct images (n, 1, size, size) from a random code, or without ``draws`` from its mean.

        Returns:
            reconstruction, mean, log_std.
        """
        mean, log_std = self.encode(x)
        z = mean if draws is None else mean + torch.exp(log_std) * torch.empty_like(mean).normal_(generator=draws)
        return self.decode(z), mean, log_std


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


class Posterior(NamedTuple):
    """Means and logarithms of the standard deviations of z (n, dim_z) and w (n, dim_w), given a slice."""

    mean_z: torch.Tensor
    log_std_z: torch.Tensor
    mean_w: torch.Tensor
    log_std_w: torch.Tensor


class MixturePrior(nn.Module):
    """p(z | w, c): a linear layer each from w to the means and to the log standard deviations of all components."""

    def __init__(self, dim_w: int, dim_c: int, dim_z: int) -> None:
        super().__init__()
        self.shape = (dim_c, dim_z)
        self.to_mean, self.to_log_std = (nn.Linear(dim_w, dim_c * dim_z) for _ in range(2))

    def forward(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means and log standard deviations of every component, each (n, dim_c, dim_z)."""
        return self.to_mean(w).view(-1, *self.shape), self.to_log_std(w).view(-1, *self.shape)


class BaurGMVAE(BaurVAE):
    """The variational autoencoder of the trunk with a mixture of Gaussians, steered by w, as prior of its code z.

    Arguments are those of :class:`BaurVAE` with a dense code; dropout follows the heads of w too.

    Args:
        dim_c: components of the mixture.
        dim_w: length of w, whose prior is standard normal.
    """

    code: DenseCode

    def __init__(self, size: int = 128, z: int = 128, dim_c: int = 9, dim_w: int = 1, **trunk: Any) -> None:
        super().__init__(size, z, **trunk)
        flat = self.code.to_z.in_features
        self.to_mean_w, self.to_log_std_w = nn.Linear(flat, dim_w), nn.Linear(flat, dim_w)
        self.drop_mean_w, self.drop_log_std_w = (SeededDropout(self.code.drop_z.p) for _ in range(2))
        self.prior = MixturePrior(dim_w, dim_c, z)

    def posterior(self, x: torch.Tensor) -> Posterior:
        """Return q(z | x) and q(w | x) of images (n, 1, size, size)."""
        features = self.encoder(x)
        flat = self.code.flatten(features)
        w = self.drop_mean_w(self.to_mean_w(flat)), self.drop_log_std_w(self.to_log_std_w(flat))
        return Posterior(*self.code.encode(features), *w)


def gaussian_kl(
    mean: torch.Tensor, log_std: torch.Tensor, prior_mean: torch.Tensor, prior_log_std: torch.Tensor
) -> torch.Tensor:
    """Return KL(N(mean, exp(log_std)²) ‖ N(prior_mean, exp(prior_log_std)²)) summed over the last axis, float32."""
    mean, log_std, prior_mean, prior_log_std = (t.float() for t in (mean, log_std, prior_mean, prior_log_std))
    ratio = 2 * (log_std - prior_log_std)
    distance = (mean - prior_mean) ** 2 * torch.exp(-2 * prior_log_std)
    return 0.5 * (torch.exp(ratio) + distance - 1 - ratio).sum(-1)


def component_log_probabilities(z: torch.Tensor, means: torch.Tensor, log_stds: torch.Tensor) -> torch.Tensor:
    """Return log p(c | z, w) of a mixture with equal weights, float32 (n, dim_c).

    Args:
        z: (n, dim_z).
        means: (n, dim_c, dim_z), of the components.
        log_stds: same shape.
    """
    z, means, log_stds = z.float()[:, None], means.float(), log_stds.float()
    log_density = -(0.5 * ((z - means) * torch.exp(-log_stds)) ** 2 + log_stds).sum(-1)
    return torch.log_softmax(log_density, dim=1)


def categorical_kl(log_probabilities: torch.Tensor) -> torch.Tensor:
    """Return KL(p ‖ uniform) of log probabilities (n, dim_c), (n,); at most log(dim_c)."""
    entropy = -(log_probabilities.exp() * log_probabilities).sum(1)
    return math.log(log_probabilities.shape[1]) - entropy
