"""Variational autoencoder trained on its lower bound with both terms summed, for scores that need the KL divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..vae import VAE, VAEConfig
from .base import ReconstructionConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SummedVAEConfig(VAEConfig):
    """Settings of :class:`SummedVAE`.

    Attributes:
        alpha_kl: weight of the KL divergence against the absolute error *summed* over the slice (Baur et al. 2021).
            On the error per pixel, as in ``vae``, it would be alpha_kl / size².
    """

    alpha_kl: float = 1.0

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
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


class SummedVAE(VAE):
    """A variational autoencoder whose code is really held to the standard normal.

    With 10⁻⁶ on the error per pixel, the weight of Yao et al. 2021, the divergence hardly shapes the code, and neither
    its gradient nor the bound says what is normal.
    """

    Config = SummedVAEConfig
    kl_weights = (1e-2, 10.0)

    def losses(self, x: torch.Tensor, roi: torch.Tensor, draws: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the negative lower bound per slice, the mean absolute error per pixel and the divergence."""
        del roi
        from torch.nn import functional

        reconstruction, mean, log_std = self.net.draw(x, draws)
        l1 = functional.l1_loss(reconstruction.float(), x)
        divergence = self.divergence(mean, log_std).mean()
        return {"loss": l1 * x[0].numel() + self.config.alpha_kl * divergence, "l1": l1, "kl": divergence}

    def divergence(self, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
        """Return the KL divergence of the code from the standard normal, float32 (n,)."""
        from ...nets.baur_vae import kl

        return kl(mean, log_std)

    def code_divergence(self, x: torch.Tensor) -> torch.Tensor:
        """Return the KL divergence of slices (n, 1, H, W), (n,)."""
        return self.divergence(*self.net.encode(x))

    def bound(self, x: torch.Tensor) -> torch.Tensor:
        """Return the lower bound of slices (n, 1, H, W) with the mean code in place of a random one, (n,)."""
        reconstruction, mean, log_std = self.net(x)
        return -(x - reconstruction).abs().sum((1, 2, 3)) - self.config.alpha_kl * self.divergence(mean, log_std)
