"""Segmentation of random-shape pseudo outliers, without restoration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard
from ..config import STANDARD_SLICES, SliceConfig
from ..context import FitContext
from ..synthesis.stretched_noise import QUICK_SHAPES, ShapeConfig
from ..training import autocast, make_optimiser, predict, quicker_first, run_updates, training_length, update
from .parts.augmented_slices import AugmentedSlices, Batch, Synthesis

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet, SliceStack

SCORE_BATCH = 32


@dataclass(frozen=True)
class RandomShapeConfig(SliceConfig, ShapeConfig):
    """Settings of :class:`RandomShape`; those of the masks mean what they mean for the liver paper's method.

    Attributes:
        equalise: histogram equalisation inside the region of interest.
        seg_base: width of the first level of the segmentation net.
        epochs: times that every training slice is seen.
        updates: overrides epochs.
        first_lr: learning rate of the first half of the updates, if not ``lr``: a short training begins faster.
        dice_smooth: added to both sides of the Dice quotient.
        fill: what replaces the tissue inside a mask: ``shift`` of its intensity, a ``constant`` or a noise ``texture``.
    """

    equalise: bool = True
    seg_base: int = 64
    batch: int = 8
    lr: float = 1e-4
    first_lr: float | None = None
    epochs: int = 20
    updates: int | None = None
    dice_smooth: float = 1.0
    fill: Literal["shift", "constant", "texture"] = "shift"

    profiles: ClassVar = {
        "smoke": {"size": 32, "seg_base": 4, "batch": 4, "updates": 5},
        "quick": {**QUICK_SHAPES, "size": 64, "seg_base": 16, "batch": 4, "lr": 5e-4, "updates": 600},
        "standard": {
            **STANDARD_SLICES,
            "seg_base": 8,
            "batch": 4,
            "first_lr": 1e-3,
            "updates": 4000,
            "rejection": True,  # a short training cannot afford slices with nothing to learn
        },
    }


class RandomShape(AugmentedSlices):
    """Segments random shapes of foreign intensity directly.

    Attributes:
        updates: optimiser updates done.
    """

    card = MethodCard(
        name="random-shape",
        title="Random-shape pseudo outliers",
        year=2022,
        family="pseudo-anomaly",
        citation="Deng, Li: Self-supervised anomaly detection with random-shape pseudo-outliers, EMBC 2022",
        reference="EMBC 2022, pages 4768–4772",
        figures=(
            ("input", "n/p", "256², masked, equalised"),
            ("network", "n/p", "DRAEM's U-Net 64–512 on the slice"),
            ("loss", "n/p", "cross-entropy + Dice over the batch"),
            ("optimiser", "n/p", "Adam 10⁻⁴, batch 8"),
            ("length", "n/p", "20 epochs"),
        ),
        notes="Text and code were not at hand: the masks are those of the liver paper, which took them over; network, "
        "optimiser and preprocessing are that paper's segmentation stage. It is the row without restoration of that "
        "method.",
    )
    Config = RandomShapeConfig
    tuned: ClassVar = {
        "lr": (1e-5, 2e-3, "log"),
        "fill": ["shift", "constant", "texture"],
        "rejection": [False, True],
        "threshold": (170, 220),
        "min_shift": (20.0, 60.0),
    }
    native_threshold = 0.5
    augmented = "with pseudo outliers"

    def build(self) -> None:
        import torch

        from ..nets.unets import DiscriminativeUNet

        self.net = DiscriminativeUNet(1, 1, self.config.seg_base).to(memory_format=torch.channels_last)
        self.updates = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise cross-entropy plus Dice loss on slices with pseudo outliers."""
        import torch

        c = self.config
        stack = healthy.array(self.view)
        draw = self.batch_source(stack, ctx, "fit")
        updates = training_length(c.updates, c.epochs, len(stack), c.batch)
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.net.parameters(), lr=c.lr)
        quicker_first(ctx, optimiser, c.first_lr, ctx.updates(updates))
        self.net.train()

        def losses_of(batch: Batch) -> dict[str, torch.Tensor]:
            _clean, augmented, masks = batch
            with autocast(ctx.device, ctx.precision):
                logits = self.net(augmented)
            return bce_and_dice(logits, masks[:, None], c.dice_smooth)

        def step(_: int) -> dict[str, torch.Tensor]:
            losses = losses_of(draw())
            update(optimiser, sum(losses.values()))
            return {name: loss.detach() for name, loss in losses.items()}

        watch = self.watch(ctx, updates, [self.net], "fit", lambda batch: sum(losses_of(batch).values()))
        self.updates = run_updates(ctx, updates, step, watch=watch)

    def synthesis(self, stack: SliceStack, ctx: FitContext, phase: str) -> Synthesis:
        from ..synthesis.shift import ShiftedRegions

        c = self.config
        return ctx.keep(ShiftedRegions(c.size, ctx.device, ctx.seed_for("synthesis", phase), c, fill=c.fill))

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the probability of an outlier inside the region of interest."""
        self.net.eval()
        return predict(lambda x: self.net(x)[:, 0].sigmoid(), array, batch=SCORE_BATCH, device=self.device) * roi


def bce_and_dice(logits: torch.Tensor, target: torch.Tensor, smooth: float) -> dict[str, torch.Tensor]:
    """Return the mean cross-entropy and the soft Dice loss 1 − (2·Σpt + s) / (Σp + Σt + s) over the whole batch.

    The Dice sums run over the batch, because most of its slices may have no outlier.

    Args:
        logits: (n, 1, H, W).
        target: same shape, bool.
        smooth: s.
    """
    from torch.nn import functional

    from ..losses import soft_dice

    logits, truth = logits.float(), target.float()
    return {
        "bce": functional.binary_cross_entropy_with_logits(logits, truth),
        "dice": 1 - soft_dice(logits.sigmoid(), truth, smooth),
    }
