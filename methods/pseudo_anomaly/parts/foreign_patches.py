"""What FPI and PII share: patches of other scans blended into slices, and a net that predicts the blending factor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ....datasets.case import Spacing
from ...card import same
from ...config import SliceConfig
from ...context import FitContext
from ...method import Method
from ...training import as_input, autocast, batches, predict, run_updates, training_length, update

if TYPE_CHECKING:
    import torch

    from ....datasets.healthy import HealthySet
    from ...synthesis.foreign_patch import Blend

SCORE_BATCH = 32
NextBatch = Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
FIGURES = (
    ("input", "2D slices along each axis, size n/p", "256², axial, masked"),
    ("network", "wide residual encoder–decoder, k 4, n 16 or 19", "WRN-16-4 encoder, mirrored decoder"),
    ("loss", "BCE, or CE of 5 levels of α", "BCE in the organ"),
    ("optimiser", "batch 32, the rest n/p", "Adam 10⁻³, batch 32"),
    same("length", "50 epochs"),
)


@dataclass(frozen=True)
class ForeignPatchConfig(SliceConfig):
    """Settings of both methods.

    Attributes:
        depth, widen: n and k of the wide residual net.
        epochs: times that every training slice is seen.
        updates: overrides epochs.
        alpha: range of the blending factor.
        half_width: range of half a patch's side, as share of the organ's bounding box.
        centre_share: middle share of the bounding box that holds the centres.
        tolerance: change in grey value that a pixel of the target must exceed.
        donors: ``patients`` takes patches from another patient at the same relative height; ``slices`` from any other
            slice, for a training set of one patient.
    """

    depth: int = 16
    widen: int = 4
    batch: int = 32
    lr: float = 1e-3
    epochs: int = 50
    updates: int | None = None
    alpha: tuple[float, float] = (0.05, 0.95)
    half_width: tuple[float, float] = (0.05, 0.2)
    centre_share: float = 0.8
    tolerance: float = 0.0
    donors: Literal["patients", "slices"] = "patients"

    profiles: ClassVar = {
        "smoke": {"size": 32, "depth": 10, "widen": 1, "batch": 4, "updates": 5, "donors": "slices"},
        "quick": {"size": 64, "depth": 10, "widen": 1, "batch": 4, "updates": 250, "lr": 3e-3},
    }


class ForeignPatchMethod(Method):
    """Predicts for every pixel how much of it stems from another scan.

    Attributes:
        updates: optimiser updates done.
    """

    Config = ForeignPatchConfig
    tuned: ClassVar = {"lr": (1e-4, 1e-2, "log"), "half_width": ["0.05,0.2", "0.05,0.1", "0.1,0.3"]}

    @property
    def min_patients(self) -> int:
        """Two where a patch comes from another patient."""
        return 2 if self.config.donors == "patients" else 1

    @property
    def blend(self) -> Blend:
        """How a foreign patch enters a slice."""
        raise TypeError(f"{type(self).__name__} declares no blend")

    def build(self) -> None:
        import torch

        from ...nets.unets import WideResidualNet

        self.net = WideResidualNet(self.config.depth, self.config.widen).to(memory_format=torch.channels_last)
        self.updates = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the cross-entropy between predicted and true factor inside the region of interest."""
        import torch

        c = self.config
        draw = self.batch_source(healthy, ctx, "fit")
        optimiser = torch.optim.Adam(self.net.parameters(), lr=c.lr)
        self.net.train()

        def step(_: int) -> dict[str, torch.Tensor]:
            _clean, images, targets, rois = draw()
            with autocast(ctx.device, ctx.precision):
                logits = self.net(as_input(images, ctx.device))
            loss = masked_cross_entropy(logits, as_input(targets, ctx.device), as_input(rois, ctx.device))
            return {"bce": update(optimiser, loss)}

        slices = len(healthy.array(self.view))
        self.updates = run_updates(ctx, training_length(c.updates, c.epochs, slices, c.batch), step)

    def batch_source(self, healthy: HealthySet, ctx: FitContext, phase: str) -> NextBatch:
        """Return what yields clean slices, slices with patches, targets and regions of interest, all (n, H, W).

        Raises:
            DataError: the healthy set has one patient, and ``donors`` asks for others.
        """
        from ...synthesis.foreign_patch import AnySlice, ForeignPatches, SamePlace

        c = self.config
        stack = healthy.array(self.view)
        place = SamePlace.of(healthy, stack) if c.donors == "patients" else AnySlice(len(stack))
        order = batches(len(stack), c.batch, ctx.rng("order", phase))
        rng = ctx.rng("patches", phase)
        paste = ForeignPatches(
            self.blend, alpha=c.alpha, half_width=c.half_width, centre_share=c.centre_share, tolerance=c.tolerance
        )

        def draw() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
            wanted = next(order)
            clean, rois = stack.take(wanted)
            images, targets = paste(clean, rois, *stack.take(place.donors(wanted, rng)), rng)
            return clean, images, targets, rois

        return draw

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        clean, images, targets, _rois = self.batch_source(healthy, ctx, "preview")()
        return {"healthy": clean, "with foreign patches": images, "target": targets}

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the predicted blending factor, 0 to 1, inside the region of interest."""
        self.net.eval()
        factor = predict(lambda x: self.net(x)[:, 0].sigmoid(), array, batch=SCORE_BATCH, device=self.device)
        return factor * roi


def masked_cross_entropy(logits: torch.Tensor, target: torch.Tensor, roi: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy with soft targets, averaged over the pixels of ``roi``; all (n, 1, H, W)."""
    from torch.nn import functional

    loss = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return (loss * roi).sum() / roi.sum()
