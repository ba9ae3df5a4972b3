"""NSA: patches of other slices are cloned in without seams; a network predicts where, and how much that changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
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
    from ..synthesis.natural_patches import NaturalPatches

SCORE_BATCH = 32
Batch = tuple["torch.Tensor", ...]
NextBatch = Callable[[], Batch]


@dataclass(frozen=True)
class NSAConfig(SliceConfig):
    """Settings of :class:`NSA`; those of the patches are explained in :class:`.NaturalPatches`.

    Attributes:
        size: a multiple of 32.
        channels, layers: widths and blocks of the encoder; the defaults are ResNet-18.
        lr_end: learning rate that the cosine would reach after the last epoch.
        epochs: times that every training slice is seen, and steps of the learning rate.
        updates: overrides the length of ``epochs``.
        rotate: largest turn of a slice in degrees, before patches are cut and pasted.
        shift: largest move of a slice in pixels per axis.
    """

    size: int = 224
    channels: tuple[int, ...] = (64, 128, 256, 512)
    layers: tuple[int, ...] = (2, 2, 2, 2)
    batch: int = 64
    lr: float = 1e-3
    lr_end: float = 1e-6
    epochs: int = 240
    updates: int | None = None
    rotate: float = 3.0
    shift: float = 3.0
    patches: int = 3
    least: float = 0.05
    gamma: tuple[float, float] = (2.0, 0.03)
    limits: tuple[float, float] = (0.03, 0.4)
    scale_std: float = 0.5
    scale: tuple[float, float] = (0.7, 1.3)
    overlap: float = 0.7
    min_pixels: int = 50
    tolerance: float = 2.0
    mask_median: int = 5
    label: Literal["logistic", "binary"] = "logistic"
    midpoint: float = 18.0
    steepness: float = 1 / 9
    disk: int = 5

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "channels": (8, 8, 16, 32),
            "layers": (1, 1, 1, 1),
            "batch": 4,
            "updates": 4,
            "shift": 1.0,
            "min_pixels": 4,
            "mask_median": 1,
            "disk": 1,
        },
        "quick": {
            "size": 64,
            "channels": (16, 16, 32, 64),
            "layers": (1, 1, 1, 1),
            "batch": 8,
            "updates": 500,
            "shift": 1.0,
            "min_pixels": 4,
            "mask_median": 3,
            "disk": 1,
        },
        # A little more than half the published grid: what is counted in pixels shrinks with it.
        "standard": {
            **STANDARD_SLICES,
            "channels": (16, 32, 64, 128),
            "batch": 8,
            "updates": 2500,
            "shift": 1.7,
            "min_pixels": 16,
            "mask_median": 3,
            "disk": 3,
        },
    }

    def patch_maker(self) -> NaturalPatches:
        """Return what these settings make of slices."""
        from ..synthesis.natural_patches import NaturalPatches

        low, high = self.window
        own = [field.name for field in fields(NaturalPatches) if field.name != "hu"]
        return NaturalPatches(hu=high - low, **{name: getattr(self, name) for name in own})


class NSA(Method):
    """Predicts how much cloned patches of other slices changed a slice.

    Attributes:
        updates: optimiser updates done.
    """

    card = MethodCard(
        name="nsa",
        title="Natural synthetic anomalies (NSA)",
        year=2022,
        family="pseudo-anomaly",
        citation="Schlüter, Tan, Hou, Kainz: Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and "
        "Localization, ECCV 2022",
        reference="arXiv:2109.15222",
        slice_score="mean",
        undertrained=("liver", "lung"),
        figures=(
            ("input", "chest X-ray: 224² cut from 256²", "224², masked"),
            same("network", "ResNet-18, 3 transposed residual blocks 64–16, no skips"),
            ("loss", "BCE, logistic target", "BCE in the organ, logistic target in HU"),
            same("optimiser", "Adam 10⁻³, cosine to 10⁻⁶, batch 64"),
            same("length", "240 epochs"),
        ),
        notes="Settings of the released chest X-ray experiment. Its constants are 8-bit grey levels; here they are HU: "
        "a change of 2 HU counts, the target is ½ at 18 HU, and slope times midpoint is 2 as published. The organ's "
        "bounding box stands for the image and the organ for the object. Gradients come from tissue of both slices "
        "alone. No CT figures are published. The quick profile is at chance on the phantom of the checks: a patch of "
        "its even tissue leaves nothing to be seen where it was cloned in, and the network learns no brightness.",
    )
    Config = NSAConfig
    tuned: ClassVar = {"lr": (1e-4, 3e-3, "log"), "midpoint": (5.0, 60.0), "label": ["logistic", "binary"]}
    requires = ("timm",)

    def build(self) -> None:
        import torch

        from ..nets.nsa_net import NSANet

        self.net = NSANet(self.config.channels, self.config.layers).to(memory_format=torch.channels_last)
        self.updates = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the cross-entropy with the soft target inside the region of interest."""
        import torch

        from ..ahead import drawn_ahead
        from ..losses import masked_cross_entropy

        c = self.config
        pasted = self.batch_source(healthy, ctx, "fit")
        wanted = training_length(c.updates, c.epochs, len(healthy.array(self.view)), c.batch)
        total = ctx.updates(wanted)
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.net.parameters(), lr=c.lr)
        schedule = ctx.keep(
            torch.optim.lr_scheduler.LambdaLR(
                optimiser, lambda i: stepped_cosine(i / max(total, 1), c.epochs, c.lr_end / c.lr)
            )
        )
        self.net.train()

        def loss_of(batch: Batch) -> torch.Tensor:
            _clean, images, targets, rois = batch
            with autocast(ctx.device, ctx.precision):
                logits = self.net(as_input(images, ctx.device))
            return masked_cross_entropy(logits, as_input(targets, ctx.device), as_input(rois, ctx.device))

        def step(_: int) -> dict[str, torch.Tensor]:
            loss = update(optimiser, loss_of(draw()))
            schedule.step()
            return {"bce": loss}

        watch = held_out_loss(ctx, wanted, [self.net], lambda held: self.batch_source(held, ctx, "held out"), loss_of)
        with drawn_ahead(pasted, ctx) as draw:
            self.updates = run_updates(ctx, wanted, step, watch=watch)

    def batch_source(self, healthy: HealthySet, ctx: FitContext, phase: str) -> NextBatch:
        """Return what yields clean slices, slices with patches, targets and regions of interest, all (n, H, W).

        Raises:
            DataError: the healthy set has one slice alone.
        """
        from ..resident import sent
        from ..synthesis.foreign_patch import AnySlice
        from ..synthesis.natural_patches import jittered

        c, stack, paste = self.config, healthy.array(self.view), self.config.patch_maker()
        place = AnySlice(len(stack))
        order = batches(ctx, len(stack), c.batch, "order", phase)
        rng = ctx.rng("patches", phase)

        def draw() -> Batch:
            wanted = next(order)
            clean, rois = jittered(*stack.take(wanted), c.rotate, c.shift, rng)
            foreign = jittered(*stack.take(place.donors(wanted, rng)), c.rotate, c.shift, rng)
            parts = (clean, *paste(clean, rois, *foreign, rng), rois)
            return tuple(sent(part, ctx.device) for part in parts)

        return draw

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        clean, images, targets, _rois = (part.cpu().numpy() for part in self.batch_source(healthy, ctx, "preview")())
        return {"healthy": clean, "with cloned patches": images, "target": targets}

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the predicted target, 0 to 1, inside the region of interest."""
        self.net.eval()
        return predict(lambda x: self.net(x)[:, 0].sigmoid(), array, batch=SCORE_BATCH, device=self.device) * roi


def stepped_cosine(share: float, epochs: int, least: float) -> float:
    """Return the factor on the learning rate after a share of the training: a cosine from 1 that is lowered by epochs.

    >>> [round(stepped_cosine(s, 4, 0.0), 3) for s in (0, 0.2, 0.25, 0.5, 0.99)]
    [1.0, 1.0, 0.854, 0.5, 0.146]
    """
    passed = min(int(share * epochs + 1e-9), epochs) / epochs
    return least + (1 - least) * (1 + math.cos(math.pi * passed)) / 2
