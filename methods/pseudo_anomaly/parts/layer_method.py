"""What layer decomposition and its fine-tuned top line share: the network, its training and the map."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ....datasets.case import Spacing
from ....datasets.views.volume_view import VolumeView
from ...config import SOFT_ORGANS, Config
from ...context import FitContext
from ...method import Method
from ...training import WATCHED_POINTS, autocast, batches, make_optimiser, run_updates, update
from ...watching import held_out_loss

if TYPE_CHECKING:
    import torch

    from ....datasets.healthy import HealthySet
    from ....datasets.views.volume_stack import SliceRun, VolumeStack
    from ...synthesis.layered_lesions import LayerRecipe

Tensors = Mapping[str, "torch.Tensor"]
Draw = Callable[[], Tensors]
Losses = Callable[[Tensors], Mapping[str, "torch.Tensor"]]
HELD_OUT_CROPS = 2  # of each held-out case: another place, another lesion


@dataclass(frozen=True)
class LayerConfig(Config):
    """Settings of both methods.

    Attributes:
        size, spacing: the grid of the volumes: in-plane side in pixels, voxel size in mm (z, y, x).
        window: HU range of the view.
        crop: voxels of a training crop and of a window at test (z, y, x).
        volume: range of a lesion's volume in mm³.
        octaves, roughness: of the noise on its surface; the published noise spreads by 12 to 13 % of the radius.
        alpha: range of its opacity.
        darker, brighter: ranges of its mean relative to that of the organ; None for never.
        zero_hu: HU from which brightness is counted; −1000 makes the factor one of density.
        channels: widths of the levels of the 3D U-Net.
        epochs: upper bound.
        epoch_updates: updates of an epoch; that of the paper shows 285 pictures in batches of 2.
        plateau: epochs without a lower loss after which the learning rate is divided by ten.
        patience: epochs without a lower loss after which training ends.
        updates: trains that many updates instead, whatever the loss.
        overlap: of the windows at test.
    """

    size: int = 352
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    window: tuple[float, float] = (-200.0, 250.0)
    crop: tuple[int, int, int] = (128, 128, 128)
    volume: tuple[float, float] = (7_000.0, 200_000.0)
    octaves: tuple[int, int] = (4, 7)
    roughness: tuple[float, float] = (0.123, 0.13)
    alpha: tuple[float, float] = (0.2, 0.8)
    darker: tuple[float, float] | None = (0.4, 0.9)
    brighter: tuple[float, float] | None = (1.1, 1.4)
    zero_hu: float = 0.0
    channels: tuple[int, ...] = (64, 128, 256, 512)
    batch: int = 2
    lr: float = 1e-2
    weight_decay: float = 3e-5
    epochs: int = 500
    epoch_updates: int = 143
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
        "standard": {
            "size": 176,
            "spacing": (2.0, 2.0, 2.0),
            "crop": (40, 40, 40),
            "channels": (16, 32, 64, 128),
            # The rate stays: its first fall, after 1430 updates without a gain, would come later.
            "updates": 600,
        },
    }
    anatomies: ClassVar = {
        "lung": {"window": (-800.0, 100.0), "darker": None, "brighter": (1.1, 3.0), "zero_hu": -1000.0},
        **SOFT_ORGANS,
        # A pancreas has 20 to 200 ml: a larger lesion would leave nothing of it.
        "pancreas": {**SOFT_ORGANS["pancreas"], "volume": (1_000.0, 40_000.0)},
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

    def pretrain(self, stack: VolumeStack, runs: Sequence[SliceRun], ctx: FitContext) -> None:
        """Learn to take crops of healthy tissue with a synthetic lesion apart; ``runs`` show no lesions."""
        draws = partial(self.next_layers, stack, ctx)
        self.train(ctx, "decomposition", runs, draws, self.layer_losses, updates=self.config.updates)

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
        """Return what yields batches ``image``, ``normal``, ``lesion`` and ``mask``, float32 (n, 1, Z, Y, X).

        The target ``lesion`` is the mixture inside the mask and 0 elsewhere, as in the released code.
        """
        from ...resident import sent
        from ...synthesis.layered_lesions import LayerGenerator, Organ
        from .volume_crops import VolumeCrops

        crops = VolumeCrops(stack, self.config.crop, runs)
        generator = LayerGenerator(self.recipe(), ctx.rng("synthesis", phase))
        order, places = batches(ctx, len(crops.cases), self.config.batch, "order", phase), ctx.rng("crops", phase)
        statistics = {case: organ_statistics(stack.image(case), stack.roi(case)) for case in crops.cases}
        shape = (self.config.batch, 1, *self.config.crop)

        @cache
        def organ(run: SliceRun) -> Organ:
            image = stack.image(run.case)[run.start : run.stop]
            return Organ(image, crops.roi(run), stack.spacing(run.case), crops.box(run), statistics[run.case][0])

        def another(case: int) -> int:
            return (case + int(places.integers(1, len(crops.cases)))) % len(crops.cases)

        def one(case: int, normal: np.ndarray, image: np.ndarray, layer: np.ndarray, mask: np.ndarray) -> None:
            run = crops.run_of(case, places)
            other = crops.run_of(another(case), places) if len(crops.cases) > 1 else run
            crop, of_case = crops.around(run, crops.centre(run, places)), statistics[run.case]
            lesion = generator(crop.roi, crop.origin - np.array([run.start, 0, 0]), organ(run), organ(other))
            normal[:] = standardised(crop.image, crop.roi, of_case)
            image[:] = normal
            mixture = (lesion.mixture(crop.image) - np.float32(of_case[0])) / np.float32(of_case[1])
            image[lesion.box][lesion.mask] = mixture
            layer[lesion.box][lesion.mask] = mixture
            mask[lesion.box] = lesion.mask

        def draw() -> Tensors:
            arrays = {"image": np.empty, "normal": np.empty, "lesion": np.zeros, "mask": np.zeros}
            batch = {name: make(shape, np.float32) for name, make in arrays.items()}
            for i, case in enumerate(next(order)):
                one(int(case), *(batch[name][i, 0] for name in ("normal", "image", "lesion", "mask")))
            return {name: sent(values, ctx.device) for name, values in batch.items()}

        return draw

    def layer_losses(self, batch: Tensors) -> Mapping[str, torch.Tensor]:
        """Return the sum of the losses, then each: Dice of the mask and the absolute errors of the two layers."""
        from ...losses import decomposition_losses

        losses = decomposition_losses(self.net(batch["image"]), batch)
        return {"loss": sum(losses.values(), start=batch["image"].new_zeros(())), **losses}

    def train(
        self,
        ctx: FitContext,
        phase: str,
        runs: Sequence[SliceRun],
        draws: Callable[[Sequence[SliceRun], str], Draw],
        losses: Losses,
        *,
        updates: int | None,
        patients: Sequence[str] | None = None,
        parameters: Sequence[torch.nn.Parameter] | None = None,
    ) -> None:
        """Train a number of updates, or until the loss stops falling.

        Args:
            draws: returns what yields batches of some runs; the name decides its random numbers.
            losses: the first entry is minimised.
            patients: patient of each case. With it the loss that has to fall is that on fixed crops of held-out
                patients; without it the mean over the updates of an epoch, as in the released code.
            parameters: to train; all by default.

        Raises:
            TrainingError: a loss is not finite.
        """
        import torch

        from ...ahead import drawn_ahead
        from ...early_stopping import train_until_no_gain
        from .volume_crops import held_out_runs

        c, held = self.config, []
        if updates is None and patients is not None:
            runs, held = held_out_runs(patients, runs, ctx.rng("validation", phase))
        source = draws(runs, phase)
        trained = list(self.net.parameters()) if parameters is None else list(parameters)
        optimiser = make_optimiser(ctx, torch.optim.Adam, trained, lr=c.lr, weight_decay=c.weight_decay, fused=True)
        self.net.train()
        seen: list[torch.Tensor] = []

        def losses_of(batch: Tensors) -> Mapping[str, torch.Tensor]:
            with autocast(ctx.device, ctx.precision):
                return losses(batch)

        def loss_of(batch: Tensors) -> float:
            return float(next(iter(losses_of(batch).values())))

        def held_out(held: HealthySet) -> Draw:
            volumes = held.volumes(self.view)
            return self.next_layers(volumes, ctx, volumes.runs, f"{phase}, held out")

        watched = WATCHED_POINTS * c.epoch_updates if updates is None else updates
        watch = held_out_loss(ctx, watched, [self.net], held_out, loss_of)

        def step(_: int) -> dict[str, torch.Tensor]:
            values = losses_of(draw())
            loss = update(optimiser, next(iter(values.values())))
            if updates is None:
                seen.append(loss)
            return {name: value.detach() for name, value in values.items()}

        if updates is not None:
            with drawn_ahead(source, ctx) as draw:
                self.updates[phase] = run_updates(ctx, updates, step, phase=phase, watch=watch)
            return
        schedule = ctx.keep(torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=c.plateau))
        held_draw = draws(held, f"{phase} validation") if held else None
        count = math.ceil(HELD_OUT_CROPS * len({run.case for run in held}) / c.batch)
        fixed = [held_draw() for _ in range(count)] if held_draw else []

        def validate() -> float:
            if fixed:
                with torch.inference_mode():
                    value = float(np.mean([loss_of(batch) for batch in fixed]))
            else:
                value = float(torch.stack(seen).mean())
            seen.clear()
            schedule.step(value)
            return value

        named = replace(ctx, on_log=lambda i, values: ctx.on_log(i, {f"{phase}/{k}": v for k, v in values.items()}))
        with drawn_ahead(source, ctx) as draw:
            self.updates[phase] = train_until_no_gain(
                named,
                self.net,
                step,
                validate,
                per_epoch=c.epoch_updates,
                updates=c.epochs * c.epoch_updates,
                patience=c.patience,
                criterion="validation" if fixed else "epoch",
                watch=watch,
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
    out = np.subtract(image, mean, dtype=np.float32)
    out /= spread
    out *= roi
    return out


def as_batch(samples: Sequence[Mapping[str, np.ndarray]], device: str) -> Tensors:
    """Stack samples of (z, y, x) arrays into tensors (n, 1, z, y, x)."""
    from ...resident import sent

    return {k: sent(np.stack([s[k] for s in samples]), device)[:, None] for k in samples[0]}
