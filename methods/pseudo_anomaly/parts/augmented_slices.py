"""What methods on slices with synthetic lesions share: their training batches and what ``bench preview`` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ....datasets.views.slice_view import View
from ...context import FitContext
from ...method import Method
from ...training import batches

if TYPE_CHECKING:
    import torch

    from ....datasets.healthy import HealthySet, SliceStack

Synthesis = Callable[["torch.Tensor", "torch.Tensor"], tuple["torch.Tensor", "torch.Tensor"]]
NextBatch = Callable[[], tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]]


class AugmentedSlices(Method):
    """Learns on healthy 8-bit slices, some with synthetic lesions, and their masks.

    Attributes:
        augmented: title of such slices in a preview.
    """

    augmented: ClassVar[str] = "with synthetic lesions"

    @property
    def view(self) -> View:
        c = self.config
        return View(size=c.size, window=c.window, equalise=c.equalise, dtype="uint8")

    def synthesis(self, stack: SliceStack, ctx: FitContext, phase: str) -> Synthesis:
        """Return what turns slices, uint8 (n, H, W), and their regions into augmented slices in [0, 1] and masks."""
        raise TypeError(f"{type(self).__name__} declares no synthesis")

    def batch_source(self, stack: SliceStack, ctx: FitContext, phase: str, rotate_p: float = 0.0) -> NextBatch:
        """Return what yields training batches: clean and augmented slices (n, 1, H, W) in [0, 1], masks (n, H, W).

        Args:
            rotate_p: share of slices that are turned first.
        """
        import torch

        from ...synthesis.perlin import random_angles, rotate

        order = batches(len(stack), self.config.batch, ctx.rng("order", phase))
        synthesise = self.synthesis(stack, ctx, phase)
        turns = torch.Generator(ctx.device).manual_seed(ctx.seed_for("rotation", phase))

        def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            images, rois = (torch.from_numpy(a).to(ctx.device) for a in stack.take(next(order)))
            if rotate_p > 0:
                turned = torch.rand(len(images), generator=turns, device=images.device) < rotate_p
                angles = random_angles(len(images), 90.0, turns) * turned
                images = rotate(images.float(), angles).round().to(torch.uint8)
                rois = rotate(rois.float(), angles, nearest=True) > 0
            augmented, masks = synthesise(images, rois)
            return images.float()[:, None] / 255, augmented[:, None], masks

        return draw

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        clean, augmented, masks = self.batch_source(healthy.array(self.view), ctx, "preview")()
        return {
            "healthy": clean[:, 0].cpu().numpy(),
            self.augmented: augmented[:, 0].cpu().numpy(),
            "target": masks.float().cpu().numpy(),
        }
