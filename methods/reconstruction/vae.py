"""Variational autoencoders on the unified trunk: plain, with dropout at test time, on whole slices, spatial."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...common.seeds import derive
from ...datasets.case import Region, Spacing
from ...datasets.views.volume_view import AnyView
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
    dropout: float = 0.1

    profiles: ClassVar = ReconstructionConfig.profiles_with(smoke={"dropout": 0.1}, quick={"z": 32, "dropout": 0.1})


@dataclass(frozen=True)
class SummedVAEConfig(ReconstructionConfig):
    """Settings of a variational autoencoder trained on the lower bound with both terms summed.

    Its divergence shapes the code, which the scores of ``kl-grad`` and ``vae-restoration`` need: with 10⁻⁶ on the error
    per pixel neither its gradient nor the bound says what is normal.

    Attributes:
        alpha_kl: weight of the KL divergence against the absolute error *summed* over the slice (Baur et al. 2021).
            On the error per pixel, as in ``vae``, it would be alpha_kl / size².
    """

    alpha_kl: float = 1.0
    dropout: float = 0.1

    profiles: ClassVar = ReconstructionConfig.profiles_with(
        quick={"z": 32, "lr": 2e-3, "updates": 500, "alpha_kl": 0.01, "erode": 2}
    )


class VAE(ReconstructionMethod):
    """Learns to reproduce healthy slices through a narrow random code; what it cannot reproduce is anomalous.

    Attributes:
        net: the network, made by :meth:`build`.
        dropout_seed: seed of random draws at test time, from the seed of the fit.
        summed: the error counts summed over the slice and not per pixel; see :class:`SummedVAEConfig`.
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
    summed: ClassVar[bool] = False

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
        """Return the absolute error plus the weighted KL divergence, the error per pixel and the divergence."""
        from torch.nn import functional

        reconstruction, mean, log_std = self.net(x, draws)
        l1 = functional.l1_loss(reconstruction.float(), x)
        kl = self.divergence(mean, log_std).mean()
        pixels = x[0].numel() if self.summed else 1
        return {"loss": l1 * pixels + self.config.alpha_kl * kl, "l1": l1, "kl": kl}

    def divergence(self, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
        """Return the KL divergence of codes from the standard normal, float32 (n,)."""
        from ..nets.baur import kl

        return kl(mean, log_std)

    def slice_losses(self, x: torch.Tensor) -> torch.Tensor:
        """Return the loss of each slice (n, 1, H, W) with the mean code in place of a random one, (n,)."""
        reconstruction, mean, log_std = self.net(x)
        error = (x - reconstruction).abs()
        of_slice = error.sum((1, 2, 3)) if self.summed else error.mean((1, 2, 3))
        return of_slice + self.config.alpha_kl * self.divergence(mean, log_std)

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

    dropout: float = 0.2
    profiles: ClassVar = VAEConfig.profiles_with(smoke={"dropout": 0.2}, quick={"dropout": 0.2})
    samples: int = field(default=20, metadata={"stage": "score"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout <= 0 or self.samples < 1:
            raise ConfigError(
                f"dropout={self.dropout}, samples={self.samples}: the map is a mean over networks that are thinned by "
                "dropout; set dropout above 0 (0.2 in the paper) and samples to 1 or more"
            )


class BayesianVAE(VAE):
    """The network of :class:`VAE`, scored by the mean residual of thinned copies: dropout stays on at test time."""

    card = MethodCard(
        name="bayesian-vae",
        title="Bayesian variational autoencoder",
        year=2021,
        family="reconstruction",
        citation="Baur et al., Autoencoders for Unsupervised Anomaly Segmentation in Brain MR Images: A Comparative "
        "Study, Medical Image Analysis 69, 2021; dropout as sampling: Gal and Ghahramani, ICML 2016",
        reference="doi:10.1016/j.media.2020.101952",
        figures=(
            *VAE.card.figures[:2],
            ("network", "that of vae, dropout 0.2, passes n/p", "that of vae, dropout 0.2, 20 passes"),
            *VAE.card.figures[3:],
        ),
        undertrained=("lung",),
        notes="Trained like vae with twice its dropout; the 0.2 (on both heads of the code and after the dense layer "
        "back) stays on at test time. Twenty thinned networks, the same for every slice; Yao et al. print no number of "
        "passes. Residuals are averaged (Baur et al.); Yao et al. speak of a consensus reconstruction. " + LUNG_NOTE,
    )
    Config = BayesianVAEConfig

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the mean residual of the thinned networks inside the (eroded) region of interest, 0 elsewhere."""
        map_ = np.zeros(array.shape, np.float32)
        for number in range(self.config.samples):
            map_ += residual(array, self.thinned(array, number), self.config.sign)
        return self.finish(map_ / self.config.samples, roi)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the mean of the reconstructions of the thinned networks."""
        drawn = (self.thinned(array, number) for number in range(self.config.samples))
        return {"mean reconstruction": sum(drawn, np.zeros(array.shape, np.float32)) / self.config.samples}

    def thinned(self, array: np.ndarray, number: int) -> np.ndarray:
        """Return the reconstruction by one thinned network, float32, shape of ``array``.

        The network depends on the fit and on ``number`` alone, not on the slices that are scored with it or before it.
        """
        from ..nets.baur import thinned

        with thinned(self.net, derive(self.dropout_seed, number)) as forward:
            return predict(lambda x: forward(x)[0][:, 0], array, batch=SCORE_BATCH, device=self.device)


@dataclass(frozen=True)
class VAEOriginalConfig(VAEConfig):
    """Settings of :class:`VAEOriginal`.

    Attributes:
        scored: the map is made and measured inside the organ, as of every other row, or in whole ``slices``.
    """

    scored: Region = field(default="roi", metadata={"stage": "score"})

    profiles: ClassVar = VAEConfig.profiles_with(standard={"field_of_view": None})


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
            ("input", "whole slices, size n/p", "128², not masked; lungs in Yao's frame"),
            same("network", "trunk of ae, dense mean and log σ, z 128"),
            ("loss", "Baur: summed L1 + KL; Yao: KL · 10⁻⁶, reduction n/p", "L1 per pixel + 10⁻⁶ · KL summed over z"),
            *TRAINING_FIGURES,
        ),
        undertrained=("lung",),
        notes="As vae, on whole slices. Slices without organ are left out of training here as everywhere. Measured "
        "inside the organ, or with scored=slices in whole slices; Yao et al. do not say where they measure. "
        + LUNG_NOTE,
    )
    Config = VAEOriginalConfig

    @property
    def region(self) -> Region:
        """Where the map is measured, by the setting ``scored``."""
        return self.config.scored

    @property
    def view(self) -> AnyView:
        """Whole slices with fixed grey bounds, the same in training and test."""
        return replace(self.config.view, mask_roi=False)

    def finish(self, map_: np.ndarray, roi: np.ndarray) -> np.ndarray:
        """Apply ``median`` and ``erode`` to a map; float32, 0 outside the (eroded) part that counts."""
        return super().finish(map_, roi if self.region == "roi" else np.ones_like(roi))


@dataclass(frozen=True)
class VAESpatialConfig(VAEConfig):
    """Settings of :class:`VAESpatial`; ``z`` is the number of channels of the code."""

    profiles: ClassVar = VAEConfig.profiles_with(quick={"norm": "batch", "updates": 800})


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
