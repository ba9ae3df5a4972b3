"""Gradient of a variational autoencoder's KL divergence with respect to the pixels, alone and times the residual."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard
from .parts.base import SCORE_BATCH
from .parts.residual import residual
from .vae import VAE, SummedVAEConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class KLGradConfig(SummedVAEConfig):
    """Settings of :class:`KLGrad` and :class:`KLGradCombi`, which share one training.

    Attributes:
        kl_bug: give the divergence exp(σ) in place of σ, in training and scoring, as the released code does.
        smooth: side of the Gaussian window on the gradient; 0 is off.
        sigma: its standard deviation in pixels.
        sign: part of the residual that counts; ``kl-grad`` has no residual and ignores it.
    """

    kl_bug: bool = False
    smooth: int = field(default=7, metadata={"stage": "score"})
    sigma: float = field(default=3.0, metadata={"stage": "score"})


class KLGrad(VAE):
    """Pixels whose change would bring the code of a slice nearer to the prior are anomalous."""

    card = MethodCard(
        name="kl-grad",
        title="Gradient of the KL divergence",
        year=2019,
        family="reconstruction",
        citation="Zimmerer, Isensee, Petersen, Kohl, Maier-Hein: Unsupervised Anomaly Localization using Variational "
        "Auto-Encoders, MICCAI 2019",
        reference="arXiv:1907.02796",
        near_chance=("liver", "lung"),
        figures=(
            ("input", "64² patches of z-scored MRI", "128², masked; lungs in Yao's frame"),
            ("network", "4×4 stride 2, 16–256, no norm, z 256", "trunk of ae, dense mean and log σ, z 128"),
            ("loss", "summed squared error (σ 1) + KL, σ exponentiated twice", "summed L1 + KL"),
            ("optimiser", "Adam 10⁻⁴, batch 64", "Adam 3·10⁻⁴, batch 16"),
            ("length", "5 epochs", "6,000 updates"),
        ),
        notes="Unified trunk of Baur et al., KL divergence of weight 1 against the summed absolute error; with the "
        "weight 1e-6 of the vae row its gradient is close to meaningless. Near chance in Yao et al. 2021, and here "
        "little better than untrained: the divergence of a whole slice says little about a pixel.",
    )
    Config = KLGradConfig
    tuned: ClassVar = {**VAE.tuned, "alpha_kl": (1e-2, 10.0, "log"), "smooth": [0, 7]}
    summed = True

    def divergence(self, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
        """Return the KL divergence of the code, float32 (n,); of a code of width exp(σ) with ``kl_bug``."""
        return super().divergence(mean, log_std.float().exp() if self.config.kl_bug else log_std)

    def code_divergence(self, x: torch.Tensor) -> torch.Tensor:
        """Return the KL divergence of slices (n, 1, H, W), (n,)."""
        return self.divergence(*self.net.encode(x))

    def gradient(self, array: np.ndarray, roi: np.ndarray) -> np.ndarray:
        """Return |∂KL/∂x| inside the region of interest, 0 elsewhere; float32, shape (slices, H, W)."""
        from .parts.input_gradient import gradient_maps

        self.net.eval()
        return np.abs(gradient_maps(self.code_divergence, array, batch=SCORE_BATCH, device=self.device)) * roi

    def smoothed(self, map_: np.ndarray) -> np.ndarray:
        """Return a map (slices, H, W) after the Gaussian window, where there is one."""
        from .parts.input_gradient import smoothed

        return smoothed(map_, self.config.smooth, self.config.sigma) if self.config.smooth else map_

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the smoothed gradient inside the (eroded) region of interest, 0 elsewhere."""
        return self.finish(self.smoothed(self.gradient(array, roi)), roi)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the gradient, scaled to [0, 1] in every slice: nothing is reconstructed for the map."""
        from .parts.input_gradient import min_max

        return {"gradient of KL": min_max(self.gradient(array, roi), roi)}


class KLGradCombi(KLGrad):
    """The residual, weighted by the gradient of the KL divergence scaled to [0, 1] in every slice.

    The training is :class:`KLGrad`'s, network and reconstruction are :class:`.vae.VAE`'s, the rest is
    :class:`.base.ReconstructionMethod`'s; only the score is its own.
    """

    card = MethodCard(
        name="kl-grad-combi",
        title="Gradient of the KL divergence × residual",
        year=2019,
        family="reconstruction",
        citation=KLGrad.card.citation,
        reference=KLGrad.card.reference,
        trainer="kl-grad",
        near_chance=("liver", "lung"),
        figures=KLGrad.card.figures,
        notes="The training of kl-grad, scored a second time. The gradient is scaled slice by slice, so that slices do "
        "not influence each other. The released code multiplies by the negative log-likelihood of a Gaussian; that of "
        "the Laplace distribution behind the absolute error of this training is the residual itself, of which the lung "
        "takes the positive part. No CT figures are published; near chance because one of its two factors is.",
    )

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return gradient (scaled, then smoothed) × residual inside the (eroded) region of interest, 0 elsewhere."""
        from .parts.input_gradient import min_max

        weight = self.smoothed(min_max(self.gradient(array, roi), roi))
        return self.finish(weight * residual(array, self.reconstruct(array), self.config.sign), roi)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return both factors of the map: the reconstruction and the scaled gradient."""
        return {"reconstruction": self.reconstruct(array), **super().restore_view(array, roi, scores, spacing)}
