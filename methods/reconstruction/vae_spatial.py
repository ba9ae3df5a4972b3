"""Variational autoencoder whose code is a map of 8 × 8 positions instead of one vector."""

from dataclasses import dataclass
from typing import ClassVar

from ..card import MethodCard
from .parts.base import INPUT_FIGURE, LUNG_NOTE, TRAINING_FIGURES
from .vae import VAE, VAEConfig


@dataclass(frozen=True)
class VAESpatialConfig(VAEConfig):
    """Settings of :class:`VAESpatial`; ``z`` is the number of channels of the code."""

    profiles: ClassVar = {
        **VAEConfig.profiles,
        "quick": {**VAEConfig.profiles["quick"], "norm": "batch", "updates": 800},
    }


class VAESpatial(VAE):
    """Learns to reproduce healthy slices through a random map of codes that knows where each part lies."""

    card = MethodCard(
        name="vae-spatial",
        title="Spatial variational autoencoder",
        year=2021,
        family="reconstruction",
        citation="Yao et al., Label-Free Segmentation of COVID-19 Lesions in Lung CT, IEEE Transactions on Medical "
        "Imaging 40(10), 2021 (Table III); the trunk: Baur et al., Medical Image Analysis 69, 2021",
        reference="doi:10.1109/TMI.2021.3066161",
        figures=(
            INPUT_FIGURE,
            ("network", "code of 8 × 8 × 128, the rest n/p", "trunk of ae, code of 8 × 8 × 128 by 1×1 convolutions"),
            ("loss", "KL · 10⁻⁶, reduction n/p", "L1 per pixel + 10⁻⁶ · KL summed over the code"),
            *TRAINING_FIGURES,
        ),
        undertrained=("lung",),
        notes="Yao et al. print the shape of the code, 8 × 8 × 128, and nothing else; the heads here are 1×1 "
        "convolutions and the code is the decoder's input, as in the comparative study's spatial autoencoder. "
        + LUNG_NOTE,
    )
    Config = VAESpatialConfig
    spatial = True
