"""FAE: an autoencoder reproduces pretrained feature maps; where their structure differs is anomalous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..card import MethodCard, same
from ..config import STANDARD_SLICES
from ..context import FitContext
from ..nets.corpora import IMAGENET
from ..training import as_input, autocast, batches, make_optimiser, run_updates, update
from ..watching import held_out_loss, held_out_slices
from .parts.backbone import LITE0, FeatureConfig, FeatureMethod

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet


@dataclass(frozen=True)
class FAEConfig(FeatureConfig):
    """Settings of :class:`FAE`.

    Attributes:
        stages: of the backbone; stage 0 is its stem, which is pooled to stride 4 like the first layer.
        widths: of the autoencoder's encoder; feature maps have a side of ``size`` / 4, a multiple of 2^(their number).
        dropout: share of channels dropped after every stage of the autoencoder, in training.
        ssim_window: side of the window of the structural similarity.
    """

    size: int = 128
    stages: tuple[int, ...] = (0, 1, 2)
    widths: tuple[int, ...] = (100, 150, 200, 300)
    dropout: float = 0.1
    ssim_window: int = 5
    lr: float = 2e-4
    updates: int = 10_000
    sigma: float = field(default=0.0, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {"size": 32, "backbone": LITE0, "batch": 4, "widths": (8, 8), "updates": 4, "lr": 1e-3},
        "quick": {"size": 64, "backbone": LITE0, "batch": 8, "widths": (24, 32, 48), "updates": 300, "lr": 2e-3},
        "standard": {
            **STANDARD_SLICES,
            "backbone": LITE0,
            "batch": 8,
            "widths": (50, 75, 100, 150),
            "updates": 2500,
            "lr": 1e-3,
        },
    }


class FAE(FeatureMethod):
    """An autoencoder learns to reproduce feature maps of healthy slices; the map is 1 − structural similarity."""

    card = MethodCard(
        name="fae",
        title="Structural feature autoencoder (FAE)",
        year=2022,
        family="features",
        citation="Meissen, Paetzold, Kaissis, Rueckert: Unsupervised Anomaly Localization with Structural "
        "Feature-Autoencoders, BrainLes workshop at MICCAI 2022",
        reference="arXiv:2208.10992",
        slice_score="top1%",
        pretraining=IMAGENET,
        figures=(
            ("input", "128² of brain MRI, equalised, [−1, 1]", "128², masked, equalised, [−1, 1]"),
            same("network", "ResNet-18 stem and layers 1–2; 5×5 autoencoder 100–300"),
            same("loss", "−SSIM of the features, window 5, σ 1.5"),
            same("optimiser", "Adam 2·10⁻⁴, batch 32"),
            same("length", "10,000 updates"),
        ),
        notes="Grey values are scaled to [−1, 1] and not by the statistics of ImageNet, as in the released code. The "
        "constants of the structural similarity are those for values in [0, 1], which features are not; that is part "
        "of the method. One is added to the map, so that it is 0 where structures agree. A slice's score is "
        "the mean of its highest percent; the release takes the mean above the 0.9 quantile.",
    )
    Config = FAEConfig
    tuned: ClassVar = {"lr": (5e-5, 2e-3, "log"), "dropout": (0.0, 0.3), "sigma": (0.0, 4.0)}

    def build(self) -> None:
        import torch

        from ..nets.feature_autoencoder import FeatureAutoencoder

        super().build()
        c = self.config
        net = FeatureAutoencoder(sum(self.backbone.channels), c.widths, c.dropout)
        self.net = net.to(memory_format=torch.channels_last)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Maximise the structural similarity between feature maps and their reconstructions."""
        import torch

        from ..losses import ssim_loss
        from ..nets.layers import seed_dropout
        from ..resident import ResidentSlices

        c = self.config
        slices = ResidentSlices(healthy.array(self.view), ctx.device)
        order = batches(ctx, len(slices), c.batch, "order")
        ctx.keep(seed_dropout(self.net, ctx.seed_for("dropout")))
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.net.parameters(), lr=c.lr)
        self.net.train()

        def loss_of(batch: Sequence[torch.Tensor]) -> torch.Tensor:
            images = as_input(batch[0], ctx.device)
            with autocast(ctx.device, ctx.precision):
                maps = self.stacked(images)
                restored = self.net(maps)
            return ssim_loss(maps, restored, c.ssim_window)

        def step(_: int) -> dict[str, torch.Tensor]:
            return {"1 - ssim": update(optimiser, loss_of(slices.take(next(order))))}

        watch = held_out_loss(ctx, c.updates, [self.net], held_out_slices(self.view, c.batch, ctx), loss_of)
        run_updates(ctx, c.updates, step, watch=watch)

    def stacked(self, images: torch.Tensor) -> torch.Tensor:
        """Return the feature maps of images (n, 1, H, W), all resized to stride 4 and put behind one another.

        float32 (n, channels, H / 4, W / 4), without gradients.
        """
        import torch
        from torch.nn import functional

        side = images.shape[-1] // 4
        maps = self.features(images)
        if 0 in self.config.stages:
            stem = self.config.stages.index(0)
            maps[stem] = functional.max_pool2d(maps[stem], 3, stride=2, padding=1)
        same_size = [functional.interpolate(m, (side, side), mode="bilinear", align_corners=True) for m in maps]
        return torch.cat(same_size, dim=1)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Return 1 − the structural similarity of features and their reconstruction, averaged over channels: 0 to 2."""
        from torch.nn import functional

        from ..losses import ssim_map

        c = self.config
        maps = self.stacked(images)
        off = 1 - ssim_map(maps, self.net(maps), c.ssim_window).mean(dim=1, keepdim=True)
        return functional.interpolate(off, (c.size, c.size), mode="bilinear", align_corners=True)[:, 0]

    def _create_backbone(self, seed: int) -> None:
        super()._create_backbone(seed)
        self.backbone.normalise_with(0.5, 0.5)
