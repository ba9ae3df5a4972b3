"""AnoDDPM: diffuse a slice part of the way with simplex noise, denoise it, and compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...common.untried import untried
from ...datasets.case import Spacing
from ..card import MethodCard, same
from ..config import STANDARD_SLICES, ConfigError, SliceConfig
from ..context import FitContext
from ..method import Method
from ..reconstruction.parts.residual import erode_in_plane
from ..training import as_input, autocast, batches, make_optimiser, predict, run_updates
from ..watching import held_out_loss, held_out_slices

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet
    from ..roi_crop import SquareCrops
    from ..synthesis.simplex import SimplexNoise

SCORE_BATCH, LARGE_BATCH = 16, 256


@dataclass(frozen=True)
class AnoDDPMConfig(SliceConfig):
    """Settings of :class:`AnoDDPM`.

    Attributes:
        patch: side to which the square around the region of interest is resized; 0 takes the whole slice, as the
            paper does with the head.
        base: width of the first level of the U-Net.
        multipliers: width of every level relative to ``base``.
        blocks: residual blocks per level.
        attention: sides of the feature maps with self-attention.
        heads: attention heads.
        steps: length of the whole diffusion.
        train_steps: noise levels that training draws from; the released training leaves out the last fifth.
        octaves, persistence, frequency: the noise (:class:`SimplexNoise`).
        updates: 3000 epochs of 100 slices one by one, as the released training counts them.
        ema: weight of the past in the moving average of the weights, which scores.
        clip: upper bound of the gradient's norm.
        distance: steps by which a slice is diffused before it is denoised; 200 to 250 in the paper.
        sampler: ``ddim`` follows the deterministic path in ``jumps`` steps; ``ddpm`` draws every one of the
            ``distance`` steps, as the paper does.
        jumps: network calls per slice of ``ddim``.
        repeats: restorations, each with noise of its own, whose mean is compared with the slice.
        erode: pixels (of the view) taken off the region of interest, whose edge restores badly.
    """

    patch: int = 0
    base: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (16, 8)
    heads: int = 2
    steps: int = 1000
    train_steps: int = 800
    octaves: int = 6
    persistence: float = 0.8
    frequency: float = 64.0
    lr: float = 1e-4
    batch: int = 1
    updates: int = 300_000
    ema: float = 0.9999
    clip: float = 1.0
    distance: int = field(default=200, metadata={"stage": "score"})
    sampler: Literal["ddim", "ddpm"] = field(default="ddim", metadata={"stage": "score"})
    jumps: int = field(default=50, metadata={"stage": "score"})
    repeats: int = field(default=1, metadata={"stage": "score"})
    erode: int = field(default=0, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "base": 8,
            "multipliers": (1, 2),
            "blocks": 1,
            "attention": (16,),
            "frequency": 8.0,
            "lr": 1e-3,
            "batch": 4,
            "updates": 8,
            "ema": 0.5,
            "jumps": 2,
        },
        "quick": {
            "size": 64,
            "patch": 32,
            "base": 8,
            "multipliers": (1, 2, 4),
            "blocks": 1,
            "attention": (8,),
            "frequency": 12.0,
            "train_steps": 75,
            "lr": 4e-3,
            "batch": 8,
            "updates": 200,
            "ema": 0.97,
            "distance": 50,
            "jumps": 1,
            "repeats": 4,
            "erode": 2,
        },
        "standard": {
            **STANDARD_SLICES,
            "patch": 64,
            "base": 32,
            "multipliers": (1, 1, 2, 2, 4),
            "frequency": 24.0,  # a pixel of the square is almost three of the published slice
            "lr": 1e-3,
            "batch": 4,
            "updates": 600,
            "ema": 0.965,  # the same share of the updates
            "jumps": 20,
        },
    }

    def __post_init__(self) -> None:
        for name in ("distance", "train_steps"):
            if not 1 <= getattr(self, name) <= self.steps:
                raise ConfigError(f"{name}={getattr(self, name)}: choose 1 to steps={self.steps}")
        for name in ("jumps", "repeats"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: use at least 1")


class AnoDDPM(Method):
    """Learns to remove simplex noise from healthy slices; what part of the way there and back changes is anomalous.

    Attributes:
        noise_seed: decides the noise of scoring, the same for every case.
    """

    card = MethodCard(
        name="anoddpm",
        title="AnoDDPM",
        year=2022,
        family="diffusion",
        citation="Wyatt et al., AnoDDPM: Anomaly Detection with Denoising Diffusion Probabilistic Models using Simplex "
        "Noise, CVPR Workshops 2022",
        reference="doi:10.1109/CVPRW56347.2022.00080",
        figures=(
            ("input", "256²", "256², masked, [−1, 1]"),
            (
                "network",
                "U-Net of base 128, attention at 16² and 8² (code: also 32²)",
                "U-Net 128–512, 6 levels, attention at 16² and 8²",
            ),
            same("loss", "squared error of the simplex noise, T 1000, linear β"),
            ("optimiser", "10⁻⁴, batch 1, moving average", "AdamW 10⁻⁴, batch 1, moving average 0.9999"),
            ("length", "3,000 epochs", "300,000 updates (3,000 epochs of 100 slices)"),
        ),
        notes="The noise has unit variance and is new for every slice and update. DDIM with 50 calls per slice "
        "replaces the paper's 250 (sampler=ddpm distance=250); the predicted clean slice is cut to the grey range. "
        "Native threshold 0.5 of the squared error in [−1, 1] is the authors' default for MRI. No CT figures are "
        "published. The quick profile cuts a square around the organ, which covers a twelfth of the slice on the liver "
        "phantom, and diffuses by 50 steps: from 200 its small network restores livers 24 HU too dark, and dark "
        "lesions are closer to that than healthy tissue.",
    )
    Config = AnoDDPMConfig
    tuned: ClassVar = {
        "lr": (1e-5, 1e-3, "log"),
        "frequency": [16.0, 32.0, 64.0, 128.0],
        "distance": (100, 400, 50),
        "erode": (0, 3),
    }
    native_threshold = 0.5

    def build(self) -> None:
        import torch

        from ..nets.diffusion_unet import DiffusionUNet

        c = self.config
        net = DiffusionUNet(c.patch or c.size, c.base, c.multipliers, c.blocks, c.attention, c.heads)
        self.net = net.to(memory_format=torch.channels_last)
        self.noise_seed = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Minimise the squared error of the predicted noise; the network ends with its averaged weights."""
        import torch

        from ..resident import ResidentSlices
        from ..roi_crop import SquareCrops
        from .parts.noise_schedule import Diffusion

        c = self.config
        self.noise_seed = ctx.seed_for("score-noise")
        slices = ResidentSlices(healthy.array(self.view), ctx.device)
        order = batches(ctx, len(slices), c.batch, "order")
        diffusion, simplex = Diffusion(c.steps), self.noise()
        optimiser = make_optimiser(ctx, torch.optim.AdamW, self.net.parameters(), lr=c.lr, weight_decay=0.0)
        clones = (p.detach().clone() for p in self.net.parameters())
        average = ctx.keep(torch.nn.ParameterList(torch.nn.Parameter(p, requires_grad=False) for p in clones))
        self.net.train()

        def loss_of(images: torch.Tensor, rois: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
            def draw(below: int) -> torch.Tensor:
                return torch.randint(below, (c.batch,), generator=draws, device=ctx.device)

            clean = as_input(images, ctx.device)
            if c.patch:
                clean = SquareCrops.around(rois, c.patch).take(clean)
            clean = 2 * clean - 1
            t, noise = draw(c.train_steps), simplex.images(draw(2**32), clean.shape[-1])
            with autocast(ctx.device, ctx.precision):
                predicted = self.net(diffusion.noisy(clean, t, noise), t)
            return torch.nn.functional.mse_loss(predicted.float(), noise)

        def held_out(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return loss_of(*batch, torch.Generator(ctx.device).manual_seed(ctx.seed_for("noise", "held out")))

        generator = ctx.generator("noise")

        def step(_: int) -> dict[str, torch.Tensor]:
            loss = loss_of(*slices.take(next(order)), generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), c.clip)
            optimiser.step()
            with torch.no_grad():
                for mean, p in zip(average, self.net.parameters(), strict=True):
                    mean.lerp_(p, 1 - c.ema)
            return {"mse": loss.detach()}

        watch = held_out_loss(ctx, c.updates, [self.net], held_out_slices(self.view, c.batch, ctx), held_out)
        run_updates(ctx, c.updates, step, watch=watch)
        with torch.no_grad():
            for mean, p in zip(average, self.net.parameters(), strict=True):
                p.copy_(mean)

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the squared error of the denoised slice, grey values in [−1, 1], inside the region of interest."""
        import torch

        c = self.config
        crops, seen, denoised = self.denoised(array, roi)
        difference = seen - denoised
        if crops is not None:
            difference = crops.put_back(torch.from_numpy(difference)).numpy()
        return (4 * difference**2 * erode_in_plane(roi, c.erode)).astype(np.float32)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the denoised slices, or squares around the organ brought back to the slice."""
        import torch

        crops, _, denoised = self.denoised(array, roi)
        whole = denoised if crops is None else crops.put_back(torch.from_numpy(denoised)).numpy()
        return {"denoised": whole}

    def denoised(self, array: np.ndarray, roi: np.ndarray) -> tuple[SquareCrops | None, np.ndarray, np.ndarray]:
        """Return the squares around the organ, where there are any, what is seen and what the network makes of it."""
        import torch

        from ..roi_crop import SquareCrops

        c = self.config
        self.net.eval()
        draws = 1 if c.sampler == "ddim" else c.distance
        seeds = iter(np.random.default_rng(self.noise_seed).integers(2**32, size=(len(array), c.repeats, draws)))

        together = untried(self.device)  # an accelerator waits between small batches

        def restored(x: torch.Tensor) -> torch.Tensor:
            own = np.stack(list(islice(seeds, len(x))), axis=1)
            mean = self.denoise_repeatedly(2 * x - 1, own, together=together).mean(dim=0)
            return (mean[:, 0] + 1) / 2

        crops = SquareCrops.around(torch.from_numpy(roi), c.patch) if c.patch else None
        seen = array if crops is None else crops.take(as_input(array, "cpu"))[:, 0].numpy()
        batch = max(1, LARGE_BATCH // c.repeats) if together else SCORE_BATCH
        return crops, seen, predict(restored, seen, batch=batch, device=self.device)

    def denoise_repeatedly(self, clean: torch.Tensor, seeds: np.ndarray, *, together: bool) -> torch.Tensor:
        """Denoise images (n, 1, side, side) once per row of ``seeds``, one after the other or in one batch.

        Returns (repeats, n, 1, side, side); seeds are int64 (repeats, n, …) as :meth:`denoise` takes them.
        """
        import torch

        if not together:
            return torch.stack([self.denoise(clean, once) for once in seeds])
        repeats, count = seeds.shape[:2]
        denoised = self.denoise(clean.repeat(repeats, 1, 1, 1), seeds.reshape(repeats * count, -1))
        return denoised.reshape(repeats, count, *clean.shape[1:])

    def denoise(self, clean: torch.Tensor, seeds: np.ndarray) -> torch.Tensor:
        """Diffuse images by ``distance`` steps and bring them back.

        Args:
            clean: (n, 1, side, side) in [−1, 1], whole slices or squares around the organ.
            seeds: int64 (n, 1), or (n, distance) for ``ddpm``: of the noise that diffuses, then of step t back.
        """
        import torch

        from .parts.noise_schedule import Diffusion, path

        c = self.config
        diffusion, simplex = Diffusion(c.steps), self.noise()
        of = torch.from_numpy(seeds).to(clean.device)

        def at(t: int) -> torch.Tensor:
            return torch.full((len(clean),), t, device=clean.device)

        visited = path(c.distance, c.jumps if c.sampler == "ddim" else c.distance)
        x = diffusion.noisy(clean, at(visited[0]), simplex.images(of[:, 0], clean.shape[-1]))
        for t, to in zip(visited, [*visited[1:], -1], strict=True):
            estimate = diffusion.clean(x, t, self.net(x, at(t)))
            if c.sampler == "ddim":
                x = diffusion.implicit(x, t, estimate, to)
            else:
                fresh = simplex.images(of[:, t], clean.shape[-1]) if t > 0 else torch.zeros_like(x)
                x = diffusion.ancestral(x, t, estimate, fresh)
        return x

    def noise(self) -> SimplexNoise:
        from ..synthesis.simplex import SimplexNoise

        return SimplexNoise(self.config.octaves, self.config.persistence, self.config.frequency)
