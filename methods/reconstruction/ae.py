"""Autoencoder with a dense latent vector; the anomaly map is its reconstruction residual."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..card import MethodCard
from .parts.base import INPUT_FIGURE, LUNG_NOTE, TRAINING_FIGURES, ReconstructionMethod

if TYPE_CHECKING:
    import torch


class AE(ReconstructionMethod):
    """Learns to reproduce healthy slices through a narrow code; what it cannot reproduce is anomalous."""

    card = MethodCard(
        name="ae",
        title="Autoencoder",
        year=2021,
        family="reconstruction",
        citation="Baur et al., Autoencoders for Unsupervised Anomaly Segmentation in Brain MR Images: A Comparative "
        "Study, Medical Image Analysis 69, 2021",
        reference="doi:10.1016/j.media.2020.101952",
        figures=(
            INPUT_FIGURE,
            (
                "network",
                "5×5 stride 2, 32–128, dense z 128, BN inactive",
                "the same with active BN (norm=affine: inactive)",
            ),
            ("loss", "Baur: L1 summed over the slice", "L1 per pixel"),
            *TRAINING_FIGURES,
        ),
        undertrained=("lung",),
        notes="Unified trunk, dense latent vector of 128, mean absolute error. The component filter of Baur et al. is "
        "left to the protocols, which apply it to all methods alike. " + LUNG_NOTE,
    )

    def make_net(self) -> torch.nn.Module:
        from ..nets.baur import BaurAE

        c = self.config
        return BaurAE(c.size, c.z, c.norm, c.dropout, c.width)

    def losses(self, x: torch.Tensor, roi: torch.Tensor, draws: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the mean absolute error between slice and reconstruction."""
        from torch.nn import functional

        return {"l1": functional.l1_loss(self.net(x), x)}
