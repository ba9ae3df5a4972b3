"""Restoration: a slice climbs the lower bound of a variational autoencoder; what had to change is anomalous."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard
from ..context import FitContext, TrainingError
from ..early_stopping import hold_out
from ..training import as_input
from .parts.base import SCORE_BATCH
from .parts.residual import residual
from .vae import VAE, SummedVAEConfig

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet, SliceStack


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
    tv_grid: tuple[float, ...] = tuple(round(0.2 * i, 1) for i in range(20))
    tv_slices: int = 128

    profiles: ClassVar = SummedVAEConfig.profiles_with(
        smoke={"steps": 3, "early_steps": 1, "tv_grid": (0.0, 1.0), "tv_slices": 4},
        quick={"steps": 30, "early_steps": 10, "rate": 3e-3, "tv_grid": (0.0, 0.6, 1.2, 1.8), "tv_slices": 8},
        # A fifth of the steps, each larger.
        standard={
            "steps": 100,
            "early_steps": 20,
            "rate": 5e-3,
            "early_rate": 1e-2,
            "tv_grid": (0.0, 0.6, 1.2, 1.8, 2.4, 3.0, 3.6),
            "tv_slices": 24,
        },
    )


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
            ("input", "158 × 198", "128², masked; lungs in Yao's frame"),
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
    tuned: ClassVar = {**VAE.tuned, "alpha_kl": (1e-2, 10.0, "log"), "steps": [50, 150, 500]}
    summed = True

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

    def training_slices(self, healthy: HealthySet, stack: SliceStack, ctx: FitContext) -> np.ndarray:
        """Return the slices of the patients that do not choose the weight."""
        return hold_out(healthy, stack, ctx.rng("hold-out"))[0]

    def choose_weight(self, images: np.ndarray, rois: np.ndarray) -> None:
        """Set ``tv_weight`` to the candidate that changes healthy slices (n, H, W) least, the smaller one of equals."""
        changes = {}
        for weight in self.config.tv_grid:
            change = np.abs(images - self.restored(images, rois, weight))
            changes[weight] = float(change[rois].mean())
        self.healthy_changes = list(changes.items())
        self.tv_weight = min(changes, key=lambda weight: (changes[weight], weight))

    def restored(self, array: np.ndarray, roi: np.ndarray, weight: float) -> np.ndarray:
        """Return the slices after the ascent, float32, shape of ``array`` (slices, H, W); uint8 is divided by 255."""
        self.net.eval()
        out = np.empty(array.shape, np.float32)
        for start in range(0, len(array), SCORE_BATCH):
            part = slice(start, start + SCORE_BATCH)
            x, inside = as_input(array[part], self.device), as_input(roi[part], self.device) > 0
            climbed = restore(x, inside, lambda y: -self.slice_losses(y), weight, self.config)
            out[part] = climbed[:, 0].cpu().numpy()
        return out

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return what the restoration took from the slice inside the (eroded) region of interest, 0 elsewhere."""
        return self.finish(residual(array, self.restored(array, roi, self.tv_weight), self.config.sign), roi)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the slices after the ascent."""
        return {"restoration": self.restored(array, roi, self.tv_weight)}


def total_variation(images: torch.Tensor) -> torch.Tensor:
    """Return the sum of absolute differences of neighbouring pixels, (n, 1, H, W) to (n,)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().sum((1, 2, 3))
    return down + (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().sum((1, 2, 3))


def restore(
    x: torch.Tensor,
    roi: torch.Tensor,
    bound: Callable[[torch.Tensor], torch.Tensor],
    weight: float,
    c: VAERestorationConfig,
) -> torch.Tensor:
    """Climb ``bound(y) − weight · TV(x − y)`` from y = x, inside ``roi`` only, with clipped gradients.

    The penalty is on what has been taken from the slice, not on the difference to a reconstruction: a restoration is a
    piecewise constant change of the input (You et al. 2019, PMLR 102). Slices do not influence each other.

    Args:
        x: float32 (n, 1, H, W).
        roi: bool, same shape.
        bound: lower bound of the log likelihood, (n, 1, H, W) to (n,); its networks in evaluation mode.
        weight: of the total variation.
        c: number, size and clip of the steps.
    """
    from .parts.input_gradient import pixel_gradient

    restored = x
    for i in range(c.steps):
        rate = c.early_rate if i < c.early_steps else c.rate
        gradient = pixel_gradient(lambda y: bound(y) - weight * total_variation(x - y), restored)
        restored = restored + rate * gradient.clamp(-c.clip, c.clip) * roi
    return restored
