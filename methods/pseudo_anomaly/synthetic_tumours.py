"""SyntheticTumours: a 3D U-Net learns to segment tumours that a generator puts into healthy organs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...datasets.case import Spacing
from ...datasets.views.volume_view import VolumeView
from ..card import MethodCard, same
from ..config import Config, ConfigError
from ..context import FitContext
from ..method import Method
from ..schedules import warm_cosine
from ..training import autocast, batches, make_optimiser, run_updates, update
from ..watching import held_out_loss

if TYPE_CHECKING:
    import torch

    from ...datasets.healthy import HealthySet
    from .parts.volume_crops import VolumeCrops

Batch = tuple["torch.Tensor", ...]


@dataclass(frozen=True)
class SyntheticTumoursConfig(Config):
    """Settings of :class:`SyntheticTumours`.

    Attributes:
        size, spacing: the grid of the volumes: in-plane side in pixels, voxel size in mm (z, y, x).
        window: HU range mapped to [0, 1] after tumours were put in.
        crop: voxels of a training crop and of a window at test (z, y, x), square in-plane.
        tumours: ``darker`` subtracts the difference (liver), ``brighter`` adds it (lung).
        difference: HU of a tumour at a texture of 1, whose mean is about a half.
        probability: chance that an organ gets tumours.
        kinds: size classes, one is drawn per organ.
        radius_scale: factor on the radii.
        positive: share of crops centred on the organ, tumours included; the others are centred outside it, in its box.
        flip, rotate: chance of a flip of each axis, and of an in-plane turn by a multiple of 90°.
        intensity, intensity_p: largest relative scaling and largest shift of the grey values, and their chance.
        channels, residual_units: of the 3D U-Net.
        epochs, epoch_updates: length of the training; an epoch of the paper shows its 116 scans in batches of 2.
        updates: overrides both.
        warmup: epochs of linear warm-up, of ``epochs`` in all; then a cosine to 0.
        overlap: of the windows at test; 0.5 to 0.75 in the paper.
    """

    size: int = 352
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    window: tuple[float, float] = (-21.0, 189.0)
    crop: tuple[int, int, int] = (96, 96, 96)
    tumours: Literal["darker", "brighter"] = "darker"
    difference: tuple[float, float] = (65.0, 145.0)
    probability: float = 0.9
    kinds: tuple[str, ...] = ("tiny", "small", "medium", "large", "mix")
    radius_scale: float = 1.0
    positive: float = 0.5
    flip: float = 0.2
    rotate: float = 0.2
    intensity: float = 0.1
    intensity_p: float = 0.15
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    residual_units: int = 2
    batch: int = 2
    lr: float = 4e-4
    weight_decay: float = 1e-5
    epochs: int = 4000
    epoch_updates: int = 58
    updates: int | None = None
    warmup: int = 100
    overlap: float = field(default=0.5, metadata={"stage": "score"})

    profiles: ClassVar = {
        "smoke": {
            "size": 32,
            "spacing": (8.0, 10.0, 10.0),
            "crop": (8, 16, 16),
            "channels": (4, 8),
            "residual_units": 1,
            "updates": 3,
        },
        "quick": {
            "size": 64,
            "spacing": (5.0, 3.5, 3.5),
            "crop": (16, 48, 48),
            "channels": (8, 16, 32),
            "residual_units": 0,
            "lr": 1e-2,
            "updates": 300,
        },
        "standard": {
            "size": 176,
            "spacing": (2.0, 2.0, 2.0),
            "crop": (48, 48, 48),
            "channels": (8, 16, 32, 64, 128),
            "lr": 1e-3,
            "updates": 3000,
        },
    }
    anatomies: ClassVar = {"lung": {"window": (-800.0, 100.0), "tumours": "brighter", "difference": (300.0, 900.0)}}

    def __post_init__(self) -> None:
        if self.crop[1] != self.crop[2]:
            raise ConfigError(f"crop={self.crop}: its last two sides must be equal, crops are turned in-plane")


class SyntheticTumours(Method):
    """Learns to segment synthetic tumours; its map is the softmax probability of the tumour class."""

    card = MethodCard(
        name="synthetic-tumors",
        title="Label-free tumour segmentation with synthetic tumours",
        year=2023,
        family="pseudo-anomaly",
        citation="Hu, Chen, Xiao, Sun, Chen, Yuille, Zhou: Label-Free Liver Tumor Segmentation, CVPR 2023",
        reference="arXiv:2303.14869",
        anatomy=("liver", "lung"),
        figures=(
            (
                "input",
                "96³ at 1 mm, [−21, 189] HU, whole CT; 3 classes",
                "96³ at 1 mm, [−21, 189] HU, masked to the organ; 2 classes",
            ),
            ("network", "MONAI U-Net 16–256, 2 residual units, or Swin UNETR", "MONAI U-Net 16–256, 2 residual units"),
            same("loss", "Dice + cross-entropy"),
            same("optimiser", "AdamW 4·10⁻⁴, decay 10⁻⁵, batch 2"),
            same("length", "4,000 epochs × 58 updates, warm-up of 100, then cosine"),
        ),
        notes="Learns from the healthy training scans alone: the healthy LiTS scans of the published training list are "
        "never used. Vessel collisions, mass effect and capsules of the paper are left out, as in the published "
        "training. Lesions of the lung are added instead of subtracted, with a difference of our own. One texture is "
        "drawn per crop instead of ten that are made beforehand. Crops centred outside the organ stay in its bounding "
        "box: farther away a masked crop is empty. Sizes, shapes and contrast are those of tumours of the "
        "liver; for kidney and pancreas nothing is published for this synthesis.",
    )
    Config = SyntheticTumoursConfig
    tuned: ClassVar = {"lr": (1e-4, 2e-2, "log"), "probability": (0.5, 1.0), "positive": (0.3, 0.9)}
    requires = ("monai",)
    native_threshold = 0.5

    @property
    def view(self) -> VolumeView:
        """Wider than the window by the largest change: tumours come before the clip, as in the published training."""
        c = self.config
        low, high = c.window
        most = max(c.difference)
        window = (low, high + most) if c.tumours == "darker" else (low - most, high)
        return VolumeView(size=c.size, spacing=c.spacing, window=window)

    def windowed(self, hu: np.ndarray, roi: np.ndarray) -> np.ndarray:
        """Map the window to [0, 1] and clip, inside the ROI; 0 elsewhere, float32."""
        low, high = self.config.window
        levels = np.clip((hu - np.float32(low)) / np.float32(high - low), 0, 1)
        return np.multiply(levels, roi, dtype=np.float32)

    def hounsfield(self, array: np.ndarray) -> np.ndarray:
        """Return the HU of grey values of the view, float32."""
        low, high = self.view.window
        return np.asarray(array, np.float32) * np.float32(high - low) + np.float32(low)

    def build(self) -> None:
        from ..nets.unets import residual_unet

        self.net = residual_unet(self.config.channels, self.config.residual_units)
        self.updates = 0

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Train with Dice and cross-entropy on crops with tumours made on the way."""
        import torch
        from monai.losses.dice import DiceCELoss

        from ..ahead import drawn_ahead
        from .parts.volume_crops import VolumeCrops

        c = self.config
        crops = VolumeCrops(healthy.volumes(self.view), c.crop)
        wanted = c.epochs * c.epoch_updates if c.updates is None else c.updates
        dice_ce = DiceCELoss(to_onehot_y=True, softmax=True)
        optimiser = make_optimiser(
            ctx, torch.optim.AdamW, self.net.parameters(), lr=c.lr, weight_decay=c.weight_decay, fused=True
        )
        total = ctx.updates(wanted)
        warm = round(c.warmup / c.epochs * total)
        rates = ctx.keep(torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: warm_cosine(i, total, warm)))
        self.net.train()

        def loss_of(batch: Batch) -> torch.Tensor:
            _clean, images, masks = batch
            with autocast(ctx.device, ctx.precision):
                logits = self.net(images[:, None])
            return dice_ce(logits.float(), masks[:, None])

        def step(_: int) -> dict[str, torch.Tensor]:
            loss = update(optimiser, loss_of(draw()))
            rates.step()
            return {"dice + ce": loss}

        def held_out(held: HealthySet) -> Callable[[], Batch]:
            return self.batch_source(VolumeCrops(held.volumes(self.view), c.crop), ctx, "held out")

        watch = held_out_loss(ctx, wanted, [self.net], held_out, loss_of)
        with drawn_ahead(self.batch_source(crops, ctx), ctx) as draw:
            self.updates = run_updates(ctx, wanted, step, watch=watch)

    def preview(self, healthy: HealthySet, ctx: FitContext) -> dict[str, np.ndarray]:
        from .parts.volume_crops import VolumeCrops

        c = self.config
        clean, images, masks = self.batch_source(VolumeCrops(healthy.volumes(self.view), c.crop), ctx)()
        middle = c.crop[0] // 2
        return {
            "healthy": clean[:, middle].cpu().numpy(),
            "with synthetic tumours": images[:, middle].cpu().numpy(),
            "target": masks[:, middle].float().cpu().numpy(),
        }

    def batch_source(self, crops: VolumeCrops, ctx: FitContext, *phase: str) -> Callable[[], Batch]:
        """Return what yields batches: clean crops, crops with tumours, float32 (n, D, H, W), and masks, bool."""
        from ..resident import sent
        from ..synthesis.tumours import TumourGenerator, TumourRecipe

        c = self.config
        recipe = TumourRecipe(
            probability=c.probability,
            kinds=c.kinds,
            radius_scale=c.radius_scale,
            difference=c.difference,
            sign=-1 if c.tumours == "darker" else 1,
        )
        generator = TumourGenerator(recipe, ctx.rng("synthesis", *phase))
        order = batches(ctx, len(crops.cases), c.batch, "order", *phase)
        places, changes = ctx.rng("crops", *phase), ctx.rng("change", *phase)

        def one(case: int) -> tuple[np.ndarray, ...]:
            run = crops.run_of(case, places)
            roi, spacing = crops.roi(run), crops.stack.spacing(run.case)
            tumours = generator.draw(roi, spacing)
            crop = crops.around(run, crops.centre(run, places, inside=places.random() < c.positive))
            origin = crop.origin - np.array([run.start, 0, 0])
            hu = self.hounsfield(crop.image)
            changed, mask = generator.place(hu, crop.roi, tumours, origin, spacing)
            clean, image = self.windowed(hu, crop.roi), self.windowed(changed, crop.roi)
            return clean, *self._change(image, crop.roi, mask, changes)

        def draw() -> Batch:
            samples = [one(int(case)) for case in next(order)]
            return tuple(sent(np.stack(part), ctx.device) for part in zip(*samples, strict=True))

        return draw

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the softmax probability of tumour; windows slide over the organ."""
        from .parts.volume_crops import slide

        c, image = self.config, self.windowed(self.hounsfield(array), roi)
        self.net.eval()
        return slide(
            lambda x: self.net(x).float().softmax(1)[:, 1:], image, roi, c.crop, overlap=c.overlap, device=self.device
        )

    def _change(
        self, image: np.ndarray, roi: np.ndarray, mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Flip and turn a crop, then scale and shift its grey values inside the ROI."""
        c = self.config
        axes = tuple(int(axis) for axis in np.flatnonzero(rng.random(3) < c.flip))
        turns = int(rng.integers(1, 4)) if rng.random() < c.rotate else 0
        image, roi, mask = (np.rot90(np.flip(a, axes), turns, (1, 2)) for a in (image, roi, mask))
        factor = 1 + c.intensity * rng.uniform(-1, 1) if rng.random() < c.intensity_p else 1.0
        offset = c.intensity * rng.uniform(-1, 1) if rng.random() < c.intensity_p else 0.0
        changed = np.where(roi, image * np.float32(factor) + np.float32(offset), image)
        return np.ascontiguousarray(changed), np.ascontiguousarray(mask)
