"""Autoencoder whose reconstructions must have the code of the slice that they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..card import MethodCard, same
from .ae import AE
from .parts.base import INPUT_FIGURE, LENGTH_FIGURE, LUNG_NOTE, ReconstructionConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ConstrainedVAEConfig(ReconstructionConfig):
    """Settings of :class:`ConstrainedVAE`.

    Attributes:
        rho: weight of the mean squared distance between the codes of slice and reconstruction.
    """

    rho: float = 1.0
    dropout: float = 0.1

    profiles: ClassVar = ReconstructionConfig.profiles_with(quick={"updates": 450})


class ConstrainedVAE(AE):
    """Learns codes that agree between a slice and its reconstruction, so that a lesion cannot shift them unnoticed."""

    card = MethodCard(
        name="constrained-vae",
        title="Constrained autoencoder",
        year=2018,
        family="reconstruction",
        citation="Chen and Konukoglu, Unsupervised Detection of Lesions in Brain MRI using Constrained Adversarial "
        "Auto-encoders, MIDL 2018; without the critic: Baur et al., Medical Image Analysis 69, 2021",
        reference="arXiv:1806.04972",
        figures=(
            INPUT_FIGURE,
            ("network", "Baur: trunk of ae with z 1024", "trunk of ae, dense z 128"),
            same("loss", "mean L2 + ρ · mean L2 of the codes, ρ 1"),
            ("optimiser", "Yao: 3·10⁻⁴, batch 16; Baur: 10⁻³", "Adam 3·10⁻⁴, batch 16"),
            LENGTH_FIGURE,
        ),
        undertrained=("lung",),
        notes="Yao et al. call it constrained VAE and cite the adversarial form; this is the comparative study's plain "
        "autoencoder, without prior or critic: squared error per pixel + ρ · squared distance of the codes, ρ = 1. "
        "Code of 128 like the others (the study's script: 1024); codes are compared before dropout. " + LUNG_NOTE,
    )
    Config = ConstrainedVAEConfig
    tuned: ClassVar = {**AE.tuned, "rho": (1e-2, 10.0, "log")}

    def losses(self, x: torch.Tensor, roi: torch.Tensor, draws: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the squared error per pixel plus the weighted distance of the codes, and both terms."""
        from torch.nn import functional

        z = self.net.encode(x)
        reconstruction = self.net.decode(z)
        l2 = functional.mse_loss(reconstruction.float(), x)
        code = functional.mse_loss(self.net.encode(reconstruction).float(), z.float())
        return {"loss": l2 + self.config.rho * code, "l2": l2, "code": code}
