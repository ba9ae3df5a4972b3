"""SimpleNet: a discriminator of pretrained patch features and the same features with noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..card import MethodCard, same
from ..context import FitContext
from ..nets.corpora import IMAGENET
from ..training import as_input, autocast, make_optimiser, run_updates, training_length
from ..watching import held_out_loss
from .parts.backbone import LITE0
from .parts.pooled_patches import OrganPatches, PatchBatch, PooledPatchConfig, PooledPatchMethod

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet

Draw = Callable[[], tuple[Any, ...]]
PACKAGED = {"backbone": LITE0, "gain": 0.03}
RATES = {"lr": 1e-3, "adaptor_lr": 1e-3}
SMOKE = {**PACKAGED, "size": 32, "dims": 64, "hidden": 32, "batch": 4, "updates": 4, "sigma": 1.0}
QUICK = {**PACKAGED, **RATES, "size": 128, "dims": 128, "hidden": 128, "sigma": 2.0}
STANDARD = {**PACKAGED, **RATES, "size": 224, "field_of_view": 256.0, "dims": 384, "hidden": 256}


@dataclass(frozen=True)
class SimpleNetConfig(PooledPatchConfig):
    """Settings of :class:`SimpleNet`.

    Attributes:
        size: the released code crops 288 from 329; nothing is cropped here.
        gain: what patch features are multiplied with, so that noise and distances of fixed size mean something. Those
            of the packaged backbone vary by about 4 per component, beside which a noise of 0.015 cannot be seen.
        hidden: width of the discriminator.
        noise: standard deviation of what is added to adapted features.
        margin: scores of healthy features beyond it cost nothing, nor do those of noisy ones beyond its negative.
        lr, weight_decay: of the discriminator.
        adaptor_lr: of the adaptor.
        epochs: passes over the training slices; 40 rounds of 4 in the released code.
        updates: overrides ``epochs``.
    """

    size: int = 288
    dims: int = 1536
    batch: int = 8
    gain: float = 1.0
    hidden: int = 1024
    noise: float = 0.015
    margin: float = 0.5
    lr: float = 2e-4
    adaptor_lr: float = 1e-4
    weight_decay: float = 1e-5
    epochs: int = 160
    updates: int | None = None

    profiles: ClassVar = {
        "smoke": SMOKE,
        "quick": {**QUICK, "updates": 150},
        "standard": {**STANDARD, "updates": 1400},
    }


class SimpleNet(PooledPatchMethod):
    """A discriminator learns adapted features of healthy patches against the same with noise; the map is minus it."""

    card = MethodCard(
        name="simplenet",
        title="SimpleNet",
        year=2023,
        family="features",
        citation="Liu et al., SimpleNet: A Simple Network for Image Anomaly Detection and Localization, CVPR 2023",
        reference="arXiv:2303.15140",
        pretraining=IMAGENET,
        figures=(
            ("input", "288² cut from 329²", "288², masked, equalised"),
            same("network", "Wide-ResNet-50-2 layers 2–3; adaptor; discriminator 1024"),
            (
                "loss",
                "hinge at ±0.5, noise σ 0.015, all patches",
                "hinge at ±0.5, noise σ 0.015, patches of the organ",
            ),
            same("optimiser", "Adam 2·10⁻⁴, decay 10⁻⁵; adaptor AdamW 10⁻⁴; batch 8"),
            ("length", "160 epochs, the best of 40 on the test set", "160 epochs"),
        ),
        notes="The released code evaluates the test set after every fourth epoch and keeps the best, and stretches "
        "scores from the least to the greatest of the test set; here the last weights score as they are. Patches away "
        "from the organ are neither learned nor scored (organ_only=off: all). The slice score is the maximum of the "
        "smoothed map, there that of the patches.",
    )
    Config = SimpleNetConfig
    tuned: ClassVar = {"lr": (2e-5, 2e-3, "log"), "noise": (0.005, 0.2, "log"), "sigma": (0.0, 6.0)}

    def build(self) -> None:
        from ..nets.feature_discriminator import FeatureDiscriminator, feature_adaptor

        super().build()
        c = self.config
        self.adaptor = feature_adaptor(c.dims)
        self.discriminator = FeatureDiscriminator(c.dims, c.hidden)

    @property
    def background(self) -> float:
        """What a healthy patch at the margin scores: smoothing must not carry anything from outside into the organ."""
        return -self.config.margin

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the loss over both networks; the last weights stay."""
        draw = self.batch_source(healthy, ctx)
        nets = [self.adaptor, self.discriminator]
        optimisers = self.optimisers(ctx)
        for net in nets:
            net.train()

        def loss_of(batch: tuple[Any, ...]) -> torch.Tensor:
            with autocast(ctx.device, ctx.precision):
                return self.loss(*batch)

        def step(_: int) -> dict[str, torch.Tensor]:
            loss = loss_of(draw())
            for optimiser in optimisers:
                optimiser.zero_grad(set_to_none=True)
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            return {"loss": loss.detach()}

        updates = self.length(len(healthy.array(self.view)))
        watch = held_out_loss(ctx, updates, nets, lambda held: self.batch_source(healthy, ctx, held), loss_of)
        run_updates(ctx, updates, step, watch=watch)

    def length(self, slices: int) -> int:
        c = self.config
        return training_length(c.updates, c.epochs, slices, c.batch)

    def optimisers(self, ctx: FitContext) -> list[torch.optim.Optimizer]:
        """Return those of the adaptor and of the discriminator."""
        import torch

        c = self.config
        return [
            make_optimiser(ctx, torch.optim.AdamW, self.adaptor.parameters(), lr=c.adaptor_lr),
            make_optimiser(
                ctx, torch.optim.Adam, self.discriminator.parameters(), lr=c.lr, weight_decay=c.weight_decay
            ),
        ]

    def batch_source(self, healthy: HealthySet, ctx: FitContext, held_out: HealthySet | None = None) -> Draw:
        """Return what draws a batch and the noise for its patches, float32 (m, dims), of these or of held-out scans."""
        import torch

        phase = "training" if held_out is None else "held out"
        patches = self.organ_patches(held_out or healthy, ctx, phase)
        noise = ctx.generator("noise", phase)

        def draw() -> tuple[PatchBatch, torch.Tensor]:
            batch = patches.draw()
            shape = len(batch.chosen), self.config.dims
            return batch, self.config.noise * torch.randn(shape, generator=noise, device=ctx.device)

        return draw

    def organ_patches(self, scans: HealthySet, ctx: FitContext, phase: str) -> OrganPatches:
        held = False if phase == "held out" else None
        return OrganPatches(scans.array(self.view), ctx, self.config.batch, self._cells, phase, held=held)

    def loss(self, batch: PatchBatch, noise: torch.Tensor) -> torch.Tensor:
        """Return the hinge loss; healthy and noisy features share one batch, and so one batch norm."""
        import torch

        real = self.adaptor(self.patches_of(batch.images, batch.chosen))
        scores = self.discriminator(torch.cat([real, real + noise]))
        on_real, on_noisy = scores.float().chunk(2)
        return hinge_loss(on_real, on_noisy, self.config.margin)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return self.config.gain * super().embed(images)

    def patches_of(self, images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Return features (m, dims) of the chosen patches of slices (n, H, W)."""
        return self.embed(as_input(images, self.device)).flatten(0, 1).index_select(0, chosen)

    def patch_scores(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return minus the discriminator."""
        return -self.discriminator(self.adaptor(vectors))


def hinge_loss(real: torch.Tensor, fake: torch.Tensor, margin: float) -> torch.Tensor:
    """Return the mean of max(0, margin − D) over real features plus that of max(0, margin + D) over fake ones."""
    return (margin - real).clamp(min=0).mean() + (margin + fake).clamp(min=0).mean()
