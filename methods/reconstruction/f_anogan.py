"""f-AnoGAN: a Wasserstein GAN of healthy slices and an encoder into its latent space."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard, same
from ..config import SOFT_ORGANS
from ..context import FitContext
from ..method import Method
from ..training import as_input, autocast, batches, make_optimiser, predict, run_updates, update
from ..watching import held_out_loss
from .parts.base import SCORE_BATCH
from .parts.placing import QUICK_FRAME, SMOKE_FRAME, STANDARD_FRAME, PlacedSlices
from .parts.residual import Sign, filtered_inside, residual

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet, SliceStack
    from ..roi_crop import SquareCrops


@dataclass(frozen=True)
class FAnoGANConfig(PlacedSlices):
    """Settings of :class:`FAnoGAN`.

    Attributes:
        patch: side to which the square around the region of interest is resized: that of a slice, or with
            ``frame=volume`` that of a whole scan.
        z: length of the latent vector, standard normal in training.
        dim: channels of the networks at full resolution.
        critic_steps: critic updates before each generator update.
        penalty: weight λ of the gradient penalty.
        lr, beta1, beta2: Adam of generator and critic.
        updates: generator updates.
        encoder_lr: RMSProp of the encoder.
        encoder_updates: encoder updates.
        kappa: weight κ of the critic's features in the encoder's loss.
        sign, erode, median: as for the autoencoder (:class:`.base.ReconstructionConfig`).
    """

    patch: int = 64
    z: int = 128
    dim: int = 64
    critic_steps: int = 5
    penalty: float = 10.0
    lr: float = 1e-4
    beta1: float = 0.0
    beta2: float = 0.9
    batch: int = 64
    updates: int = 20_000
    encoder_lr: float = 5e-5
    encoder_updates: int = 10_000
    kappa: float = 1.0
    sign: Sign = field(default="absolute", metadata={"stage": "score"})
    erode: int = field(default=0, metadata={"stage": "score"})
    median: int = field(default=0, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {
            **SMOKE_FRAME,
            "size": 32,
            "patch": 16,
            "z": 8,
            "dim": 4,
            "critic_steps": 2,
            "batch": 4,
            "lr": 1e-3,
            "updates": 4,
            "encoder_lr": 1e-3,
            "encoder_updates": 6,
        },
        "quick": {
            **QUICK_FRAME,
            "size": 64,
            "patch": 16,
            "z": 16,
            "dim": 16,
            "critic_steps": 2,
            "batch": 16,
            "lr": 1e-3,
            "updates": 120,
            "encoder_lr": 2e-3,
            "encoder_updates": 200,
            "erode": 2,
        },
        "standard": {
            **STANDARD_FRAME,
            "dim": 8,  # an eighth: five critic steps with a gradient penalty take four fifths of the budget
            "batch": 8,
            "lr": 1e-3,
            "updates": 300,
            "encoder_lr": 5e-4,
            "encoder_updates": 600,
        },
    }
    anatomies: ClassVar = {
        "lung": {"window": (-800.0, 100.0), "frame": "volume", "sign": "positive", "erode": 0},
        **SOFT_ORGANS,
    }


class FAnoGAN(Method):
    """Learns to generate healthy slices, then to find the latent vector of a slice; the rest is anomalous.

    Attributes:
        updates: updates done, by phase; a generator update includes those of the critic before it.
    """

    card = MethodCard(
        name="f-anogan",
        title="f-AnoGAN",
        year=2019,
        family="reconstruction",
        citation="Schlegl et al., f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks, "
        "Medical Image Analysis 54, 2019",
        reference="doi:10.1016/j.media.2019.01.010",
        slice_score="mean",
        figures=(
            (
                "input",
                "64², [−1, 1]; Yao: centre crop to 64²",
                "64² around a slice's liver, a scan's lungs; [−1, 1]",
            ),
            same("network", "residual G, critic, encoder; 64 channels at 64², z 128"),
            same("loss", "WGAN-GP λ 10, 5 critic steps; MSE + 1 · features"),
            same("optimiser", "Adam 10⁻⁴ β (0, 0.9), RMSProp 5·10⁻⁵, batch 64"),
            ("length", "7 epochs (OCT), then 50,000 updates", "20,000, then 10,000 updates"),
        ),
        notes="Residual networks of 64 channels, a square around the liver of a slice, or around the "
        "lungs of a whole scan in the frame of Yao et al., resized to 64². The gradient "
        "norm of the penalty is taken over all pixels of an image. The pixel map is the image residual alone; the "
        "residual of the critic's features has no place in the image and only trains the encoder.",
    )
    Config = FAnoGANConfig
    tuned: ClassVar = {
        "lr": (2e-5, 5e-4, "log"),
        "encoder_lr": (1e-5, 5e-4, "log"),
        "kappa": (0.0, 2.0),
        "erode": (0, 3),
        "median": [0, 5],
    }

    def build(self) -> None:
        import torch

        from ..nets.anogan_nets import Critic, Generator, LatentEncoder

        c = self.config
        layout = torch.channels_last
        self.generator = Generator(c.patch, c.z, c.dim).to(memory_format=layout)
        self.critic = Critic(c.patch, c.dim).to(memory_format=layout)
        self.encoder = LatentEncoder(c.patch, c.z, c.dim).to(memory_format=layout)
        self.updates: dict[str, int] = {}

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Train generator and critic against each other, then the encoder with both of them frozen."""
        stack = healthy.array(self.view)
        self.train_gan(stack, ctx)
        self.train_encoder(stack, ctx)

    def train_gan(self, stack: SliceStack, ctx: FitContext) -> None:
        """Phase one: Wasserstein GAN with gradient penalty."""
        import torch

        c = self.config
        real = self.patches(stack, ctx, "gan")
        draws = ctx.generator("gan")
        g_optimiser, c_optimiser = (
            make_optimiser(ctx, torch.optim.Adam, net.parameters(), lr=c.lr, betas=(c.beta1, c.beta2))
            for net in (self.generator, self.critic)
        )
        self.generator.train()
        self.critic.train()

        def fake() -> torch.Tensor:
            return self.generator(torch.randn((c.batch, c.z), generator=draws, device=ctx.device))

        def distance_of(x: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
            with autocast(ctx.device, ctx.precision):
                return self.critic(x).float().mean() - self.critic(made).float().mean()

        def held_out_distance(x: torch.Tensor) -> torch.Tensor:
            own = torch.Generator(ctx.device).manual_seed(ctx.seed_for("gan", "held out"))
            return distance_of(x, self.generator(torch.randn((len(x), c.z), generator=own, device=ctx.device)))

        def criticise() -> tuple[torch.Tensor, torch.Tensor]:
            x = next(real)
            with autocast(ctx.device, ctx.precision), torch.no_grad():
                made = fake()
            distance = distance_of(x, made)
            share = torch.rand((len(x), 1, 1, 1), generator=draws, device=ctx.device)
            steepness = gradient_penalty(self.critic, x, made.float(), share)
            update(c_optimiser, c.penalty * steepness - distance)
            return distance.detach(), steepness.detach()

        def step(_: int) -> dict[str, torch.Tensor]:
            self.critic.requires_grad_(True)
            distance, steepness = [criticise() for _ in range(c.critic_steps)][-1]
            self.critic.requires_grad_(False)
            with autocast(ctx.device, ctx.precision):
                loss = -self.critic(fake()).float().mean()
            update(g_optimiser, loss)
            return {"distance": distance, "penalty": steepness, "generator": loss.detach()}

        watch = held_out_loss(
            ctx, c.updates, [self.generator, self.critic], self._held_out(ctx, "gan"), held_out_distance
        )
        self.updates["gan"] = run_updates(ctx, c.updates, step, phase="gan", watch=watch)
        self.critic.requires_grad_(True)

    def train_encoder(self, stack: SliceStack, ctx: FitContext) -> None:
        """Phase two (izi_f): the image and its critic features must survive encoding and generation."""
        import torch
        from torch.nn import functional

        c = self.config
        real = self.patches(stack, ctx, "encoder")
        optimiser = make_optimiser(ctx, torch.optim.RMSprop, self.encoder.parameters(), lr=c.encoder_lr, alpha=0.9)
        self.encoder.train()
        self.generator.eval().requires_grad_(False)
        self.critic.eval().requires_grad_(False)

        def losses_of(x: torch.Tensor) -> dict[str, torch.Tensor]:
            with autocast(ctx.device, ctx.precision):
                restored = self.generator(self.encoder(x))
                seen, expected = self.critic.trunk(restored), self.critic.trunk(x)
            image = functional.mse_loss(restored.float(), x)
            features = functional.mse_loss(seen.float(), expected.float())
            return {"loss": image + c.kappa * features, "image": image, "features": features}

        def step(_: int) -> dict[str, torch.Tensor]:
            losses = losses_of(next(real))
            update(optimiser, losses["loss"])
            return {name: loss.detach() for name, loss in losses.items()}

        first, source = self.updates.get("gan", 0), self._held_out(ctx, "encoder")
        watch = held_out_loss(ctx, c.encoder_updates, [self.encoder], source, lambda x: losses_of(x)["loss"])
        self.updates["encoder"] = run_updates(ctx, c.encoder_updates, step, phase="encoder", first=first, watch=watch)
        self.generator.requires_grad_(True)
        self.critic.requires_grad_(True)

    def patches(self, stack: SliceStack, ctx: FitContext, phase: str) -> Iterator[torch.Tensor]:
        """Return training batches for ever: the cropped slices, (n, 1, patch, patch) in [−1, 1]."""
        from ..resident import ResidentSlices, sent
        from ..roi_crop import SquareCrops

        c, slices = self.config, ResidentSlices(stack, ctx.device, held=False if "held out" in phase else None)
        of_scans = None
        if c.frame == "volume":
            extents = np.stack([stack.extent(case) for case in range(int(stack.case_of.max()) + 1)])
            of_scans = sent(extents, ctx.device)

        def cropped(indices: np.ndarray) -> torch.Tensor:
            images, rois = slices.take(indices)
            around = rois if of_scans is None else of_scans[sent(stack.case_of[indices], ctx.device)]
            crops = SquareCrops.around(around, c.patch)
            return 2 * crops.take(as_input(images, ctx.device)) - 1

        return map(cropped, batches(ctx, len(stack), c.batch, "order", phase))

    def _held_out(self, ctx: FitContext, phase: str) -> Callable[[HealthySet], Callable[[], torch.Tensor]]:
        return lambda held: partial(next, self.patches(held.array(self.view), ctx, f"{phase}, held out"))

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the residual of the crop, brought back to the slice, inside the (eroded) region of interest."""
        import torch

        c = self.config
        crops, seen, generated = self.generated(array, roi)
        map_ = crops.put_back(torch.from_numpy(residual(seen, generated, c.sign))).numpy()
        return filtered_inside(map_, roi, c.median, c.erode)

    def generated(self, array: np.ndarray, roi: np.ndarray) -> tuple[SquareCrops, np.ndarray, np.ndarray]:
        """Return the crops around the organ, what they show and what is generated in its place, (n, patch, patch)."""
        import torch

        from ..roi_crop import SquareCrops

        c = self.config
        self.encoder.eval()
        self.generator.eval()
        around = roi if c.frame == "slice" else np.broadcast_to(roi.any(axis=0), roi.shape).copy()
        crops = SquareCrops.around(torch.from_numpy(around), c.patch)
        seen = crops.take(as_input(array, "cpu"))[:, 0].numpy()

        def generate(x: torch.Tensor) -> torch.Tensor:
            return (self.generator(self.encoder(2 * x - 1))[:, 0] + 1) / 2

        return crops, seen, predict(generate, seen, batch=SCORE_BATCH, device=self.device)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return what the generator makes of the encoded crop, brought back to the slice."""
        import torch

        crops, _, generated = self.generated(array, roi)
        return {"reconstruction": crops.put_back(torch.from_numpy(generated)).numpy()}


def gradient_penalty(
    critic: Callable[[torch.Tensor], torch.Tensor], real: torch.Tensor, fake: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """Return the mean of (‖∇ critic‖ − 1)² at points between real and fake images (Gulrajani et al. 2017, eq. 3).

    The norm is taken over all axes of an image (n, 1, H, W). Interpolates lie between the two:
    real + share · (fake − real), with a share (n, 1, 1, 1) in [0, 1].
    """
    import torch

    between = (real + share * (fake - real)).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
