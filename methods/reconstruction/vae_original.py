"""Variational autoencoder on slices that are not masked to the organ."""

from ...datasets.views.view import View
from ..card import MethodCard, same
from .parts.base import LUNG_NOTE, TRAINING_FIGURES
from .vae import VAE


class VAEOriginal(VAE):
    """Learns whole slices and is scored inside the organ: what masking the input to the organ is worth."""

    card = MethodCard(
        name="vae-original",
        title="Variational autoencoder on whole slices",
        year=2021,
        family="reconstruction",
        citation="Yao et al., Label-Free Segmentation of COVID-19 Lesions in Lung CT, IEEE Transactions on Medical "
        "Imaging 40(10), 2021 (Table III); the trunk: Baur et al., Medical Image Analysis 69, 2021",
        reference="doi:10.1109/TMI.2021.3066161",
        figures=(
            ("input", "whole slices, size n/p", "128², not masked"),
            same("network", "trunk of ae, dense mean and log σ, z 128"),
            ("loss", "Baur: summed L1 + KL; Yao: KL · 10⁻⁶, reduction n/p", "L1 per pixel + 10⁻⁶ · KL summed over z"),
            *TRAINING_FIGURES,
        ),
        undertrained=("lung",),
        notes="As vae, on whole slices. Slices without organ are left out of training here as everywhere. " + LUNG_NOTE,
    )

    @property
    def view(self) -> View:
        """Whole slices with fixed grey bounds, the same in training and test."""
        return View(size=self.config.size, window=self.config.window, mask_roi=False)
