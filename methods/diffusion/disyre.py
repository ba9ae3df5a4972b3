"""DISYRE: cold diffusion whose steps are synthetic lesions of a rising degree; the network restores the clean slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard, same
from ..config import STANDARD_SLICES, ConfigError, SliceConfig
from ..context import FitContext
from ..method import Method
from ..reconstruction.parts.residual import erode_in_plane
from ..schedules import warm_cosine
from ..training import as_input, autocast, batches, make_optimiser, predict, run_updates
from ..watching import held_out_loss

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet, SliceStack
    from ..roi_crop import SquareCrops

SCORE_BATCH, CODEBOOK_SLICES, CODEBOOK_VALUES = 32, 256, 100_000
Batch = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor", "torch.Tensor"]


@dataclass(frozen=True)
class DISYREConfig(SliceConfig):
    """Settings of :class:`DISYRE`.

    Attributes:
        patch: side to which the square around the region of interest is resized.
        base, multipliers, blocks: of the U-Net, as for AnoDDPM.
        attention: sides of the feature maps with self-attention.
        heads: attention heads.
        steps: number of degrees.
        sides: least and largest side of a corruption in pixels of the square.
        blur: largest standard deviation of the smoothing of its outline.
        grey_classes: classes of healthy grey values, of which the bias shifts some.
        augment: mirror, turn, scale, and change grey values before the corruption.
        beta1, beta2, weight_decay: of AdamW.
        warmup: updates in which the learning rate rises; then it falls with a cosine.
        clip: upper bound of the gradient's norm.
        score: ``single`` averages |x − f(x, t)| over ``calls`` degrees; ``restored`` follows the degrees from the
            largest to none in ``calls`` steps and compares the slice with what is left.
        calls: network calls per slice.
        erode: pixels (of the view) taken off the region of interest.
    """

    patch: int = 128
    base: int = 32
    multipliers: tuple[int, ...] = (1, 2, 3, 4, 8, 8)
    blocks: int = 2
    attention: tuple[int, ...] = (8,)
    heads: int = 32
    steps: int = 100
    sides: tuple[float, float] = (10.0, 44.0)
    blur: float = 5.0
    grey_classes: int = 5
    augment: bool = True
    lr: float = 1e-4
    beta1: float = 0.95
    beta2: float = 0.999
    weight_decay: float = 1e-6
    warmup: int = 500
    clip: float = 1.0
    batch: int = 96
    updates: int = 100_000
    score: Literal["single", "restored"] = field(default="single", metadata={"stage": "score"})
    calls: int = field(default=5, metadata={"stage": "score"})
    erode: int = field(default=0, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "patch": 16,
            "base": 8,
            "multipliers": (1, 2),
            "blocks": 1,
            "attention": (),
            "heads": 1,
            "sides": (3.0, 8.0),
            "blur": 1.0,
            "lr": 1e-3,
            "warmup": 2,
            "batch": 4,
            "updates": 6,
        },
        "quick": {
            "size": 64,
            "patch": 32,
            "base": 8,
            "multipliers": (1, 2, 4),
            "blocks": 1,
            "attention": (),
            "heads": 1,
            "sides": (4.0, 14.0),
            "blur": 1.5,
            "augment": False,
            "lr": 4e-3,
            "warmup": 10,
            "batch": 8,
            "updates": 240,
            "erode": 2,
        },
        "standard": {
            **STANDARD_SLICES,
            "patch": 64,
            "base": 16,
            "attention": (4,),
            "heads": 16,
            "sides": (5.0, 22.0),
            "blur": 2.5,
            "lr": 1e-3,
            "warmup": 10,  # the same share of the updates
            "batch": 8,
            "updates": 2000,
        },
    }

    def __post_init__(self) -> None:
        if not 1 <= self.calls <= self.steps:
            raise ConfigError(f"calls={self.calls}: choose 1 to steps={self.steps}")


class DISYRE(Method):
    """Learns to undo synthetic lesions of a known degree; what it changes at several degrees is anomalous.

    Attributes:
        classes: float32 (grey_classes,), means of the classes of healthy grey values of the training patients.
    """

    card = MethodCard(
        name="disyre",
        title="DISYRE",
        year=2024,
        family="diffusion",
        citation="Naval Marimont et al., Ensembled Cold-Diffusion Restorations for Unsupervised Anomaly Detection, "
        "MICCAI 2024",
        reference="arXiv:2407.06635",
        figures=(
            ("input", "128² patches of brain MRI", "128² around the organ, masked"),
            (
                "network",
                "U-Net 32–256, 6 levels of 2 blocks, attention at 8²",
                "U-Net 32–256, 6 levels of 2 blocks, attention at 8²",
            ),
            same("loss", "squared error of the clean slice, 100 degrees"),
            same("optimiser", "AdamW 10⁻⁴, β₁ 0.95, decay 10⁻⁶, batch 96, cosine"),
            same("length", "100,000 updates, 500 of warm-up"),
        ),
        notes="The degree rises with the step; the released training lets it fall while its sampler lets it rise. Grey "
        "classes are those of the organ of the training patients. Shapes are drawn here. The square around the organ "
        "replaces sliding patches. No CT figures are published.",
    )
    Config = DISYREConfig
    tuned: ClassVar = {
        "lr": (1e-5, 1e-3, "log"),
        "score": ["single", "restored"],
        "calls": (1, 10),
        "erode": (0, 3),
    }

    def build(self) -> None:
        import torch

        from ..nets.diffusion_unet import DiffusionUNet

        c = self.config
        net = DiffusionUNet(c.patch, c.base, c.multipliers, c.blocks, c.attention, c.heads)
        self.net = net.to(memory_format=torch.channels_last)
        self.classes = np.linspace(0, 1, c.grey_classes, dtype=np.float32)

    @property
    def levels(self) -> np.ndarray:
        """Degree of each step, float64 (steps,), rising: √ᾱ of the linear schedule, read backwards."""
        return _levels(self.config.steps)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Find the grey classes, then minimise the squared error of the clean slice that the network returns."""
        import torch

        c = self.config
        stack = healthy.array(self.view)
        self.classes = grey_classes(stack, c.grey_classes, ctx.rng("classes"))
        optimiser = make_optimiser(
            ctx,
            torch.optim.AdamW,
            self.net.parameters(),
            lr=c.lr,
            betas=(c.beta1, c.beta2),
            weight_decay=c.weight_decay,
        )
        total = ctx.updates(c.updates)
        schedule = ctx.keep(torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: warm_cosine(i, total, c.warmup)))
        draw = self.batch_source(stack, ctx)
        self.net.train()

        def loss_of(batch: Batch) -> torch.Tensor:
            clean, _, corrupted, degree = batch
            with autocast(ctx.device, ctx.precision):
                restored = self.net(corrupted, self.step_of(degree))
            return torch.nn.functional.mse_loss(restored.float(), clean)

        def step(_: int) -> dict[str, torch.Tensor]:
            loss = loss_of(draw())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), c.clip)
            optimiser.step()
            schedule.step()
            return {"mse": loss.detach()}

        def held_out(held: HealthySet) -> Callable[[], Batch]:
            return self.batch_source(held.array(self.view), ctx, "held out")

        run_updates(ctx, c.updates, step, watch=held_out_loss(ctx, c.updates, [self.net], held_out, loss_of))

    def step_of(self, degree: torch.Tensor) -> torch.Tensor:
        """Return the step whose level is nearest to each degree, int64 (n,)."""
        return (_levels_on(self.config.steps, degree.device) - degree[:, None]).abs().argmin(dim=1)

    def batch_source(self, stack: SliceStack, ctx: FitContext, *phase: str) -> Callable[[], Batch]:
        """Return what yields clean squares, regions, corrupted squares, all (n, 1, patch, patch), and degrees (n,)."""
        import torch

        from ..resident import ResidentSlices
        from ..synthesis.corruption import Corruption
        from ..synthesis.grey_augmentation import augmented

        c, slices = self.config, ResidentSlices(stack, ctx.device, held=False if "held out" in phase else None)
        order, others = batches(ctx, len(stack), c.batch, "order", *phase), ctx.rng("foreign", *phase)
        draws = ctx.generator("corruption", *phase)
        corrupt = Corruption(torch.from_numpy(self.classes).to(ctx.device), c.sides, blur=c.blur)

        def squares(numbers: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            from ..roi_crop import SquareCrops

            images, rois = slices.take(numbers)
            crops = SquareCrops.around(rois, c.patch)
            seen, organ = (crops.take(as_input(part, ctx.device)) for part in (images, rois))
            return augmented(seen, organ, draws) if c.augment else (seen, organ)

        def draw() -> Batch:
            clean, organ = squares(next(order))
            foreign, foreign_organ = squares(others.integers(len(stack), size=len(clean)))
            inside = (organ[:, 0] > 0.5, foreign_organ[:, 0] > 0.5)
            corrupted, degree = corrupt(clean[:, 0], inside[0], foreign[:, 0], inside[1], draws)
            return clean, organ, corrupted[:, None], degree

        return draw

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        stack = healthy.array(self.view)
        self.classes = grey_classes(stack, self.config.grey_classes, ctx.rng("classes"))
        clean, _, corrupted, _ = self.batch_source(stack, ctx, "preview")()
        return {"healthy": clean[:, 0].cpu().numpy(), "corrupted": corrupted[:, 0].cpu().numpy()}

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the change in grey values of [0, 1] inside the region of interest, as ``score`` says."""
        import torch

        change = self.single if self.config.score == "single" else self.followed
        crops, seen = self.seen(array, roi)
        map_ = predict(lambda x: change(x)[0][:, 0], seen, batch=SCORE_BATCH, device=self.device)
        inside = erode_in_plane(roi, self.config.erode)
        return (crops.put_back(torch.from_numpy(map_)).numpy() * inside).astype(np.float32)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the mean restoration, or the last one, of the squares around the organ, brought back to the slice."""
        import torch

        change = self.single if self.config.score == "single" else self.followed
        crops, seen = self.seen(array, roi)
        restored = predict(lambda x: change(x)[1][:, 0], seen, batch=SCORE_BATCH, device=self.device)
        return {"restored": crops.put_back(torch.from_numpy(restored)).numpy()}

    def seen(self, array: np.ndarray, roi: np.ndarray) -> tuple[SquareCrops, np.ndarray]:
        """Return the squares around the organ, (slices, patch, patch); the network is then in evaluation mode."""
        import torch

        from ..roi_crop import SquareCrops

        self.net.eval()
        crops = SquareCrops.around(torch.from_numpy(roi), self.config.patch)
        return crops, crops.take(as_input(array, "cpu"))[:, 0].numpy()

    def single(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean |x − f(x, t)| and the mean f(x, t) over evenly spaced steps, (n, 1, patch, patch) both."""
        import torch

        change, mean = torch.zeros_like(x), torch.zeros_like(x)
        for t in np.linspace(0, self.config.steps - 1, self.config.calls).round():
            restored = self.at(x, int(t))
            change, mean = change + (x - restored).abs(), mean + restored
        return change / self.config.calls, mean / self.config.calls

    def followed(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return |x − x̂| and x̂, the slice that is left when the degree has fallen step by step.

        A corruption is (1 − α) · clean + α · lesion: with α_s in place of α_t, what remains of it is α_s / α_t of the
        difference to the restoration (Bansal et al. 2023).
        """
        from .parts.noise_schedule import path

        levels, now = self.levels, x
        visited = path(self.config.steps, self.config.calls)
        for t, to in zip(visited, [*visited[1:], None], strict=True):
            restored = self.at(now, t)
            left = 0.0 if to is None else float(levels[to] / levels[t])
            now = restored + left * (now - restored)
        return (x - now).abs(), now

    def at(self, x: torch.Tensor, t: int) -> torch.Tensor:
        """Return the clean slices that the network sees behind ``x``, corrupted to step ``t``."""
        import torch

        return self.net(x, torch.full((len(x),), t, device=x.device)).float().clamp(0, 1)


def _levels(steps: int) -> np.ndarray:
    from .parts.noise_schedule import Diffusion

    return np.sqrt(Diffusion(steps).kept[::-1])


@cache
def _levels_on(steps: int, device: torch.device) -> torch.Tensor:
    from ..resident import sent

    return sent(_levels(steps).astype(np.float32), device)


def grey_classes(stack: SliceStack, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the means of ``count`` classes of the organ's grey values by k-means, float32, rising."""
    chosen = np.sort(rng.choice(len(stack), min(len(stack), CODEBOOK_SLICES), replace=False))
    images, rois = stack.take(chosen)
    values = images[rois].astype(np.float64)
    if len(values) > CODEBOOK_VALUES:
        values = rng.choice(values, CODEBOOK_VALUES, replace=False)
    return k_means(values, count).astype(np.float32)


def k_means(values: np.ndarray, count: int, rounds: int = 50) -> np.ndarray:
    """Return the sorted means of ``count`` classes of numbers (Lloyd's algorithm from evenly spaced quantiles)."""
    means = np.quantile(values, (np.arange(count) + 0.5) / count)
    values = np.sort(values)
    total = np.concatenate([[0.0], np.cumsum(values)])
    for _ in range(rounds):
        ends = np.searchsorted(values, (means[1:] + means[:-1]) / 2)
        ends = np.concatenate([[0], ends, [len(values)]])
        sizes = np.diff(ends)
        new = np.where(sizes > 0, np.diff(total[ends]) / np.maximum(sizes, 1), means)
        if np.array_equal(new, means):
            break
        means = new
    return means
