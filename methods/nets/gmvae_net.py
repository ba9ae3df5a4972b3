"""Gaussian mixture variational autoencoder on the unified trunk (Dilokthanakul et al. 2016; Baur et al. 2021)."""

import math
from typing import NamedTuple

import torch
from torch import nn

from .baur import Norm
from .baur_vae import BaurVAE, DenseCode

HIDDEN = 64


class Posterior(NamedTuple):
    """Means and logarithms of the standard deviations of z (n, dim_z) and w (n, dim_w), given a slice."""

    mean_z: torch.Tensor
    log_std_z: torch.Tensor
    mean_w: torch.Tensor
    log_std_w: torch.Tensor


class MixturePrior(nn.Module):
    """p(z | w, c): a layer of 64 with ReLU, then a linear head each for the means and the log standard deviations."""

    def __init__(self, dim_w: int, dim_c: int, dim_z: int) -> None:
        super().__init__()
        self.shape = (dim_c, dim_z)
        self.hidden = nn.Sequential(nn.Linear(dim_w, HIDDEN), nn.ReLU())
        self.to_mean = nn.Linear(HIDDEN, dim_c * dim_z)
        self.to_log_std = nn.Linear(HIDDEN, dim_c * dim_z)

    def forward(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means and log standard deviations of every component, each (n, dim_c, dim_z)."""
        hidden = self.hidden(w)
        return self.to_mean(hidden).view(-1, *self.shape), self.to_log_std(hidden).view(-1, *self.shape)


class BaurGMVAE(BaurVAE):
    """The variational autoencoder of the trunk with a mixture of Gaussians, steered by w, as prior of its code z.

    Arguments are those of :class:`.baur_vae.BaurVAE` with a dense code.

    Args:
        dim_c: components of the mixture.
        dim_w: length of w, whose prior is standard normal.
    """

    code: DenseCode

    def __init__(
        self,
        size: int = 128,
        z: int = 128,
        dim_c: int = 9,
        dim_w: int = 1,
        norm: Norm = "batch",
        dropout: float = 0.2,
        width: int = 32,
    ) -> None:
        super().__init__(size, z, norm, dropout, width)
        flat = self.code.to_z.in_features
        self.to_mean_w = nn.Linear(flat, dim_w)
        self.to_log_std_w = nn.Linear(flat, dim_w)
        self.prior = MixturePrior(dim_w, dim_c, z)

    def posterior(self, x: torch.Tensor) -> Posterior:
        """Return q(z | x) and q(w | x) of images (n, 1, size, size)."""
        features = self.encoder(x)
        flat = self.code.flatten(features)
        return Posterior(*self.code.encode(features), self.to_mean_w(flat), self.to_log_std_w(flat))


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
