"""Student-teacher feature pyramid matching: where a student from scratch cannot follow its pretrained teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..card import MethodCard, same
from ..config import STANDARD_SLICES
from ..context import FitContext
from ..nets.corpora import IMAGENET
from ..training import as_input, autocast, batches, make_optimiser, run_updates, training_length, update
from ..watching import held_out_loss, held_out_slices
from .parts.backbone import LITE0, FeatureConfig, FeatureMethod, cosine_distance, upsample

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet


@dataclass(frozen=True)
class STFPMConfig(FeatureConfig):
    """Settings of :class:`STFPM`.

    Attributes:
        epochs: length of training.
        updates: overrides ``epochs``.
    """

    size: int = 256
    lr: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 1e-4
    epochs: int = 100
    updates: int | None = None
    sigma: float = field(default=0.0, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {"size": 32, "backbone": LITE0, "batch": 4, "updates": 4},
        "quick": {"size": 96, "backbone": LITE0, "batch": 8, "updates": 90},
        "standard": {**STANDARD_SLICES, "backbone": LITE0, "batch": 16, "updates": 800},
    }


class STFPM(FeatureMethod):
    """A student of the teacher's architecture imitates its features on healthy slices."""

    card = MethodCard(
        name="stfpm",
        title="Student-teacher feature pyramid matching",
        year=2021,
        family="features",
        citation="Wang et al., Student-Teacher Feature Pyramid Matching for Anomaly Detection, BMVC 2021",
        reference="arXiv:2103.04257",
        pretraining=IMAGENET,
        figures=(
            ("input", "256²", "256², masked, equalised"),
            same("network", "ResNet-18 layers 1–3, student from scratch"),
            (
                "loss",
                "½ squared distance of normalised features (code: no ½)",
                "½ squared distance of normalised features",
            ),
            same("optimiser", "SGD 0.4, momentum 0.9, decay 10⁻⁴, batch 32"),
            same("length", "100 epochs"),
        ),
        notes="ResNet-18, three stages, product of their maps. The loss is a mean over positions and slices, halved as "
        "in the paper. The released code does not halve it, which doubles the gradient at the same rate, holds out "
        "20 % of the healthy images and keeps the student whose map is lowest on them; here all slices train, and the "
        "last student scores.",
    )
    Config = STFPMConfig
    tuned: ClassVar = {"lr": (0.01, 1.0, "log"), "sigma": (0.0, 6.0)}

    def build(self) -> None:
        import torch

        from ..nets.timm_nets import TimmFeatures

        super().build()
        c = self.config
        self.student = TimmFeatures(c.backbone, c.stages).to(memory_format=torch.channels_last)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise half the squared distance of normalised features, summed over the stages."""
        import torch

        from ..resident import ResidentSlices

        c = self.config
        slices = ResidentSlices(healthy.array(self.view), ctx.device)
        order = batches(ctx, len(slices), c.batch, "order")
        optimiser = make_optimiser(
            ctx, torch.optim.SGD, self.student.parameters(), lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay
        )
        self.student.train()

        def loss_of(batch: Sequence[torch.Tensor]) -> torch.Tensor:
            images = as_input(batch[0], ctx.device)
            with autocast(ctx.device, ctx.precision):
                teacher, student = self.features(images), self.student(images)
            return matching_loss(teacher, student)

        def step(_: int) -> dict[str, torch.Tensor]:
            return {"loss": update(optimiser, loss_of(slices.take(next(order))))}

        updates = training_length(c.updates, c.epochs, len(slices), c.batch)
        watch = held_out_loss(ctx, updates, [self.student], held_out_slices(self.view, c.batch, ctx), loss_of)
        run_updates(ctx, updates, step, watch=watch)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return the product of the stages' distances, each enlarged to the view."""
        import torch

        pairs = zip(self.features(images), self.student(images), strict=True)
        return torch.stack([upsample(cosine_distance(t, s), self.config.size) for t, s in pairs]).prod(dim=0)


def matching_loss(teacher: Sequence[torch.Tensor], student: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return Σ over stages of the mean over slices and positions of ½ ‖t/‖t‖ − s/‖s‖‖², which is 1 − cosine.

    Args:
        teacher: maps (n, c, h, w), one per stage.
        student: maps of the same shapes.
    """
    losses = [cosine_distance(t, s).mean() for t, s in zip(teacher, student, strict=True)]
    return sum(losses[1:], start=losses[0])
