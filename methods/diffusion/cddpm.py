"""cDDPM: restore a diffused slice in one call, told by an encoder what the clean slice looks like as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ..card import MethodCard
from ..config import STANDARD_SLICES, ConfigError
from ..context import FitContext
from ..training import autocast, batches, make_optimiser, run_updates, training_length, update
from ..watching import held_out_loss, held_out_slices
from .parts.one_step import OneStepConfig, OneStepDDPM

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet


@dataclass(frozen=True)
class CDDPMConfig(OneStepConfig):
    """Settings of :class:`CDDPM`.

    Attributes:
        distances: steps of the diffusion; the restorations of each are averaged.
        channels, layers: inner widths and blocks of the encoder's stages; the defaults are those of ResNet-50.
        condition: length of the vector that it returns.
        hidden: share of the cells that its pre-training hides.
        decoder: width of the decoder in pre-training.
        pretrain_lr: learning rate of the pre-training.
        pretrain_epochs: its passes over the training slices; 0 leaves it out.
        pretrain_updates: overrides pretrain_epochs.
    """

    epochs: int = 1200
    distances: tuple[int, ...] = field(default=(250, 500, 750), metadata={"stage": "score"})
    channels: tuple[int, ...] = (64, 128, 256, 512)
    layers: tuple[int, ...] = (3, 4, 6, 3)
    condition: int = 512
    hidden: float = 0.65
    decoder: int = 512
    pretrain_lr: float = 1e-4
    pretrain_epochs: int = 1200
    pretrain_updates: int | None = None

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "patch": 16,
            "base": 8,
            "multipliers": (1, 2),
            "blocks": 1,
            "heads": 1,
            "frequency": 8.0,
            "lr": 1e-3,
            "batch": 4,
            "updates": 6,
            "channels": (4, 4),
            "layers": (1, 1),
            "condition": 8,
            "decoder": 8,
            "pretrain_updates": 4,
        },
        "quick": {
            "size": 64,
            "patch": 32,
            "base": 8,
            "blocks": 1,
            "heads": 1,
            "frequency": 16.0,
            "lr": 4e-3,
            "batch": 8,
            "updates": 240,
            "median": 0,
            "erode": 2,
            "channels": (8, 16, 16),
            "layers": (1, 1, 1),
            "condition": 16,
            "decoder": 32,
            "pretrain_lr": 1e-3,
            "pretrain_updates": 40,
        },
        "standard": {
            **STANDARD_SLICES,
            "patch": 64,
            "base": 32,
            "heads": 1,
            "frequency": 43.0,
            "lr": 1e-3,
            "batch": 8,
            "updates": 1200,
            "channels": (16, 32, 64, 128),
            "condition": 128,
            "decoder": 128,
            "pretrain_lr": 1e-3,
            "pretrain_updates": 400,
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        stride = 2 ** (len(self.channels) + 1)
        if len(self.channels) != len(self.layers) or not self.layers:
            raise ConfigError(f"layers={self.layers}: give one number of blocks for each of channels={self.channels}")
        if self.side % stride or self.side == stride:
            raise ConfigError(f"{len(self.layers)} stages need a square of several cells of {stride} pixels")
        if not 0 < self.hidden < 1:
            raise ConfigError(f"hidden={self.hidden}: choose a share between 0 and 1")


class CDDPM(OneStepDDPM):
    """Learns to restore diffused healthy slices, conditioned on a vector of the clean slice."""

    card = MethodCard(
        name="cddpm",
        title="Conditioned diffusion model",
        year=2025,
        family="diffusion",
        citation="Behrendt et al., Guided Reconstruction with Conditioned Diffusion Models for Unsupervised Anomaly "
        "Detection in Brain MRIs, Computers in Biology and Medicine 2025",
        reference="arXiv:2312.04215",
        figures=(
            ("input", "96², brain MRI, [−1, 1]", "96² around the organ, masked, [−1, 1]"),
            (
                "network",
                "U-Net of pddpm + ResNet-50, vector of 512",
                "U-Net of pddpm + ResNet-50 (1 channel), vector of 512",
            ),
            (
                "loss",
                "SparK, then L1 of the clean slice, T 1000, cosine",
                "SparK, then L1 of the clean slice, T 1000, cosine",
            ),
            ("optimiser", "Adam 10⁻⁴, batch 32; of SparK n/p", "Adam 10⁻⁴, batch 32, twice"),
            ("length", "1,200 + 1,200 epochs, best validation loss", "1,200 + 1,200 epochs"),
        ),
        notes="The encoder sees the slice that is scored, lesions included: the authors claim that one vector carries "
        "contrast and no lesions, which is not shown on CT. No augmentation of grey values, because those of CT are "
        "calibrated. Simplex noise is new for every slice and update. No CT figures are published by the authors.",
    )
    Config = CDDPMConfig
    tuned: ClassVar = {
        "lr": (1e-5, 1e-3, "log"),
        "noise": ["simplex", "gaussian"],
        "erode": (0, 3),
    }

    def build(self) -> None:
        from ..nets.masked_resnet import MaskedModelling, ResNetEncoder

        c = self.config
        super().build()
        self.encoder = ResNetEncoder(c.condition, c.channels, c.layers)
        self.filling = MaskedModelling(self.encoder, c.decoder)

    @property
    def condition_width(self) -> int:
        """Length of the vector that conditions the U-Net."""
        return self.config.condition

    @property
    def trained(self) -> list[torch.nn.Module]:
        """U-Net and encoder, which learn together."""
        return [self.net, self.encoder]

    def condition(self, clean: torch.Tensor) -> torch.Tensor:
        """Return the encoder's vectors (n, condition)."""
        return self.encoder(clean)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Train the encoder to fill in hidden cells of healthy slices, then it and the U-Net to denoise."""
        done = self.pretrain(healthy, ctx)
        self.learn_to_restore(healthy, ctx, phase="denoising", first=done)

    def pretrain(self, healthy: HealthySet, ctx: FitContext) -> int:
        """Minimise the squared error of hidden cells, each scaled to mean 0 and variance 1; return the updates."""
        import torch

        from ..nets.masked_resnet import hidden_error, random_cells
        from ..resident import ResidentSlices

        c = self.config
        slices = ResidentSlices(healthy.array(self.view), ctx.device)
        order = batches(ctx, len(slices), c.batch, "order", "pretraining")
        nets = [self.encoder, self.filling]
        optimiser = make_optimiser(
            ctx, torch.optim.Adam, [p for net in nets for p in net.parameters()], lr=c.pretrain_lr
        )
        for net in nets:
            net.train()

        def loss_of(images: torch.Tensor, rois: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
            clean, _ = self.squares(images, rois)
            visible = random_cells(len(clean), c.side // self.encoder.stride, c.hidden, draws)
            with autocast(ctx.device, ctx.precision):
                predicted = self.filling(self.encoder, clean, visible)
            return hidden_error(predicted, clean, visible)

        def held_out(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return loss_of(*batch, torch.Generator(ctx.device).manual_seed(ctx.seed_for("cells", "held out")))

        generator = ctx.generator("cells")

        def step(_: int) -> dict[str, torch.Tensor]:
            return {"hidden": update(optimiser, loss_of(*slices.take(next(order)), generator))}

        updates = training_length(c.pretrain_updates, c.pretrain_epochs, len(slices), c.batch)
        watch = held_out_loss(ctx, updates, nets, held_out_slices(self.view, c.batch, ctx), held_out)
        return run_updates(ctx, updates, step, phase="pretraining", watch=watch)
