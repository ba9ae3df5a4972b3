"""Reverse distillation: a decoder reproduces a pretrained encoder's features from a narrow embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
class ReverseDistillationConfig(FeatureConfig):
    """Settings of :class:`ReverseDistillation`.

    Attributes:
        depth: residual blocks of the one-class embedding.
        depths: residual blocks of the decoder for the coarsest, the middle and the finest map.
        epochs: length of training.
        updates: overrides ``epochs``.
    """

    size: int = 256
    backbone: str = "wide_resnet50_2.tv_in1k"
    batch: int = 16
    depth: int = 3
    depths: tuple[int, int, int] = (3, 4, 6)
    lr: float = 5e-3
    beta1: float = 0.5
    epochs: int = 200
    updates: int | None = None

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "backbone": LITE0,
            "batch": 4,
            "depth": 1,
            "depths": (1, 1, 1),
            "updates": 4,
            "sigma": 1.0,
        },
        "quick": {
            "size": 96,
            "backbone": LITE0,
            "batch": 8,
            "depth": 1,
            "depths": (1, 1, 1),
            "updates": 200,
            "sigma": 2.0,
        },
        "standard": {
            **STANDARD_SLICES,
            "backbone": LITE0,
            "depth": 1,
            "depths": (1, 1, 1),
            "updates": 1500,
            "sigma": 2.0,  # half the published grid
        },
    }


class ReverseDistillation(FeatureMethod):
    """The map is the distance between the encoder's features and those that the decoder gives back."""

    card = MethodCard(
        name="reverse-distillation",
        title="Reverse distillation (RD4AD)",
        year=2022,
        family="features",
        citation="Deng & Li, Anomaly Detection via Reverse Distillation from One-Class Embedding, CVPR 2022",
        reference="doi:10.1109/CVPR52688.2022.00951",
        pretraining=IMAGENET,
        figures=(
            ("input", "256²", "256², masked, equalised"),
            same("network", "Wide-ResNet-50-2 layers 1–3, embedding, mirrored decoder"),
            same("loss", "Σ over 3 scales of 1 − cosine of flattened features"),
            same("optimiser", "Adam 5·10⁻³, β₁ 0.5, batch 16"),
            same("length", "200 epochs"),
        ),
        undertrained=("lung",),
        notes="Wide-ResNet-50-2. The loss compares a slice's whole feature tensor as one vector, as the released code "
        "does; the map compares positions and sums the scales (BMAD multiplies them and stops early). On the lung the "
        "quick profile learns too little: vessels differ from scan to scan as much as opacities do.",
    )
    Config = ReverseDistillationConfig
    tuned: ClassVar = {"lr": (5e-4, 2e-2, "log"), "sigma": (0.0, 6.0)}

    def build(self) -> None:
        import torch

        from ..nets.rd4ad import OneClassBottleneck, ReverseDecoder

        super().build()
        c = self.config
        layout = torch.channels_last
        self.bottleneck = OneClassBottleneck(self.backbone.channels, c.depth).to(memory_format=layout)
        self.decoder = ReverseDecoder(self.backbone.channels, c.depths).to(memory_format=layout)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the cosine distance of whole feature tensors, summed over the scales."""
        import torch

        from ..resident import ResidentSlices

        c = self.config
        slices = ResidentSlices(healthy.array(self.view), ctx.device)
        order = batches(ctx, len(slices), c.batch, "order")
        trained = [*self.bottleneck.parameters(), *self.decoder.parameters()]
        optimiser = make_optimiser(ctx, torch.optim.Adam, trained, lr=c.lr, betas=(c.beta1, 0.999))
        self.bottleneck.train()
        self.decoder.train()

        def loss_of(batch: Sequence[torch.Tensor]) -> torch.Tensor:
            images = as_input(batch[0], ctx.device)
            with autocast(ctx.device, ctx.precision):
                encoded = self.features(images)
                decoded = self.decode(encoded)
            return whole_map_loss(encoded, decoded)

        def step(_: int) -> dict[str, torch.Tensor]:
            return {"loss": update(optimiser, loss_of(slices.take(next(order))))}

        updates = training_length(c.updates, c.epochs, len(slices), c.batch)
        source = held_out_slices(self.view, c.batch, ctx)
        watch = held_out_loss(ctx, updates, [self.bottleneck, self.decoder], source, loss_of)
        run_updates(ctx, updates, step, watch=watch)

    def decode(self, encoded: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the decoder's maps, finest first."""
        return self.decoder(self.bottleneck(encoded))

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return the sum of the scales' distances, each enlarged to the view."""
        import torch

        encoded = self.features(images)
        pairs = zip(encoded, self.decode(encoded), strict=True)
        return torch.stack([upsample(cosine_distance(e, d), self.config.size) for e, d in pairs]).sum(dim=0)


def whole_map_loss(encoded: Sequence[torch.Tensor], decoded: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return Σ over scales of the mean over slices of 1 − cosine of the flattened maps.

    Args:
        encoded: maps (n, c, h, w), one per scale.
        decoded: maps of the same shapes.
    """
    from torch.nn import functional

    losses = [
        (1 - functional.cosine_similarity(e.float().flatten(1), d.float().flatten(1))).mean()
        for e, d in zip(encoded, decoded, strict=True)
    ]
    return sum(losses[1:], start=losses[0])
