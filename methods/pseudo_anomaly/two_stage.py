"""Two-stage restoration and segmentation on random-shape pseudo anomalies: the liver paper's method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from ..card import MethodCard, same
from ..config import STANDARD_SLICES
from ..context import FitContext
from ..synthesis.stretched_noise import QUICK_SHAPES, ShapeConfig
from ..training import autocast, make_optimiser, quicker_first, run_updates, training_length, update
from .parts.augmented_slices import QUICK_PERLIN, Batch, RestoreAndSegment, RestoreSegmentConfig, Synthesis, decaying

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet, SliceStack


@dataclass(frozen=True)
class TwoStageConfig(ShapeConfig, RestoreSegmentConfig):
    """Settings of :class:`TwoStage`; the three switches make the rows of the paper's Table 2.

    Attributes:
        two_phase: train restoration first, then segmentation on the frozen restoration; else both at once, with the
            losses of DRAEM. Nothing is turned (``rotate_p``) unless a joint row asks for it.
        anomaly: ``stretched`` shifts the intensity of random shapes; ``perlin`` is DRAEM's source.
        restoration: ``unet`` with weight-standardised convolutions, or DRAEM's autoencoder ``ae``.
        wf, depth: binary logarithm of the first width, and levels, of the U-Net.
        restoration_epochs, segmentation_epochs, joint_epochs: length of each phase.
        restoration_updates, segmentation_updates, joint_updates: override the epochs.
        segmentation_decay_at: shares of the segmentation updates after which its learning rate falls by ``lr_decay``;
            never in the paper; the quick profile's rate is ten times the paper's.
        segmentation_checkpoints: numbers N of epochs of segmentation training after which a checkpoint ``epoch-N`` is
            kept.
        checkpoint: which checkpoint scores: ``last`` or an ``epoch-N``; several share one training.
        control_texture: fill half of the masks with noise instead of shifting them.
    """

    two_phase: bool = True
    anomaly: Literal["stretched", "perlin"] = "stretched"
    restoration: Literal["unet", "ae"] = "unet"
    wf: int = 6
    depth: int = 4
    restoration_epochs: int = 201
    segmentation_epochs: int = 1
    joint_epochs: int = 100
    restoration_updates: int | None = None
    segmentation_updates: int | None = None
    joint_updates: int | None = None
    segmentation_decay_at: tuple[float, ...] = ()
    segmentation_checkpoints: tuple[int, ...] = ()
    checkpoint: str = field(default="last", metadata={"stage": "score"})
    control_texture: bool = False
    rotate_p: float = 0.0
    init: Literal["torch", "normal", "he"] = "torch"

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "wf": 2,
            "ae_base": 4,
            "seg_base": 4,
            "batch": 4,
            "restoration_updates": 4,
            "segmentation_updates": 4,
            "joint_updates": 5,
        },
        "quick": {
            **QUICK_PERLIN,
            **QUICK_SHAPES,
            "size": 64,
            "wf": 3,
            "ae_base": 8,
            "seg_base": 16,
            "batch": 4,
            "lr": 1e-3,
            "restoration_updates": 40,
            "segmentation_updates": 300,
            "segmentation_decay_at": (0.6, 0.85),
            "joint_updates": 220,
        },
        "standard": {
            **STANDARD_SLICES,
            "wf": 3,
            "ae_base": 8,
            "seg_base": 8,
            "batch": 4,
            "first_lr": 1e-3,
            "rejection": True,  # a short training cannot afford slices with nothing to learn
            # As in the paper, the segmentation net sees less than the restoration.
            "restoration_updates": 2800,
            "segmentation_updates": 1200,
            "joint_updates": 2600,
        },
    }


class TwoStage(RestoreAndSegment):
    """Restores random-shape intensity shifts, then trains a segmentation net lightly on the frozen restoration."""

    card = MethodCard(
        name="two-stage",
        title="Two-stage pseudo anomaly synthesis",
        year=2023,
        family="pseudo-anomaly",
        citation="Zhang, Deng, Li: Unsupervised Liver Tumor Segmentation with Pseudo Anomaly Synthesis, SASHIMI 2023",
        reference="doi:10.1007/978-3-031-44689-4_9",
        figures=(
            same("input", "256², masked, equalised"),
            same("network", "U-Net 64–512, 4 levels; DRAEM's U-Net 64–512"),
            same("loss", "L1 to the clean slice; focal(γ 2)"),
            same("optimiser", "Adam 10⁻⁴, batch 8"),
            ("length", "200 (code: 201) + 1 epochs", "201 + 1 epochs"),
        ),
        notes="Details follow the released code where the text is silent or differs: the shift acts inside the mask, "
        "the restoration is compared with the clean slice, the noise is uniform, opening precedes closing.",
    )
    Config = TwoStageConfig
    tuned: ClassVar = {
        "lr": (1e-5, 2e-3, "log"),
        "rejection": [False, True],
        "threshold": (170, 220),
        "min_shift": (20.0, 60.0),
    }

    def restoration_net(self) -> torch.nn.Module:
        from ..nets.unets import WeightStandardisedUNet

        c = self.config
        return WeightStandardisedUNet(1, 1, c.depth, c.wf) if c.restoration == "unet" else super().restoration_net()

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Train restoration, then segmentation; or both at once without ``two_phase``."""
        c = self.config
        stack = healthy.array(self.view)

        def length(updates: int | None, epochs: int) -> int:
            return training_length(updates, epochs, len(stack), c.batch)

        if not c.two_phase:
            self.train_jointly(stack, ctx, length(c.joint_updates, c.joint_epochs))
            return
        self.train_restoration(stack, ctx, length(c.restoration_updates, c.restoration_epochs))
        self.train_segmentation(stack, ctx, length(c.segmentation_updates, c.segmentation_epochs))

    def synthesis(self, stack: SliceStack, ctx: FitContext, phase: str) -> Synthesis:
        c = self.config
        if c.anomaly == "perlin":
            return self.blended_textures(stack, ctx, phase, "perlin")
        from ..synthesis.shift import ShiftedRegions

        fill = "control" if c.control_texture else "shift"
        return ctx.keep(
            ShiftedRegions(c.size, ctx.device, ctx.seed_for("synthesis", phase), c, fill=fill, in_roi=False)
        )

    def train_restoration(self, stack: SliceStack, ctx: FitContext, updates: int) -> None:
        """Phase one: mean absolute error between the restored and the clean slice."""
        import torch

        draw = self.batch_source(stack, ctx, "restoration")
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.restoration.parameters(), lr=self.config.lr)
        quicker_first(ctx, optimiser, self.config.first_lr, ctx.updates(updates))
        self.restoration.train()

        def loss_of(batch: Batch) -> torch.Tensor:
            clean, augmented, _masks = batch
            with autocast(ctx.device, ctx.precision):
                restored = self.restoration(augmented)
            return torch.nn.functional.l1_loss(restored.float(), clean)

        watch = self.watch(ctx, updates, [self.restoration], "restoration", loss_of)
        self.updates["restoration"] = run_updates(
            ctx, updates, lambda _: {"l1": update(optimiser, loss_of(draw()))}, phase="restoration", watch=watch
        )

    def train_segmentation(self, stack: SliceStack, ctx: FitContext, updates: int) -> None:
        """Phase two: focal loss of the segmentation net; the restoration net stays as it is, in evaluation mode."""
        import torch

        from ..losses import focal_loss

        c = self.config
        draw = self.batch_source(stack, ctx, "segmentation")
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.segmentation.parameters(), lr=c.lr)
        quicker_first(ctx, optimiser, c.first_lr, ctx.updates(updates))
        schedule = ctx.keep(decaying(optimiser, ctx.updates(updates), c.segmentation_decay_at, c.lr_decay))
        keep = {training_length(None, n, len(stack), c.batch): f"epoch-{n}" for n in c.segmentation_checkpoints}
        self.restoration.eval()

        def loss_of(batch: Batch) -> torch.Tensor:
            _clean, augmented, masks = batch
            with autocast(ctx.device, ctx.precision):
                with torch.no_grad():
                    restored = self.restoration(augmented)
                logits = self.segment(restored, augmented)
            return focal_loss(logits, masks, c.focal_gamma, c.focal_smooth)

        def step(i: int) -> dict[str, torch.Tensor]:
            self.segmentation.train()
            loss = update(optimiser, loss_of(draw()))
            schedule.step()
            if i + 1 in keep:
                ctx.checkpoint(keep[i + 1])
            return {"focal": loss}

        first = self.updates.get("restoration", 0)
        watch = self.watch(ctx, updates, [self.restoration, self.segmentation], "segmentation", loss_of)
        self.updates["segmentation"] = run_updates(ctx, updates, step, phase="segmentation", first=first, watch=watch)
