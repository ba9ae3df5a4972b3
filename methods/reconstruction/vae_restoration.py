"""Restoration: a slice climbs the lower bound of a variational autoencoder; what had to change is anomalous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard
from ..context import FitContext, TrainingError
from ..early_stopping import hold_out
from .parts.base import SCORE_BATCH
from .parts.residual import residual
from .parts.summed_vae import KL_WEIGHTS, SummedVAEConfig, summed_losses
from .vae import VAE

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet, SliceStack

TV_GRID = tuple(round(0.2 * i, 1) for i in range(20))


@dataclass(frozen=True)
class VAERestorationConfig(SummedVAEConfig):
    """Settings of :class:`VAERestoration`.

    Attributes:
        steps: steps of the ascent.
        rate: size of a step, in grey values of [0, 1] per unit of gradient.
        early_rate: size of the first ``early_steps`` steps.
        early_steps: number of those.
        clip: largest gradient of a pixel.
        tv_grid: candidates for the weight of the total variation; a single one is taken as it is.
        tv_slices: held-out healthy slices, at most, on which the weight is chosen.
    """

    steps: int = 500
    rate: float = 2e-3
    early_rate: float = 5e-3
    early_steps: int = 100
    clip: float = 100.0
    tv_grid: tuple[float, ...] = TV_GRID
    tv_slices: int = 128

    profiles: ClassVar = {
        "smoke": {
            **SummedVAEConfig.profiles["smoke"],
            "steps": 3,
            "early_steps": 1,
            "tv_grid": (0.0, 1.0),
            "tv_slices": 4,
        },
        "quick": {
            **SummedVAEConfig.profiles["quick"],
            "steps": 30,
            "early_steps": 10,
            "rate": 3e-3,
            "tv_grid": (0.0, 0.6, 1.2, 1.8),
            "tv_slices": 8,
        },
    }


class VAERestoration(VAE):
    """Changes a slice until a model of healthy slices finds it likely; the map is the size of the change.

    Attributes:
        tv_weight: weight of the total variation, chosen in :meth:`fit`.
        healthy_changes: (weight, mean |x − restored| inside the region of interest) on the held-out healthy slices.
    """

    card = MethodCard(
        name="vae-restoration",
        title="Restoration with a variational autoencoder",
        year=2019,
        family="reconstruction",
        citation="You, Tezcan, Chen, Konukoglu: Unsupervised Lesion Detection via Image Restoration with a Normative "
        "Prior, MIDL 2019",
        reference="https://proceedings.mlr.press/v102/you19a.html",
        near_chance=("liver", "lung"),
        figures=(
            ("input", "158 × 198", "128², masked"),
            ("network", "mixture VAE, 3×3, 64 channels, spatial z, c 6", "trunk of ae, dense mean and log σ, z 128"),
            ("loss", "mixture bound, KL(c) floored at 0.5", "summed L1 + KL"),
            ("optimiser", "5·10⁻⁵, batch 16", "Adam 3·10⁻⁴, batch 16"),
            ("length", "1.6 M updates, 500 steps per image", "6,000 updates, 500 steps per slice"),
        ),
        notes="Unified trunk of Baur et al. in place of the spatial mixture model, KL divergence of weight 1 against "
        "the summed absolute error. The total variation is that of the change, and its weight is the one that changes "
        "held-out healthy slices least. Near chance in Yao et al. 2021, and here hardly better than untrained: the "
        "ascent takes fine healthy texture, which the code cannot hold, as well as lesions. On the liver phantom "
        "(quick, seed 0) it changes held-out healthy tissue by 26 HU on average without total variation and by 9 HU "
        "at the chosen weight; lesions differ by 38 HU. Either way the map stays near chance.",
    )
    Config = VAERestorationConfig
    tuned: ClassVar = {**VAE.tuned, "alpha_kl": KL_WEIGHTS, "steps": [50, 150, 500]}

    def build(self) -> None:
        """Create the network; a method that was not fitted restores without total variation."""
        super().build()
        self.tv_weight = 0.0
        self.healthy_changes: list[tuple[float, float]] = []

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Train the autoencoder without a held-out fifth of the patients, then choose the weight on these."""
        stack = healthy.array(self.view)
        if len(stack) < 2:
            raise TrainingError("vae-restoration needs at least two healthy slices: one chooses the weight tv_weight")
        super().fit(healthy, ctx)
        held_out = hold_out(healthy, stack, ctx.rng("hold-out"))[1]
        count = min(self.config.tv_slices, len(held_out))
        chosen = np.sort(ctx.rng("tv-slices").choice(held_out, count, replace=False))
        self.choose_weight(*stack.take(chosen))

    def losses(self, x: torch.Tensor, roi: torch.Tensor, draws: torch.Generator) -> dict[str, torch.Tensor]:
        from ..nets.baur import kl

        return summed_losses(self, x, draws, kl)

    def bound(self, x: torch.Tensor) -> torch.Tensor:
        """Return the lower bound of slices (n, 1, H, W) with the mean code in place of a random one, (n,)."""
        from ..nets.baur import kl

        reconstruction, mean, log_std = self.net(x)
        return -(x - reconstruction).abs().sum((1, 2, 3)) - self.config.alpha_kl * kl(mean, log_std)

    def training_slices(self, healthy: HealthySet, stack: SliceStack, ctx: FitContext) -> np.ndarray:
        """Return the slices of the patients that do not choose the weight."""
        return hold_out(healthy, stack, ctx.rng("hold-out"))[0]

    def choose_weight(self, images: np.ndarray, rois: np.ndarray) -> None:
        """Set ``tv_weight`` to the candidate that changes healthy slices (n, H, W) least."""
        from .parts.restoration import healthy_weight

        changes = {}
        for weight in self.config.tv_grid:
            change = np.abs(images - self.restored(images, rois, weight))
            changes[weight] = float(change[rois].mean())
        self.healthy_changes = list(changes.items())
        self.tv_weight = healthy_weight(changes)

    def restored(self, array: np.ndarray, roi: np.ndarray, weight: float) -> np.ndarray:
        """Return the slices after the ascent, float32, shape of ``array`` (slices, H, W)."""
        from .parts.restoration import Ascent, restored_slices

        c = self.config
        self.net.eval()
        ascent = Ascent(c.steps, (c.early_rate, c.rate), c.early_steps, c.clip)
        return restored_slices(array, roi, self.bound, weight, ascent, batch=SCORE_BATCH, device=self.device)

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return what the restoration took from the slice inside the (eroded) region of interest, 0 elsewhere."""
        return self.finish(residual(array, self.restored(array, roi, self.tv_weight), self.config.sign), roi)
