"""Variational autoencoder on the unified trunk, scored by the reconstruction from the mean code or by many of them.

``vae`` and ``bayesian-vae`` are one training, scored twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...common.seeds import derive
from ...datasets.case import Spacing
from ..card import MethodCard, same
from ..config import ConfigError
from ..context import FitContext
from ..training import predict
from .parts.base import (
    INPUT_FIGURE,
    LUNG_NOTE,
    SCORE_BATCH,
    TRAINING_FIGURES,
    ReconstructionConfig,
    ReconstructionMethod,
)
from .parts.residual import residual

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet
    from ..nets.baur import BaurVAE


@dataclass(frozen=True)
class VAEConfig(ReconstructionConfig):
    """Settings of :class:`VAE`.

    Attributes:
        alpha_kl: weight of the KL divergence, summed over the latent dimensions, against the absolute error per pixel;
            10⁻⁶ in Yao et al. 2021.
    """

    alpha_kl: float = 1e-6

    profiles: ClassVar = {
        "smoke": {**ReconstructionConfig.profiles["smoke"], "dropout": 0.1},
        "quick": {**ReconstructionConfig.profiles["quick"], "z": 32, "dropout": 0.1},
    }


class VAE(ReconstructionMethod):
    """Learns to reproduce healthy slices through a narrow random code; what it cannot reproduce is anomalous.

    Attributes:
        net: the network, made by :meth:`build`.
        dropout_seed: seed of random draws at test time, from the seed of the fit.
    """

    card = MethodCard(
        name="vae",
        title="Variational autoencoder",
        year=2021,
        family="reconstruction",
        citation="Baur et al., Autoencoders for Unsupervised Anomaly Segmentation in Brain MR Images: A Comparative "
        "Study, Medical Image Analysis 69, 2021",
        reference="doi:10.1016/j.media.2020.101952",
        figures=(
            INPUT_FIGURE,
            same("network", "trunk of ae, dense mean and log σ, z 128"),
            ("loss", "Baur: summed L1 + KL; Yao: KL · 10⁻⁶, reduction n/p", "L1 per pixel + 10⁻⁶ · KL summed over z"),
            *TRAINING_FIGURES,
        ),
        undertrained=("lung",),
        notes="Unified trunk, dense code of 128; absolute error per pixel + 1e-6 · KL summed over it (Yao et al.). "
        "The comparative study sums the error over the slice and weighs the KL with 1. The liver has the lung's "
        "weight: a choice between 1e-6 and 1e-4 by healthy reconstruction ends at the smaller one, since a larger "
        "weight trades reconstruction for divergence (liver phantom, quick, seeds 0 and 1: mean error of held-out "
        "healthy livers 0.13 and 0.68). " + LUNG_NOTE,
    )
    Config = VAEConfig
    tuned: ClassVar = {**ReconstructionMethod.tuned, "alpha_kl": (1e-7, 1e-4, "log")}
    net: BaurVAE
    spatial: ClassVar[bool] = False

    def build(self) -> None:
        super().build()
        self.dropout_seed = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the loss, and remember a seed for scores that need random numbers."""
        super().fit(healthy, ctx)
        self.dropout_seed = ctx.seed_for("thinned networks")

    def make_net(self) -> torch.nn.Module:
        from ..nets.baur import BaurVAE

        c = self.config
        return BaurVAE(c.size, c.z, c.norm, c.dropout, c.width, self.spatial)

    def losses(self, x: torch.Tensor, roi: torch.Tensor, draws: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the mean absolute error per pixel plus the weighted KL divergence, and both terms."""
        from torch.nn import functional

        from ..nets.baur import kl

        reconstruction, mean, log_std = self.net.draw(x, draws)
        l1 = functional.l1_loss(reconstruction.float(), x)
        divergence = kl(mean, log_std).mean()
        return {"loss": l1 + self.config.alpha_kl * divergence, "l1": l1, "kl": divergence}

    def reconstruct(self, array: np.ndarray) -> np.ndarray:
        """Return the reconstruction from the mean code, without dropout, float32, shape of ``array``."""
        self.net.eval()
        return predict(lambda x: self.net(x)[0][:, 0], array, batch=SCORE_BATCH, device=self.device)


@dataclass(frozen=True)
class BayesianVAEConfig(VAEConfig):
    """Settings of :class:`BayesianVAE`.

    Attributes:
        samples: thinned networks whose residuals are averaged.

    Raises:
        ConfigError: there is no dropout or nothing to average.
    """

    samples: int = field(default=20, metadata={"stage": "score"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout <= 0 or self.samples < 1:
            raise ConfigError(
                f"dropout={self.dropout}, samples={self.samples}: the map is a mean over networks that are thinned by "
                "dropout; set dropout above 0 (0.2 in the paper) and samples to 1 or more"
            )


class BayesianVAE(VAE):
    """The same network, scored by the mean residual of thinned copies of itself: dropout stays on at test time."""

    card = MethodCard(
        name="bayesian-vae",
        title="Bayesian variational autoencoder",
        year=2021,
        family="reconstruction",
        citation="Baur et al., Autoencoders for Unsupervised Anomaly Segmentation in Brain MR Images: A Comparative "
        "Study, Medical Image Analysis 69, 2021; dropout as sampling: Gal and Ghahramani, ICML 2016",
        reference="doi:10.1016/j.media.2020.101952",
        trainer="vae",
        figures=(
            *VAE.card.figures[:2],
            ("network", "that of vae, dropout 0.2 at test, passes n/p", "that of vae, dropout 0.2 at test, 20 passes"),
            *VAE.card.figures[3:],
        ),
        undertrained=("lung",),
        notes="One training with vae; dropout of 0.2 (on both heads of the code and after the dense layer back) stays "
        "on at test time. Twenty thinned networks, the same for every slice; Yao et al. print no number of passes. "
        "Residuals are averaged (Baur et al.); Yao et al. speak of a consensus reconstruction. " + LUNG_NOTE,
    )
    Config = BayesianVAEConfig

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the mean residual of the thinned networks inside the (eroded) region of interest, 0 elsewhere."""
        map_ = np.zeros(array.shape, np.float32)
        for number in range(self.config.samples):
            map_ += residual(array, self.thinned(array, number), self.config.sign)
        return self.finish(map_ / self.config.samples, roi)

    def thinned(self, array: np.ndarray, number: int) -> np.ndarray:
        """Return the reconstruction by one thinned network, float32, shape of ``array``.

        The network depends on the fit and on ``number`` alone, not on the slices that are scored with it or before it.
        """
        from ..nets.baur import thinned

        with thinned(self.net, derive(self.dropout_seed, number)) as forward:
            return predict(lambda x: forward(x)[0][:, 0], array, batch=SCORE_BATCH, device=self.device)
