"""DRAEM: restores slices with textured Perlin anomalies and segments them, both networks trained at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ..card import MethodCard, same
from ..config import STANDARD_SLICES, complete
from ..context import FitContext
from ..training import training_length
from .parts.augmented_slices import QUICK_PERLIN, RestoreAndSegment, RestoreSegmentConfig, Synthesis

if TYPE_CHECKING:
    from ...datasets.healthy import HealthySet, SliceStack


@dataclass(frozen=True)
class DRAEMConfig(RestoreSegmentConfig):
    """Settings of :class:`DRAEM`.

    Attributes:
        texture_source: ``healthy`` fills a mask with another training slice, scaled in intensity; ``perlin`` with the
            field that made the mask, which is bright and so a poor model of most liver tumours.
        budget: ``short`` trains 100 epochs, ``released`` the 700 of the published code.
        epochs: overrides the budget.
        updates: overrides epochs.
    """

    texture_source: Literal["healthy", "perlin"] = "healthy"
    budget: Literal["short", "released"] = "short"
    epochs: int | None = None
    updates: int | None = None

    profiles: ClassVar = {
        "smoke": {"size": 32, "ae_base": 4, "seg_base": 4, "batch": 4, "updates": 5},
        "quick": {
            **QUICK_PERLIN,
            "size": 64,
            "ae_base": 8,
            "seg_base": 8,
            "batch": 4,
            "updates": 200,
            "lr": 2e-3,
            "texture_source": "perlin",
            "p_none": 0.0,
            "max_image_share": 0.5,
            "init": "he",
        },
        "standard": {
            **STANDARD_SLICES,
            "ae_base": 8,
            "seg_base": 8,
            "batch": 4,
            "updates": 2600,
            "first_lr": 1e-3,
        },
    }

    def __post_init__(self) -> None:
        complete(self, {"epochs": {"short": 100, "released": 700}[self.budget]})


class DRAEM(RestoreAndSegment):
    """Learns to undo textured anomalies and to mark them; at test both networks run on the plain slice."""

    card = MethodCard(
        name="draem",
        title="DRAEM",
        year=2021,
        family="pseudo-anomaly",
        citation="Zavrtanik, Kristan, Skočaj: DRAEM – A discriminatively trained reconstruction embedding for surface "
        "anomaly detection, ICCV 2021",
        reference="arXiv:2108.07610",
        min_seeds=5,
        slice_score=("meanpool", 21),
        figures=(
            ("input", "256², 3 channels", "256², 1 channel, masked, equalised"),
            same("network", "AE 128–1024 without skips; U-Net 64–512, 2 outputs"),
            same("loss", "L2 + SSIM(11, σ 1.5) + focal(γ 2), 1:1:1"),
            same("optimiser", "Adam 10⁻⁴, batch 8, ×0.2 at 80 and 90 %"),
            ("length", "700 epochs", "100 epochs (budget=released: 700)"),
        ),
        notes="One channel instead of three; no picture library, so that the texture is the Perlin field or another "
        "healthy slice. The last epoch is scored, never the best one: run-to-run spread is large, 14 points of Dice "
        "between the liver paper's three runs.",
    )
    Config = DRAEMConfig
    tuned: ClassVar = {
        "lr": (1e-5, 2e-3, "log"),
        "texture_source": ["perlin", "healthy"],
        "p_none": (0.1, 0.7),
        "max_image_share": (0.5, 1.0),
    }

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        c = self.config
        stack = healthy.array(self.view)
        self.train_jointly(stack, ctx, training_length(c.updates, c.epochs, len(stack), c.batch))

    def synthesis(self, stack: SliceStack, ctx: FitContext, phase: str) -> Synthesis:
        return self.blended_textures(stack, ctx, phase, self.config.texture_source)
