"""FPI and PII: patches of other scans are mixed into slices; a network predicts the factor with which they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard, same
from ..config import STANDARD_SLICES, SliceConfig
from ..context import FitContext
from ..method import Method
from ..training import as_input, autocast, batches, make_optimiser, predict, run_updates, training_length, update
from ..watching import held_out_loss

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet

SCORE_BATCH = 32
Batch = tuple["torch.Tensor", ...]
NextBatch = Callable[[], Batch]


@dataclass(frozen=True)
class ForeignPatchConfig(SliceConfig):
    """Settings of :class:`FPI`.

    Attributes:
        depth, widen: n and k of the wide residual net; ``size`` is a multiple of its 16, or 32 with six stages.
        l2: factor of the summed squares of the convolutions' weights in the loss.
        epochs: times that every training slice is seen.
        updates: overrides epochs.
        alpha: range of the blending factor.
        half_width: range of half a square patch's side, as share of the mean side of the organ's bounding box.
        centre_share: middle share of the bounding box that holds the centres.
        tolerance: change in grey value that a pixel of the target must exceed.
        donors: ``patients`` takes patches from another patient at the same relative height; ``slices`` from any other
            slice, for a training set of one patient.
    """

    depth: int = 16
    widen: int = 4
    batch: int = 32
    lr: float = 1e-3
    l2: float = 5e-4
    epochs: int = 50
    updates: int | None = None
    alpha: tuple[float, float] = (0.05, 0.95)
    half_width: tuple[float, float] = (0.05, 0.2)
    centre_share: float = 0.8
    tolerance: float = 0.0
    donors: Literal["patients", "slices"] = "patients"

    profiles: ClassVar = {
        "smoke": {"size": 32, "widen": 1, "batch": 4, "updates": 5, "donors": "slices"},
        "quick": {"size": 64, "widen": 1, "batch": 4, "updates": 750, "lr": 3e-3},
        "standard": {**STANDARD_SLICES, "widen": 1, "batch": 8, "updates": 1300},
    }


class FPI(Method):
    """Predicts the factor with which a patch of another scan was interpolated into the slice.

    Attributes:
        updates: optimiser updates done.
    """

    card = MethodCard(
        name="fpi",
        title="Foreign patch interpolation",
        year=2022,
        family="pseudo-anomaly",
        citation="Tan, Hou, Batten, Qiu, Kainz: Detecting Outliers with Foreign Patch Interpolation, MELBA 2022",
        reference="arXiv:2011.04197",
        slice_score="mean",
        figures=(
            ("input", "2D slices along each axis, size n/p", "256², axial, masked"),
            ("network", "wide residual encoder–decoder, k 4, n 16 (÷16) or 19 (÷32)", "n 16: 5 stages 64–256, 4 up"),
            ("loss", "BCE, or CE of 5 levels of α", "BCE in the organ"),
            same("optimiser", "Adam 10⁻³, L2 5·10⁻⁴, batch 32"),
            same("length", "50 epochs"),
        ),
        undertrained=("lung",),
        notes="Axial slices alone. The organ's bounding box stands for the image, and its mean side for the image's: "
        "patches are square, as published; the same place is the same relative height of the organ and the same "
        "relative position in its bounding box. No CT figures on LiTS or COVID-19 sets are published. On the lung the "
        "quick profile marks vessels, which a mixture doubles, as opacities.",
    )
    Config = ForeignPatchConfig
    tuned: ClassVar = {"lr": (1e-4, 1e-2, "log"), "half_width": ["0.05,0.2", "0.05,0.1", "0.1,0.3"]}
    blend: ClassVar = "interpolation"

    @property
    def min_patients(self) -> int:
        """Two where a patch comes from another patient."""
        return 2 if self.config.donors == "patients" else 1

    def build(self) -> None:
        import torch

        from ..nets.unets import WideResidualNet

        self.net = WideResidualNet(self.config.depth, self.config.widen).to(memory_format=torch.channels_last)
        self.updates = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the cross-entropy between predicted and true factor inside the region of interest."""
        import torch

        from ..ahead import drawn_ahead
        from ..losses import masked_cross_entropy

        c = self.config
        pasted = self.batch_source(healthy, ctx, "fit")
        kernels = [p for p in self.net.parameters() if p.ndim == 4]
        others = [p for p in self.net.parameters() if p.ndim != 4]
        # The gradient of l2 · Σ w² is 2 · l2 · w, which is what Adam's weight decay adds.
        groups = [{"params": kernels, "weight_decay": 2 * c.l2}, {"params": others}]
        optimiser = make_optimiser(ctx, torch.optim.Adam, groups, lr=c.lr)
        self.net.train()

        def loss_of(batch: Batch) -> torch.Tensor:
            _clean, images, targets, rois = batch
            with autocast(ctx.device, ctx.precision):
                logits = self.net(as_input(images, ctx.device))
            return masked_cross_entropy(logits, as_input(targets, ctx.device), as_input(rois, ctx.device))

        def source(held: HealthySet) -> NextBatch:  # a single patient to watch by has no other as donor
            return self.batch_source(held, ctx, "held out", c.donors if len(held.patients) > 1 else "slices")

        updates = training_length(c.updates, c.epochs, len(healthy.array(self.view)), c.batch)
        watch = held_out_loss(ctx, updates, [self.net], source, loss_of)
        with drawn_ahead(pasted, ctx) as draw:
            self.updates = run_updates(ctx, updates, lambda _: {"bce": update(optimiser, loss_of(draw()))}, watch=watch)

    def batch_source(self, healthy: HealthySet, ctx: FitContext, phase: str, donors: str = "") -> NextBatch:
        """Return what yields clean slices, slices with patches, targets and regions of interest, all (n, H, W).

        Raises:
            DataError: the healthy set has one patient, and ``donors`` asks for others.
        """
        from ..resident import sent
        from ..synthesis.foreign_patch import BLENDS, AnySlice, ForeignPatches, SamePlace

        c = self.config
        stack = healthy.array(self.view)
        patients = (donors or c.donors) == "patients"
        place = SamePlace.of(healthy, stack) if patients else AnySlice(len(stack))
        order = batches(ctx, len(stack), c.batch, "order", phase)
        rng = ctx.rng("patches", phase)
        paste = ForeignPatches(
            BLENDS[self.blend],
            alpha=c.alpha,
            half_width=c.half_width,
            centre_share=c.centre_share,
            tolerance=c.tolerance,
        )

        def draw() -> Batch:
            wanted = next(order)
            clean, rois = stack.take(wanted)
            images, targets = paste(clean, rois, *stack.take(place.donors(wanted, rng)), rng)
            return tuple(sent(part, ctx.device) for part in (clean, images, targets, rois))

        return draw

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        clean, images, targets, _rois = (part.cpu().numpy() for part in self.batch_source(healthy, ctx, "preview")())
        return {"healthy": clean, "with foreign patches": images, "target": targets}

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the predicted blending factor, 0 to 1, inside the region of interest."""
        self.net.eval()
        factor = predict(lambda x: self.net(x)[:, 0].sigmoid(), array, batch=SCORE_BATCH, device=self.device)
        return factor * roi


@dataclass(frozen=True)
class PIIConfig(ForeignPatchConfig):
    """Settings of :class:`PII`: those of FPI, with a tolerance for what the solver changes everywhere."""

    tolerance: float = 1e-3


class PII(FPI):
    """Predicts the factor with which the gradients of another scan entered the slice, without visible seams."""

    card = MethodCard(
        name="pii",
        title="Poisson image interpolation",
        year=2021,
        family="pseudo-anomaly",
        citation="Tan, Hou, Day, Simpson, Rueckert, Kainz: Detecting Outliers with Poisson Image Interpolation, "
        "MICCAI 2021",
        reference="arXiv:2107.02622",
        slice_score="mean",
        figures=FPI.card.figures,
        notes="As fpi but for the blend. Poisson's equation is solved on the patch by a fast sine "
        "transform; pixels outside either organ keep their gradients and values.",
    )
    Config = PIIConfig
    blend: ClassVar = "poisson"
