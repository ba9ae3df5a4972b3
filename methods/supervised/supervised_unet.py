"""A plain 2D U-Net trained on lesion masks: what labels are worth on the same data, under the same scorer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...datasets.case import Spacing
from ..card import MethodCard
from ..config import SOFT_ORGANS, SliceConfig
from ..context import FitContext
from ..method import SupervisedMethod
from ..training import as_input, autocast, batches, make_optimiser, predict, run_updates, update

if TYPE_CHECKING:
    import torch

    from ...datasets.labelled import LabelledSet
    from ..roi_crop import SquareCrops

SCORE_BATCH = 32
MIRRORED = ((), (3,), (2,), (2, 3))  # the first two keep the patient on the back


@dataclass(frozen=True)
class SupervisedUNetConfig(SliceConfig):
    """Settings of :class:`SupervisedUNet`.

    Attributes:
        window: wide ones drown the faint contrast of lesions.
        crop: side in pixels of the square around the organ that the network sees of a slice; None for the whole slice.
        channels: widths of the levels of MONAI's ``UNet``.
        residual_units: convolutions per residual block.
        lesion_share: least share of slices with a lesion in a batch, where there is any.
        turns: mirror slices at random along both axes and turn them by quarters; otherwise only left to right, as for
            the lung, where density depends on which side lies below.
        contrast, brightness: largest relative change of the grey values' distance from the organ's mean, and largest
            shift, both at random.
        zoom: largest relative change of the crops' side at random.
        mirror: average over mirrored copies at test.
        lr_power: the learning rate falls as (1 − done / updates) to this power.
    """

    window: tuple[float, float] = (-21.0, 189.0)
    crop: int | None = None
    channels: tuple[int, ...] = (32, 64, 128, 256, 512)
    residual_units: int = 2
    batch: int = 16
    lr: float = 1e-3
    lr_power: float = 0.9
    updates: int = 20000
    lesion_share: float = 1 / 3
    turns: bool = True
    contrast: float = 0.3
    brightness: float = 0.15
    zoom: float = 0.2
    mirror: bool = field(default=True, metadata={"stage": "score"})

    anatomies: ClassVar = {
        "lung": {"window": (-1000.0, 100.0), "turns": False, "contrast": 0.2, "brightness": 0.06},
        **SOFT_ORGANS,
    }
    profiles: ClassVar = {
        "smoke": {"size": 32, "channels": (4, 8), "residual_units": 0, "batch": 4, "updates": 4},
        "quick": {
            "size": 96,
            "crop": 48,
            "channels": (8, 16, 32),
            "residual_units": 1,
            "batch": 8,
            "lr": 3e-3,
            "updates": 1200,
        },
        "standard": {"size": 192, "crop": 96, "channels": (16, 32, 64, 128), "batch": 8, "updates": 2500},
    }


class SupervisedUNet(SupervisedMethod):
    """Segments lesions slice by slice, cross-fitted over the patients of the test set."""

    card = MethodCard(
        name="supervised-unet",
        title="Supervised 2D U-Net",
        year=2019,
        supervision="full",
        family="supervised",
        citation="Kerfoot et al.: Left-Ventricle Quantification Using Residual U-Net, STACOM 2018, LNCS 11395 (the "
        "network, as MONAI has it)",
        reference="doi:10.1007/978-3-030-12029-0_40",
        uses="labels",
        slice_score="max",
        figures=(
            ("input", "n/p", "256², masked"),
            ("network", "MONAI's residual U-Net, channels free", "the same in 2D, 32–512, 2 residual units"),
            ("loss", "n/p", "Dice + cross-entropy, 1:1"),
            ("optimiser", "n/p", "Adam 10⁻³, polynomial decay 0.9, batch 16"),
            ("length", "n/p", "20,000 updates"),
        ),
        notes="A top line, not an upper bound: a plain network without tuning, so that its distance to the "
        "unsupervised methods says what the labels of this very set are worth. Its settings are this benchmark's own. "
        "Loss and masks end at the region of interest, as everywhere in the tables.",
    )
    Config = SupervisedUNetConfig
    tuned: ClassVar = {"lr": (1e-4, 1e-2, "log"), "lesion_share": (0.0, 0.8)}
    requires = ("monai",)
    native_threshold = 0.5

    def build(self) -> None:
        from ..nets.unets import residual_unet

        self.net = residual_unet(self.config.channels, self.config.residual_units, dims=2)
        self.updates = 0

    def fit(self, labelled: LabelledSet, ctx: FitContext) -> None:
        """Train on slices of the region of interest: Dice + cross-entropy, 1:1."""
        import torch

        from ..losses import dice_and_cross_entropy

        c = self.config
        draw = self.batch_source(labelled, ctx)
        optimiser = make_optimiser(ctx, torch.optim.Adam, self.net.parameters(), lr=c.lr)
        schedule = ctx.keep(
            torch.optim.lr_scheduler.PolynomialLR(optimiser, max(1, ctx.updates(c.updates)), c.lr_power)
        )
        self.net.train()

        def step(_: int) -> dict[str, torch.Tensor]:
            image, lesion, roi = draw()
            with autocast(ctx.device, ctx.precision):
                logits = self.net(image)
            dice, entropy = dice_and_cross_entropy(logits, lesion, roi)
            loss = dice + entropy
            update(optimiser, loss)
            schedule.step()
            return {"loss": loss.detach(), "dice": dice.detach(), "ce": entropy.detach()}

        self.updates = run_updates(ctx, c.updates, step)

    def batch_source(self, labelled: LabelledSet, ctx: FitContext) -> Callable[[], tuple[torch.Tensor, ...]]:
        """Return what yields batches: slices float32 (n, 1, H, W), lesions and regions of interest bool (n, H, W)."""
        from ..resident import sent
        from ..roi_crop import SquareCrops

        c = self.config
        stack, lesions = labelled.cases.array(self.view), labelled.lesions(self.view)
        positive = np.flatnonzero(lesions.positive)
        wanted = math.ceil(c.lesion_share * c.batch) if len(positive) else 0
        any_slice = batches(ctx, len(stack), c.batch - wanted, "slices")
        with_lesion = batches(ctx, len(positive), wanted, "lesions") if wanted else None
        turns, looks = ctx.rng("turns"), ctx.rng("looks")

        def draw() -> tuple[torch.Tensor, ...]:
            chosen = next(any_slice)
            if with_lesion is not None:
                chosen = np.concatenate([chosen, positive[next(with_lesion)]])
            images, rois = stack.take(chosen)
            arrays = [images, lesions.take(chosen), rois]
            turn(arrays, turns, quarters=c.turns)
            image = as_input(arrays[0], ctx.device)
            lesion, roi = (sent(array, ctx.device)[:, None] for array in arrays[1:])
            random = sent(looks.uniform(-1, 1, (3, len(chosen))).astype(np.float32), ctx.device)
            if c.crop is not None:
                crops = zoomed(SquareCrops.around(roi[:, 0], c.crop), 1 + c.zoom * random[2])
                image = crops.take(image)
                lesion, roi = (crops.take(mask.float()) >= 0.5 for mask in (lesion, roi))
            factor, shift = (v.reshape(-1, 1, 1, 1) for v in (1 + c.contrast * random[0], c.brightness * random[1]))
            return relit(image, roi, factor, shift), lesion[:, 0], roi[:, 0]

        return draw

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the softmax probability of lesion; 0 outside the squares that the network sees."""
        import torch

        from ..roi_crop import SquareCrops

        c = self.config
        self.net.eval()
        if c.crop is None:
            return predict(self._probability, array, batch=SCORE_BATCH, device=self.device)
        out = np.empty(array.shape, np.float32)
        with torch.inference_mode():
            for start in range(0, len(array), SCORE_BATCH):
                part = slice(start, start + SCORE_BATCH)
                crops = SquareCrops.around(torch.from_numpy(roi[part]).to(self.device), c.crop)
                found = self._probability(crops.take(as_input(array[part], self.device)))
                out[part] = crops.put_back(found).cpu().numpy()
        return out

    def _probability(self, image: torch.Tensor) -> torch.Tensor:
        import torch

        found = torch.zeros_like(image[:, 0])
        copies = MIRRORED[: (4 if self.config.turns else 2) if self.config.mirror else 1]
        for axes in copies:
            found += torch.softmax(self.net(image.flip(axes)).float(), dim=1)[:, 1:].flip(axes)[:, 0]
        return found / len(copies)


def turn(arrays: list[np.ndarray], rng: np.random.Generator, *, quarters: bool = True) -> None:
    """Mirror slices (n, H, H) left to right and turn them by quarters, at random, all arrays alike, in place."""
    draws = rng.integers(8 if quarters else 2, size=len(arrays[0]))
    for array in arrays:
        for i, number in enumerate(draws):
            mirrored = array[i, :, ::-1] if number & 1 else array[i]
            array[i] = np.rot90(mirrored, number >> 1).copy()


def zoomed(crops: SquareCrops, factor: torch.Tensor) -> SquareCrops:
    """Return squares of other sides (factor (n,)) about the same centres."""
    middle, side = crops.side / 2, crops.side * factor
    return replace(crops, top=crops.top + middle - side / 2, left=crops.left + middle - side / 2, side=side)


def relit(image: torch.Tensor, roi: torch.Tensor, factor: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Change contrast and brightness about the organ's mean, within [0, 1]; 0 outside the organ, (n, 1, H, W) all."""
    inside = roi.float()
    mean = (image * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)
    return ((image - mean) * factor + mean + shift).clamp(0, 1) * inside
