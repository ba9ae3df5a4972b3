"""The lower bound with both terms summed, for the scores of kl-grad and vae-restoration, which need the divergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..vae import VAE, VAEConfig
from .base import ReconstructionConfig

if TYPE_CHECKING:
    import torch

KL_WEIGHTS = (1e-2, 10.0, "log")


@dataclass(frozen=True)
class SummedVAEConfig(VAEConfig):
    """Settings of a variational autoencoder trained on its summed lower bound.

    Attributes:
        alpha_kl: weight of the KL divergence against the absolute error *summed* over the slice (Baur et al. 2021).
            On the error per pixel, as in ``vae``, it would be alpha_kl / size².
    """

    alpha_kl: float = 1.0

    profiles: ClassVar = {
        "smoke": ReconstructionConfig.profiles["smoke"],
        "quick": {
            **ReconstructionConfig.profiles["quick"],
            "z": 32,
            "lr": 2e-3,
            "updates": 500,
            "alpha_kl": 0.01,
            "erode": 2,
        },
    }


def summed_losses(
    method: VAE, x: torch.Tensor, draws: torch.Generator, divergence: Callable[..., torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the negative lower bound per slice, the mean absolute error per pixel and the divergence.

    It holds the code to the standard normal: with 10⁻⁶ on the error per pixel, the weight of Yao et al. 2021, the
    divergence hardly shapes the code, and neither its gradient nor the bound says what is normal.

    Args:
        x: (n, 1, H, W).
        divergence: of means and logarithms of standard deviations from the standard normal, (n,).
    """
    from torch.nn import functional

    reconstruction, mean, log_std = method.net.draw(x, draws)
    l1 = functional.l1_loss(reconstruction.float(), x)
    kl = divergence(mean, log_std).mean()
    return {"loss": l1 * x[0].numel() + method.config.alpha_kl * kl, "l1": l1, "kl": kl}
