"""Dinomaly: a decoder behind a noisy bottleneck gives back the features of a frozen transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...datasets.views.slice_view import View
from ..card import MethodCard, same
from ..config import ConfigError
from ..context import FitContext
from ..nets import weights as sources
from ..nets.corpora import of_backbone
from ..schedules import warm_cosine
from ..training import as_input, autocast, batches, run_updates
from ..watching import held_out_loss, held_out_slices
from .parts.backbone import LITE0, FeatureConfig, FeatureMethod, cosine_distance, upsample
from .parts.groups import group_loss, mean_of, recentred

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet
    from ..nets.timm_nets import GreyBackbone

BOUNDING_BOX_MM = 1.0
"""A field of view that grows to the organ's bounding box, whatever the organ."""
PACKAGED = {"backbone": LITE0, "heads": 4, "batch": 8}


DINO2_BASE = "vit_base_patch14_reg4_dinov2.lvd142m"
DINO2 = of_backbone(DINO2_BASE, sources.PRETRAINED)


@dataclass(frozen=True)
class DinomalyConfig(FeatureConfig):
    """Settings of :class:`Dinomaly`.

    Attributes:
        size: a multiple of the patch; the released code crops 392 from 448.
        blocks: whose outputs are given back, counted from 0; an even number of them, the first and the second half of
            which are a group each. Of a convolutional backbone the maps of ``stages`` side by side are both groups.
        crop: ``roi`` fills the view with the organ's bounding box (or with ``field_of_view`` where that is larger);
            ``frame`` shows slices whole.
        depth, heads: of the decoder.
        dropout: of the bottleneck.
        narrow: width of a first layer of the bottleneck; None is without.
        recentre: the target is the LayerNorm of the patch tokens minus the class token; where there is none, minus
            their mean.
        lr, narrow_lr, final_lr: after the warm-up; of the narrow layer, if there is one; at the end of a cosine.
        warmup: updates of a linear rise of the rate.
        clip: greatest norm of the gradient.
        easy_share, easy_updates: share of the positions whose gradient is scaled at last, and the updates in which it
            rises to that from 0.
        easy_gradient: factor of the gradient of these positions, which are those with the least distance in a batch.
        sigma: 5 × 5 pixels of 256² are a Gaussian of 2.1 pixels here.
    """

    size: int = 392
    backbone: str = DINO2_BASE
    weights: str = sources.PRETRAINED
    stages: tuple[int, ...] = (2, 3)
    blocks: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8, 9)
    batch: int = 16
    sigma: float = field(default=2.1, metadata={"stage": "score"})
    crop: Literal["roi", "frame"] = "roi"
    depth: int = 8
    heads: int = 12
    dropout: float = 0.2
    narrow: int | None = None
    recentre: bool = False
    lr: float = 2e-3
    narrow_lr: float = 2e-4
    final_lr: float = 2e-4
    weight_decay: float = 1e-4
    eps: float = 1e-10
    amsgrad: bool = True
    warmup: int = 100
    clip: float = 0.1
    easy_share: float = 0.9
    easy_updates: int = 1000
    easy_gradient: float = 0.1
    updates: int = 10_000

    profiles: ClassVar = {
        "smoke": {
            **PACKAGED,
            "size": 32,
            "crop": "frame",
            "batch": 4,
            "depth": 2,
            "warmup": 1,
            "easy_updates": 2,
            "updates": 4,
        },
        "quick": {**PACKAGED, "size": 96, "depth": 4, "warmup": 5, "easy_updates": 10, "updates": 100, "sigma": 1.0},
        "standard": {**PACKAGED, "size": 128, "warmup": 8, "easy_updates": 80, "updates": 750, "sigma": 1.0},
    }

    def __post_init__(self) -> None:
        for name, count in (("depth", self.depth), ("blocks", len(self.blocks))):
            if count < 2 or count % 2:
                raise ConfigError(f"{name}={getattr(self, name)}: two groups need an even number of at least 2")


class Dinomaly(FeatureMethod):
    """The map is the cosine distance between features of the frozen encoder and those that the decoder gives back."""

    card = MethodCard(
        name="dinomaly",
        title="Dinomaly",
        year=2025,
        family="features",
        citation="Guo et al., Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection, "
        "CVPR 2025",
        reference="arXiv:2405.14325",
        slice_score="top1%",
        pretraining=DINO2,
        figures=(
            ("input", "392² cut from 448²", "392², cropped to the roi, masked, equalised"),
            same("network", "DINOv2 ViT-B/14 with registers; 8 linear-attention blocks"),
            same("loss", "1 − cosine of 2 flattened groups, easy gradients × 0.1"),
            same("optimiser", "StableAdamW 2·10⁻³, decay 10⁻⁴, AMSGrad, batch 16"),
            ("length", "10,000 updates (one class: 5,000)", "10,000 updates"),
        ),
        notes="One training per organ. The slice score is the mean of the highest percent of the map at the view's "
        "size, there at 256². The denominator of the linear attention has an ε, without which it may vanish. The last "
        "weights score, as published.",
    )
    Config = DinomalyConfig
    tuned: ClassVar = {"lr": (2e-4, 5e-3, "log"), "dropout": (0.1, 0.5), "sigma": (0.0, 6.0)}

    @property
    def view(self) -> View:
        c = self.config
        field = None if c.crop == "frame" else c.field_of_view or BOUNDING_BOX_MM
        return replace(super().view, field_of_view=field)

    def _untrained_backbone(self) -> GreyBackbone:
        from ..nets.timm_nets import TimmFeatures
        from ..nets.vit import ViTFeatures, is_transformer

        c = self.config
        if is_transformer(c.backbone):
            return ViTFeatures(c.backbone, c.blocks, size=c.size)
        return TimmFeatures(c.backbone, c.stages)

    def build(self) -> None:
        """Create the frozen encoder, the bottleneck and the decoder.

        Raises:
            WeightsError: there are no weights of the encoder, or they do not fit.
            ConfigError: the encoder has no such blocks or patches, or ``heads`` does not divide its width.
        """
        from ..nets.dinomaly_net import DinomalyNet
        from ..nets.vit import ViTFeatures

        super().build()
        c, channels = self.config, self.backbone.channels
        width = channels[0] if isinstance(self.backbone, ViTFeatures) else sum(channels)
        if width % c.heads:
            raise ConfigError(
                f"heads={c.heads}: {c.backbone} has tokens of {width} components, which it does not divide"
            )
        self.net = DinomalyNet(width, c.heads, c.depth, c.dropout, c.narrow)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the distance of whole groups, with small gradients where the decoder already follows."""
        import torch

        from ..nets.layers import seed_dropout
        from ..resident import ResidentSlices

        c = self.config
        slices = ResidentSlices(healthy.array(self.view), ctx.device)
        order = batches(ctx, len(slices), c.batch, "order")
        optimiser = ctx.keep(self.optimiser())
        ctx.keep(seed_dropout(self.net, ctx.seed_for("dropout")))
        total = ctx.updates(c.updates)
        schedule = ctx.keep(
            torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: warm_cosine(i, total, c.warmup, c.final_lr / c.lr))
        )
        self.net.train()

        def loss_of(batch: Sequence[torch.Tensor], easy: float = 0.0) -> torch.Tensor:
            with autocast(ctx.device, ctx.precision):
                pairs = self.pairs(as_input(batch[0], ctx.device))
            return group_loss(pairs, easy, c.easy_gradient)

        def step(i: int) -> dict[str, torch.Tensor]:
            loss = loss_of(slices.take(next(order)), c.easy_share * min(1.0, i / c.easy_updates))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), c.clip)
            optimiser.step()
            schedule.step()
            return {"loss": loss.detach()}

        watch = held_out_loss(ctx, c.updates, [self.net], held_out_slices(self.view, c.batch, ctx), loss_of)
        run_updates(ctx, c.updates, step, watch=watch)

    def optimiser(self) -> torch.optim.Optimizer:
        from ..stable_adamw import StableAdamW

        c = self.config
        narrow = [] if self.net.narrowing is None else list(self.net.narrowing.parameters())
        rest = [p for p in self.net.parameters() if not any(p is other for other in narrow)]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if narrow:
            groups.append({"params": narrow, "lr": c.narrow_lr})
        return StableAdamW(groups, lr=c.lr, weight_decay=c.weight_decay, eps=c.eps, amsgrad=c.amsgrad)

    def pairs(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return both groups of the encoder and of the decoder, float32 (n, width, h, w), of images (n, 1, H, W).

        The first half of the encoder's blocks belongs to the last half of the decoder's.
        """
        import torch

        layers, prefix, grid = self.tokens(images)
        outputs = [output.float() for output in self.net(torch.stack(layers).mean(dim=0))]
        half = max(1, len(layers) // 2)
        encoded = [mean_of(layers[:half]), mean_of(layers[-half:])]
        decoded = [mean_of(outputs[: len(outputs) // 2]), mean_of(outputs[len(outputs) // 2 :])]
        if self.config.recentre:
            encoded = [recentred(group, prefix if self.has_class_token else 0) for group in encoded]
        return [
            (e[:, prefix:].mT.unflatten(2, grid), d[:, prefix:].mT.unflatten(2, grid))
            for e, d in zip(encoded, decoded, strict=True)
        ]

    @property
    def has_class_token(self) -> bool:
        return getattr(self.backbone.net, "cls_token", None) is not None

    def tokens(self, images: torch.Tensor) -> tuple[list[torch.Tensor], int, tuple[int, int]]:
        """Return the encoder's tokens per block, float32 (n, prefix + patches, width), prefix tokens, and the grid."""
        import torch
        from torch.nn.functional import interpolate

        from ..nets.vit import ViTFeatures

        with torch.no_grad():
            if isinstance(self.backbone, ViTFeatures):
                found = [(p.float(), t.float()) for p, t in self.backbone.with_prefix(images)]
                layers = [torch.cat([t, p.flatten(2).mT], dim=1) for p, t in found]
                return layers, self.backbone.prefix, (found[0][0].shape[2], found[0][0].shape[3])
            first, *rest = self.features(images)
            grid = (first.shape[2], first.shape[3])
            rest = [interpolate(f, size=grid, mode="bilinear", align_corners=False) for f in rest]
            return [torch.cat([first, *rest], dim=1).flatten(2).mT], 0, grid

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of the groups' distances, each enlarged to the view."""
        import torch

        return torch.stack([upsample(cosine_distance(e, d), self.config.size) for e, d in self.pairs(images)]).mean(0)
