"""What layer decomposition and its fine-tuned top line share: the network, its training and the map."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ....datasets.case import Spacing
from ....datasets.views.volume_view import VolumeView
from ...config import Config
from ...context import FitContext
from ...method import Method
from ...training import autocast, batches, run_updates, update

if TYPE_CHECKING:
    import torch

    from ....datasets.views.volume_stack import SliceRun, VolumeStack
    from ...synthesis.layered_lesions import LayerRecipe

Tensors = Mapping[str, "torch.Tensor"]
Draw = Callable[[], Tensors]
Losses = Callable[[Tensors], Mapping[str, "torch.Tensor"]]
# Per training batch of an epoch. A held-out fifth of the cases has a quarter of the other cases' batches, so that half
# as many show each of its cases about twice: another crop, another lesion.
VALIDATION_BATCHES = 0.5


@dataclass(frozen=True)
class LayerConfig(Config):
    """Settings of both methods.

    Attributes:
        size, spacing: the grid of the volumes: in-plane side in pixels, voxel size in mm (z, y, x).
        window: HU range of the view.
        crop: voxels of a training crop and of a window at test (z, y, x).
        volume: range of a lesion's volume in mm³.
        octaves, roughness: of the noise on its surface.
        alpha: range of its opacity.
        darker, brighter: ranges of its mean relative to the normal tissue under it; None for never.
        zero_hu: HU from which brightness is counted; −1000 makes the factor one of density.
        channels: widths of the levels of the 3D U-Net.
        epochs: upper bound on passes over the training cases; one crop per case and pass.
        plateau: epochs without a lower validation loss after which the learning rate is divided by ten.
        patience: epochs without a lower validation loss after which training ends.
        updates: trains that many updates on all cases instead, without validation.
        overlap: of the windows at test.
    """

    size: int = 352
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    window: tuple[float, float] = (-200.0, 250.0)
    crop: tuple[int, int, int] = (128, 128, 128)
    volume: tuple[float, float] = (7_000.0, 200_000.0)
    octaves: tuple[int, int] = (4, 7)
    roughness: tuple[float, float] = (0.05, 0.2)
    alpha: tuple[float, float] = (0.2, 0.8)
    darker: tuple[float, float] | None = (0.4, 0.9)
    brighter: tuple[float, float] | None = (1.1, 1.4)
    zero_hu: float = 0.0
    channels: tuple[int, ...] = (64, 128, 256, 512)
    batch: int = 2
    lr: float = 1e-2
    weight_decay: float = 3e-5
    epochs: int = 500
    plateau: int = 10
    patience: int = 40
    updates: int | None = None
    overlap: float = field(default=0.5, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {"size": 32, "spacing": (8.0, 10.0, 10.0), "crop": (8, 16, 16), "channels": (4, 8), "updates": 3},
        "quick": {
            "size": 44,
            "spacing": (5.0, 5.0, 5.0),
            "crop": (16, 24, 24),
            "channels": (8, 16, 32),
            # A few hundred updates do not teach the network to see faint lesions.
            "alpha": (0.5, 0.8),
            "darker": (0.3, 0.7),
            "brighter": (1.3, 1.4),
            "updates": 240,
            "overlap": 0.25,
        },
    }
    anatomies: ClassVar = {
        "lung": {"window": (-800.0, 100.0), "darker": None, "brighter": (1.1, 3.0), "zero_hu": -1000.0}
    }


class LayerMethod(Method):
    """Takes an image apart into normal tissue, lesion and mask; the mask is the map.

    Images are standardised with the mean and standard deviation of the whole organ; what lies outside it is 0.
    """

    Config = LayerConfig
    tuned: ClassVar = {"lr": (1e-3, 3e-2, "log"), "alpha": ["0.2,0.8", "0.1,0.8", "0.4,0.8"]}
    requires = ("monai",)
    native_threshold = 0.5

    @property
    def view(self) -> VolumeView:
        c = self.config
        return VolumeView(size=c.size, spacing=c.spacing, window=c.window)

    def build(self) -> None:
        import torch

        from ...nets.unets import LayerUNet

        layout = torch.channels_last_3d
        self.net = LayerUNet(self.config.channels).to(memory_format=layout)
        self.updates: dict[str, int] = {}

    def pretrain(self, stack: VolumeStack, runs: Sequence[SliceRun], patients: Sequence[str], ctx: FitContext) -> None:
        """Learn to take crops of healthy tissue with a synthetic lesion apart.

        Args:
            runs: of the stack, without lesions.
            patients: patient of each case of the stack.
        """
        draws = partial(self.next_layers, stack, ctx)
        self.train(ctx, "decomposition", patients, runs, draws, self.layer_losses, updates=self.config.updates)

    def recipe(self) -> LayerRecipe:
        """Return the numbers of the generator, in grey values of the view."""
        from ...synthesis.layered_lesions import LayerRecipe

        c = self.config
        low, high = c.window
        return LayerRecipe(
            volume=c.volume,
            octaves=c.octaves,
            roughness=c.roughness,
            alpha=c.alpha,
            factors=tuple(f for f in (c.darker, c.brighter) if f is not None),
            zero=(c.zero_hu - low) / (high - low),
        )

    def next_layers(self, stack: VolumeStack, ctx: FitContext, runs: Sequence[SliceRun], phase: str) -> Draw:
        """Return what yields batches ``image``, ``normal``, ``lesion`` and ``mask``, float32 (n, 1, Z, Y, X)."""
        from ...synthesis.layered_lesions import LayerGenerator
        from ...synthesis.volume_fields import random_voxels
        from .volume_crops import VolumeCrops

        crops = VolumeCrops(stack, self.config.crop, runs)
        generator = LayerGenerator(self.recipe(), ctx.rng("synthesis", phase))
        order, places = batches(len(crops.cases), self.config.batch, ctx.rng("order", phase)), ctx.rng("crops", phase)
        statistics = {case: organ_statistics(stack.image(case), stack.roi(case)) for case in crops.cases}

        def one(case: int) -> dict[str, np.ndarray]:
            run = crops.run_of(case, places)
            crop = crops.around(run, random_voxels(crops.roi(run), places.random(1))[0])
            layers, of_case = generator(crop.image, crop.roi, crop.spacing), statistics[run.case]
            return {
                "image": standardised(layers.image, crop.roi, of_case),
                "normal": standardised(layers.normal, crop.roi, of_case),
                "lesion": standardised(layers.lesion, layers.mask, of_case),  # 0 outside the mask
                "mask": layers.mask.astype(np.float32),
            }

        return lambda: as_batch([one(int(case)) for case in next(order)], ctx.device)

    def layer_losses(self, batch: Tensors) -> Mapping[str, torch.Tensor]:
        """Return the sum of the losses, then each: Dice of the mask and the absolute errors of the two layers."""
        from ...losses import decomposition_losses

        losses = decomposition_losses(self.net(batch["image"]), batch)
        return {"loss": sum(losses.values(), start=batch["image"].new_zeros(())), **losses}

    def train(
        self,
        ctx: FitContext,
        phase: str,
        patients: Sequence[str],
        runs: Sequence[SliceRun],
        draws: Callable[[Sequence[SliceRun], str], Draw],
        losses: Losses,
        *,
        updates: int | None,
        parameters: Sequence[torch.nn.Parameter] | None = None,
    ) -> None:
        """Train a number of updates, or until the loss on fixed held-out crops stops falling.

        Args:
            patients: patient of each case; some of them are held out where ``updates`` is None.
            draws: returns what yields batches of some runs; the name decides its random numbers.
            losses: the first entry is minimised, and is the validation loss.
            parameters: to train; all by default.

        Raises:
            TrainingError: a loss is not finite.
        """
        import torch

        from ...early_stopping import train_until_no_gain
        from .volume_crops import held_out_runs

        c, held = self.config, []
        if updates is None:
            runs, held = held_out_runs(patients, runs, ctx.rng("validation", phase))
        draw = draws(runs, phase)
        trained = list(self.net.parameters()) if parameters is None else list(parameters)
        optimiser = torch.optim.Adam(trained, lr=c.lr, weight_decay=c.weight_decay)
        self.net.train()

        def step(_: int) -> dict[str, torch.Tensor]:
            batch = draw()
            with autocast(ctx.device, ctx.precision):
                values = losses(batch)
            update(optimiser, next(iter(values.values())))
            return {name: value.detach() for name, value in values.items()}

        if updates is not None:
            self.updates[phase] = run_updates(ctx, updates, step, phase=phase)
            return
        per_epoch, held_draw = math.ceil(len({run.case for run in runs}) / c.batch), draws(held, f"{phase} validation")
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=c.plateau)
        fixed = [held_draw() for _ in range(max(1, int(VALIDATION_BATCHES * per_epoch)))]

        def validate() -> float:
            with torch.inference_mode(), autocast(ctx.device, ctx.precision):
                value = float(np.mean([float(next(iter(losses(batch).values()))) for batch in fixed]))
            schedule.step(value)
            return value

        named = replace(ctx, on_log=lambda i, values: ctx.on_log(i, {f"{phase}/{k}": v for k, v in values.items()}))
        self.updates[phase] = train_until_no_gain(
            named, self.net, step, validate, per_epoch=per_epoch, updates=c.epochs * per_epoch, patience=c.patience
        )

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the probability of the mask; windows slide over the organ one by one, each with its own statistics."""
        from .volume_crops import slide

        c = self.config
        self.net.eval()
        image = standardised(np.asarray(array, np.float32), roi, organ_statistics(array, roi))
        return slide(
            lambda x: self.net(x)[2].float().sigmoid(), image, roi, c.crop, overlap=c.overlap, device=self.device
        )


def organ_statistics(image: np.ndarray, roi: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation (at least 10⁻³) of the organ's voxels; 0 and 1 without any."""
    values = image[roi]
    if not len(values):
        return 0.0, 1.0
    return float(values.mean(dtype=np.float64)), max(float(values.std(dtype=np.float64)), 1e-3)


def standardised(image: np.ndarray, roi: np.ndarray, statistics: tuple[float, float]) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation inside the ROI; 0 elsewhere, float32."""
    mean, spread = (np.float32(value) for value in statistics)
    return np.where(roi, (image - mean) / spread, np.float32(0)).astype(np.float32)


def as_batch(samples: Sequence[Mapping[str, np.ndarray]], device: str) -> Tensors:
    """Stack samples of (z, y, x) arrays into tensors (n, 1, z, y, x)."""
    import torch

    return {k: torch.from_numpy(np.stack([s[k] for s in samples]))[:, None].to(device) for k in samples[0]}
