"""What pDDPM and cDDPM share: a network that turns a slice with noise into the clean slice in one call."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ....datasets.case import Spacing
from ...config import ConfigError, SliceConfig
from ...context import FitContext
from ...method import Method
from ...reconstruction.parts.residual import filtered_inside, residual
from ...training import as_input, autocast, batches, make_optimiser, predict, run_updates, training_length, update
from ...watching import held_out_loss, held_out_slices

if TYPE_CHECKING:
    import torch

    from ....datasets.healthy import HealthySet
    from ...roi_crop import SquareCrops
    from ...synthesis.simplex import SimplexNoise

SCORE_BATCH = 32
Noise = Literal["simplex", "gaussian"]


@dataclass(frozen=True)
class OneStepConfig(SliceConfig):
    """Settings of :class:`OneStepDDPM`.

    Attributes:
        patch: side to which the square around the region of interest is resized; 0 takes the whole slice.
        base: width of the first level of the U-Net.
        multipliers: width of every level relative to ``base``.
        blocks: residual blocks per level.
        heads: heads of the self-attention, which only the deepest level has.
        steps: length of the whole diffusion, with the cosine schedule.
        noise: what diffuses.
        octaves, persistence, frequency: the simplex noise (:class:`SimplexNoise`).
        epochs: passes over the training slices.
        updates: overrides epochs.
        organ_loss: average the error over the pixels of the organ instead of those of the whole square.
        distances: steps by which a slice is diffused before it is restored in one call; restorations are averaged.
        median: side of the cube of the median filter on the map; 0 is none.
        erode: pixels (of the view) taken off the region of interest, whose edge restores badly.
    """

    patch: int = 96
    base: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 3
    heads: int = 4
    steps: int = 1000
    noise: Noise = "simplex"
    octaves: int = 6
    persistence: float = 0.8
    frequency: float = 64.0
    lr: float = 1e-4
    batch: int = 32
    epochs: int = 1600
    updates: int | None = None
    organ_loss: bool = False
    distances: tuple[int, ...] = field(default=(500,), metadata={"stage": "score"})
    median: int = field(default=5, metadata={"stage": "score"})
    erode: int = field(default=0, metadata={"stage": "score"})

    def __post_init__(self) -> None:
        if not self.distances or not all(1 <= distance <= self.steps for distance in self.distances):
            raise ConfigError(f"distances={self.distances}: choose from 1 to steps={self.steps}")

    @property
    def side(self) -> int:
        """Side of what the network sees."""
        return self.patch or self.size


class OneStepDDPM(Method):
    """Learns to predict healthy slices from diffused ones; the map is what one call of the network changes.

    Attributes:
        noise_seed: decides the noise of scoring, the same for every case.
    """

    Config = OneStepConfig

    def build(self) -> None:
        import torch

        from ...nets.diffusion_unet import DiffusionUNet

        c = self.config
        net = DiffusionUNet(
            c.side, c.base, c.multipliers, c.blocks, (), c.heads, scaled=True, condition=self.condition_width
        )
        self.net = net.to(memory_format=torch.channels_last)
        self.noise_seed = 0

    @property
    def condition_width(self) -> int:
        """Length of the vector that conditions the network; 0 is none."""
        return 0

    @property
    def trained(self) -> list[torch.nn.Module]:
        """The networks that the denoising trains."""
        return [self.net]

    def condition(self, clean: torch.Tensor) -> torch.Tensor | None:
        """Return what the network is told of slices (n, 1, side, side) in [−1, 1] beside their diffused form."""
        return None

    def boxes(self, device: str | torch.device) -> torch.Tensor:
        """Return where a slice is diffused, bool (ways, 1, side, side); together the boxes cover it once."""
        import torch

        return torch.ones((1, 1, self.config.side, self.config.side), dtype=torch.bool, device=device)

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Learn to restore healthy slices."""
        self.learn_to_restore(healthy, ctx)

    def learn_to_restore(self, healthy: HealthySet, ctx: FitContext, *, phase: str = "", first: int = 0) -> None:
        """Minimise the absolute error of the clean slice that is predicted where a slice was diffused.

        ``phase`` and ``first`` name the curves and number their points (:func:`run_updates`).
        """
        import torch

        from ...resident import ResidentSlices
        from .noise_schedule import Diffusion

        c = self.config
        self.noise_seed = ctx.seed_for("score-noise")
        slices = ResidentSlices(healthy.array(self.view), ctx.device)
        order = batches(ctx, len(slices), c.batch, "order")
        diffusion, boxes = Diffusion(c.steps, "cosine"), self.boxes(ctx.device)
        optimiser = make_optimiser(
            ctx, torch.optim.Adam, [p for net in self.trained for p in net.parameters()], lr=c.lr
        )
        for net in self.trained:
            net.train()

        def loss_of(images: torch.Tensor, rois: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
            def draw(below: int) -> torch.Tensor:
                return torch.randint(below, (len(images),), generator=draws, device=ctx.device)

            clean, organ = self.squares(images, rois)
            t, inside = draw(c.steps), boxes[draw(len(boxes))]
            noise = self.new_noise(clean, draws)
            noisy = torch.where(inside, diffusion.noisy(clean, t, noise), clean)
            with autocast(ctx.device, ctx.precision):
                predicted = self.net(noisy, t, self.condition(clean))
            error = torch.where(inside, predicted.float() - clean, 0.0).abs()
            return (error * organ).sum() / organ.sum().clamp(min=1) if c.organ_loss else error.mean()

        def held_out(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return loss_of(*batch, torch.Generator(ctx.device).manual_seed(ctx.seed_for("noise", "held out")))

        generator = ctx.generator("noise")

        def step(_: int) -> dict[str, torch.Tensor]:
            return {"l1": update(optimiser, loss_of(*slices.take(next(order)), generator))}

        updates = training_length(c.updates, c.epochs, len(slices), c.batch)
        watch = held_out_loss(ctx, updates, self.trained, held_out_slices(self.view, c.batch, ctx), held_out)
        run_updates(ctx, updates, step, phase=phase, first=first, watch=watch)

    def squares(self, images: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return slices as the network sees them, in [−1, 1], and their regions, float32 (n, 1, side, side)."""
        from ...roi_crop import SquareCrops

        clean, organ = (as_input(part, images.device.type) for part in (images, rois))
        if self.config.patch:
            crops = SquareCrops.around(rois, self.config.patch)
            clean, organ = crops.take(clean), crops.take(organ)
        return 2 * clean - 1, organ

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return |x − restored| in grey values of [0, 1], filtered, inside the region of interest."""
        import torch

        c = self.config
        crops, seen, restored = self.restored(array, roi)
        map_ = residual(seen, restored, "absolute")
        if crops is not None:
            map_ = crops.put_back(torch.from_numpy(map_)).numpy()
        return filtered_inside(map_, roi, c.median, c.erode)

    def restore_view(
        self, array: np.ndarray, roi: np.ndarray, scores: np.ndarray, spacing: Spacing
    ) -> dict[str, np.ndarray]:
        """Return the restored slices, or squares around the organ brought back to the slice."""
        import torch

        crops, _, restored = self.restored(array, roi)
        return {"restored": restored if crops is None else crops.put_back(torch.from_numpy(restored)).numpy()}

    def restored(self, array: np.ndarray, roi: np.ndarray) -> tuple[SquareCrops | None, np.ndarray, np.ndarray]:
        """Return the squares around the organ, where there are any, what is seen and what the network makes of it."""
        import torch

        from ...roi_crop import SquareCrops

        c = self.config
        for net in self.trained:
            net.eval()
        seeds = iter(np.random.default_rng(self.noise_seed).integers(2**32, size=(len(array), len(c.distances))))

        def clean(x: torch.Tensor) -> torch.Tensor:
            own = np.stack(list(islice(seeds, len(x))))
            return (self.restore(2 * x - 1, own)[:, 0] + 1) / 2

        crops = SquareCrops.around(torch.from_numpy(roi), c.patch) if c.patch else None
        seen = array if crops is None else crops.take(as_input(array, "cpu"))[:, 0].numpy()
        return crops, seen, predict(clean, seen, batch=SCORE_BATCH, device=self.device)

    def restore(self, clean: torch.Tensor, seeds: np.ndarray) -> torch.Tensor:
        """Diffuse images box by box and predict what is clean there; one call per box and distance.

        Args:
            clean: (n, 1, side, side) in [−1, 1], whole slices or squares around the organ.
            seeds: int64 (n, distances), of the noise.
        """
        import torch

        from .noise_schedule import Diffusion

        c = self.config
        diffusion, boxes, condition = Diffusion(c.steps, "cosine"), self.boxes(clean.device), self.condition(clean)
        total = torch.zeros_like(clean)
        for own, distance in zip(seeds.T, c.distances, strict=True):
            t = torch.full((len(clean),), distance - 1, device=clean.device)
            noisy = diffusion.noisy(clean, t, self.noise_of(own, clean))
            for box in boxes:
                predicted = self.net(torch.where(box, noisy, clean), t, condition).float().clamp(-1, 1)
                total = total + torch.where(box, predicted, 0.0)
        return total / len(c.distances)

    def new_noise(self, like: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """Draw noise for images (n, 1, side, side), new for each."""
        import torch

        if self.config.noise == "gaussian":
            return torch.randn(like.shape, generator=draws, device=like.device)
        seeds = torch.randint(2**32, (len(like),), generator=draws, device=like.device)
        return self.simplex().images(seeds, like.shape[-1])

    def noise_of(self, seeds: np.ndarray, like: torch.Tensor) -> torch.Tensor:
        """Return the noise of one seed per image, float32 (n, 1, side, side)."""
        import torch

        if self.config.noise == "gaussian":
            fields: list[Any] = [np.random.default_rng(seed).standard_normal(like.shape[1:]) for seed in seeds]
            return torch.from_numpy(np.stack(fields).astype(np.float32)).to(like.device)
        return self.simplex().images(torch.from_numpy(seeds).to(like.device), like.shape[-1])

    def simplex(self) -> SimplexNoise:
        from ...synthesis.simplex import SimplexNoise

        return SimplexNoise(self.config.octaves, self.config.persistence, self.config.frequency)
