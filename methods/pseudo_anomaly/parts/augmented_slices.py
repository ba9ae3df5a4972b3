"""What methods on slices with synthetic lesions share: batches, preview, a restoration before the segmentation.

:class:`AugmentedSlices` draws the batches; :class:`RestoreAndSegment` is what DRAEM and the liver paper's method share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ....datasets.case import Spacing
from ....datasets.views.slice_view import View
from ...config import SliceConfig
from ...context import FitContext
from ...method import Method
from ...training import autocast, batches, make_optimiser, predict, quicker_first, run_updates
from ...watching import held_out_loss

if TYPE_CHECKING:
    import torch

    from ....datasets.healthy import HealthySet, SliceStack

Synthesis = Callable[["torch.Tensor", "torch.Tensor"], tuple["torch.Tensor", "torch.Tensor"]]
Batch = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]
NextBatch = Callable[[], Batch]
SCORE_BATCH = 32
# On 64² slices an organ has a few hundred pixels, of which the published masks leave too few to learn from quickly.
QUICK_PERLIN = {"octaves": 3, "perlin_threshold": 0.25, "p_none": 0.2}


class AugmentedSlices(Method):
    """Learns on healthy 8-bit slices, some with synthetic lesions, and their masks.

    Attributes:
        augmented: title of such slices in a preview.
    """

    augmented: ClassVar[str] = "with synthetic lesions"

    @property
    def view(self) -> View:
        c = self.config
        return replace(c.view, equalise=c.equalise, dtype="uint8")

    def synthesis(self, stack: SliceStack, ctx: FitContext, phase: str) -> Synthesis:
        """Return what turns slices, uint8 (n, H, W), and their regions into augmented slices in [0, 1] and masks."""
        raise TypeError(f"{type(self).__name__} declares no synthesis")

    def batch_source(self, stack: SliceStack, ctx: FitContext, phase: str, rotate_p: float = 0.0) -> NextBatch:
        """Return what yields training batches: clean and augmented slices (n, 1, H, W) in [0, 1], masks (n, H, W).

        A share ``rotate_p`` of the slices is turned first.
        """
        import torch

        from ...resident import ResidentSlices
        from ...synthesis.textures import random_angles, rotate

        slices = ResidentSlices(stack, ctx.device, held=False if "held out" in phase else None)
        order = batches(ctx, len(stack), self.config.batch, "order", phase)
        synthesise = self.synthesis(stack, ctx, phase)
        turns = ctx.generator("rotation", phase)

        def draw() -> Batch:
            images, rois = slices.take(next(order))
            if rotate_p > 0:
                turned = torch.rand(len(images), generator=turns, device=images.device) < rotate_p
                angles = random_angles(len(images), 90.0, turns) * turned
                images = rotate(images.float(), angles).round().to(torch.uint8)
                rois = rotate(rois.float(), angles, nearest=True) > 0
            augmented, masks = synthesise(images, rois)
            return images.float()[:, None] / 255, augmented[:, None], masks

        return draw

    def watch(
        self,
        ctx: FitContext,
        updates: int,
        nets: Sequence[torch.nn.Module],
        phase: str,
        loss: Callable[[Batch], Any],
        rotate_p: float = 0.0,
    ) -> Callable[[], float] | None:
        """Return what measures a loss on batches of held-out patients, with lesions as in a phase of the training."""

        def source(held: HealthySet) -> NextBatch:
            return self.batch_source(held.array(self.view), ctx, f"{phase}, held out", rotate_p)

        return held_out_loss(ctx, updates, nets, source, loss)

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        clean, augmented, masks = self.batch_source(healthy.array(self.view), ctx, "preview")()
        return {
            "healthy": clean[:, 0].cpu().numpy(),
            self.augmented: augmented[:, 0].cpu().numpy(),
            "target": masks.float().cpu().numpy(),
        }


@dataclass(frozen=True)
class RestoreSegmentConfig(SliceConfig):
    """Settings that both methods have.

    Attributes:
        preprocessing: ``fixed`` maps the window linearly to grey levels; ``faithful`` stretches every slice from its
            own minimum to its maximum and resizes with a cubic filter, as the liver paper's code does. That code clips
            its test scans and not its training scans; here both are clipped, because a view cannot tell them apart.
        equalise: histogram equalisation inside the region of interest.
        ae_base, seg_base: width of the first level of DRAEM's restoration and segmentation nets.
        octaves, perlin_threshold: Perlin masks have 2^0 … 2^octaves cells per axis, cut at the threshold.
        max_image_share: upper end of β, the share of the image in a blended texture.
        p_none: share of slices without a blended texture.
        first_lr: learning rate of the first half of the updates, if not ``lr``: a short training begins faster.
        lr_decay, lr_decay_at: factor of the learning rate in joint training, and after which share of the updates.
        rotate_p: share of slices turned by up to ±90° before an anomaly is added, in joint training.
        focal_on_empty: compute the focal loss in joint training also for batches without any anomalous pixel, as DRAEM
            does; the scripts of the liver paper's authors leave it out there.
        init: first weights: ``torch`` are PyTorch's own, of which the liver paper's code changes none; ``normal`` draws
            those of DRAEM's networks from N(0, 0.02), scaled with the width; ``he`` then scales every layer of the
            segmentation net by its own inputs (He et al. 2015), which a short training needs.
        frozen_restoration: leave the restoration net in joint training at its random weights, the fault of a script of
            the liver paper's authors from which that paper's DRAEM row may stem; reported as a row of its own, never
            as DRAEM.
    """

    preprocessing: Literal["fixed", "faithful"] = "fixed"
    equalise: bool = True
    ae_base: int = 128
    seg_base: int = 64
    batch: int = 8
    lr: float = 1e-4
    first_lr: float | None = None
    focal_gamma: float = 2.0
    focal_smooth: float = 1e-5
    ssim_window: int = 11
    ssim_sigma: float = 1.5
    octaves: int = 5
    perlin_threshold: float = 0.5
    max_image_share: float = 0.8
    p_none: float = 0.5
    lr_decay: float = 0.2
    lr_decay_at: tuple[float, ...] = (0.8, 0.9)
    rotate_p: float = 0.3
    focal_on_empty: bool = True
    init: Literal["torch", "normal", "he"] = "normal"
    frozen_restoration: bool = False


class RestoreAndSegment(AugmentedSlices):
    """Restores a slice, then segments where slice and restoration disagree in a way that matters.

    Attributes:
        updates: optimiser updates done, by phase.
    """

    Config = RestoreSegmentConfig
    native_threshold = 0.5

    @property
    def view(self) -> View:
        """Masked, equalised 8-bit slices, in grey levels as ``preprocessing`` says."""
        view = super().view
        return replace(view, grey="slice", resize="cubic") if self.config.preprocessing == "faithful" else view

    def build(self) -> None:
        import torch

        from ...nets.unets import DiscriminativeUNet

        layout = torch.channels_last
        self.restoration = self.restoration_net().to(memory_format=layout)
        self.segmentation = DiscriminativeUNet(2, 2, self.config.seg_base).to(memory_format=layout)
        if self.config.init != "torch":
            self.segmentation.draw_as_draem()
        if self.config.init == "he":
            for module in self.segmentation.modules():
                if isinstance(module, torch.nn.Conv2d):
                    torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.updates: dict[str, int] = {}

    def restoration_net(self) -> torch.nn.Module:
        """Create the restoration network: here DRAEM's autoencoder."""
        from ...nets.unets import RestorationAE

        net = RestorationAE(1, 1, self.config.ae_base)
        if self.config.init != "torch":
            net.draw_as_draem()
        return net

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        import torch

        def probability(image: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.segment(self.restoration(image), image), dim=1)[:, 1]

        self.restoration.eval()
        self.segmentation.eval()
        return predict(probability, array, batch=SCORE_BATCH, device=self.device)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return what the restoration net makes of the slices."""
        self.restoration.eval()
        return {
            "restoration": predict(lambda x: self.restoration(x)[:, 0], array, batch=SCORE_BATCH, device=self.device)
        }

    def segment(self, restored: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return logits (n, 2, H, W); the segmentation net sees the restoration first, the image second."""
        import torch

        return self.segmentation(torch.cat([restored.to(image.dtype), image], dim=1))

    def train_jointly(self, stack: SliceStack, ctx: FitContext, updates: int) -> None:
        """Train both nets at once: squared error and structural similarity to the clean slice, focal on the mask."""
        import torch

        from ...losses import focal_loss, ssim_loss

        c = self.config
        draw = self.batch_source(stack, ctx, "joint", c.rotate_p)
        trained = [self.segmentation] if c.frozen_restoration else [self.restoration, self.segmentation]
        optimiser = make_optimiser(
            ctx, torch.optim.Adam, [p for net in trained for p in net.parameters()], lr=c.lr, fused=True
        )
        quicker_first(ctx, optimiser, c.first_lr, ctx.updates(updates))
        schedule = ctx.keep(decaying(optimiser, ctx.updates(updates), c.lr_decay_at, c.lr_decay))
        self.restoration.train().requires_grad_(not c.frozen_restoration)
        self.segmentation.train()

        def losses_of(batch: Batch) -> dict[str, torch.Tensor]:
            clean, augmented, masks = batch
            with autocast(ctx.device, ctx.precision):
                restored = self.restoration(augmented)
                logits = self.segment(restored, augmented)
            losses = {
                "l2": torch.nn.functional.mse_loss(restored.float(), clean),
                "ssim": ssim_loss(restored, clean, c.ssim_window, c.ssim_sigma),
            }
            if c.focal_on_empty or bool(masks.any()):
                losses["focal"] = focal_loss(logits, masks, c.focal_gamma, c.focal_smooth)
            return losses

        def step(_: int) -> dict[str, torch.Tensor]:
            losses = losses_of(draw())
            total = torch.stack(list(losses.values())).sum()
            optimiser.zero_grad(set_to_none=True)
            # A frozen restoration learns nothing from a batch without anomalies, nor does the segmentation.
            if total.requires_grad:
                total.backward()
            optimiser.step()
            schedule.step()
            return {name: loss.detach() for name, loss in losses.items()}

        nets = [self.restoration, self.segmentation]
        watch = self.watch(ctx, updates, nets, "joint", lambda batch: sum(losses_of(batch).values()), c.rotate_p)
        self.updates["joint"] = run_updates(ctx, updates, step, watch=watch)
        self.restoration.requires_grad_(True)

    def blended_textures(
        self, stack: SliceStack, ctx: FitContext, phase: str, source: Literal["perlin", "healthy"]
    ) -> Synthesis:
        """Return DRAEM's synthesis with one of its texture sources."""
        from ...resident import ResidentSlices
        from ...synthesis.textures import BlendedTextures

        c, rng = self.config, ctx.rng("texture", phase)
        slices = ResidentSlices(stack, ctx.device) if source == "healthy" else None

        def other_slices(count: int) -> Sequence[torch.Tensor]:
            assert slices is not None
            return slices.take(rng.integers(0, len(stack), count))

        return BlendedTextures(
            c.size,
            ctx.generator("synthesis", phase),
            source=source,
            octaves=c.octaves,
            threshold=c.perlin_threshold,
            max_image_share=c.max_image_share,
            p_none=c.p_none,
            other_slices=other_slices,
        )


def decaying(
    optimiser: torch.optim.Optimizer, updates: int, shares: Sequence[float], factor: float
) -> torch.optim.lr_scheduler.MultiStepLR:
    """Return a schedule that multiplies the learning rate by ``factor`` after these shares of the updates."""
    import torch

    return torch.optim.lr_scheduler.MultiStepLR(optimiser, [round(share * updates) for share in shares], factor)
