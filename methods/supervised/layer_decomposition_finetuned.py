"""Layer decomposition, fine-tuned: its network learns the mask of real lesions after the synthetic ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ...common.errors import DataError
from ...datasets.views.volume_stack import SliceRun
from ..card import MethodCard, same
from ..context import FitContext
from ..method import SupervisedMethod
from ..pseudo_anomaly.parts.layer_method import (
    Draw,
    LayerConfig,
    LayerMethod,
    Tensors,
    as_batch,
    organ_statistics,
    standardised,
)
from ..training import batches

if TYPE_CHECKING:
    import torch

    from ...datasets.labelled import LabelledSet
    from ...datasets.views.volume_stack import VolumeStack


@dataclass(frozen=True)
class LayerFinetunedConfig(LayerConfig):
    """Settings of :class:`LayerDecompositionFinetuned`.

    Attributes:
        tuned: what the labels train: the whole network through its mask, or the head of the mask alone.
        tuning_updates: updates on labels where ``updates`` is given, as many by default; else each phase ends when its
            loss stops falling, the second by that on held-out patients.
        positive: share of crops centred on a lesion's voxel, where a case has one.
        least_run: least length of a run of slices without lesion, as a share of a crop, in the first phase.
    """

    tuned: Literal["network", "head"] = "network"
    tuning_updates: int | None = None
    positive: float = 0.5
    least_run: float = 0.25

    profiles: ClassVar = {
        "smoke": {**LayerConfig.profiles["smoke"], "tuning_updates": 3},
        "quick": {**LayerConfig.profiles["quick"], "updates": 130, "tuning_updates": 110},
        "standard": {**LayerConfig.profiles["standard"], "updates": 520, "tuning_updates": 520},
    }


class SparseMasks(Sequence[np.ndarray]):
    """Lesion masks kept as the numbers of their voxels: those of hundreds of scans would fill the memory.

    Args:
        masks: bool (Z, H, W) each.
    """

    def __init__(self, masks: Iterable[np.ndarray]) -> None:
        self._kept = [(mask.shape, np.flatnonzero(mask)) for mask in masks]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, i: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a mask, bool; a fresh array."""
        shape, voxels = self._kept[i]
        mask = np.zeros(shape, bool)
        mask.reshape(-1)[voxels] = True
        return mask


class LayerDecompositionFinetuned(LayerMethod, SupervisedMethod):
    """Learns layers of synthetic lesions on slices without a lesion, then the mask of the labelled lesions."""

    card = MethodCard(
        name="layer-decomposition-finetuned",
        title="Layer decomposition, fine-tuned on labels",
        year=2021,
        supervision="full",
        family="supervised",
        citation="Zhang, Xie, Huang, Zhang, Wang: Self-supervised Tumor Segmentation through Layer Decomposition, 2021",
        reference="arXiv:2109.03230",
        uses="labels",
        figures=(
            ("input", "128³ of MRI, z-scored where not 0", "128³ at 1 mm, z-scored in the organ"),
            same("network", "3D U-Net 64–512, BN of the batch at test, 3 heads"),
            ("loss", "that of layer-decomposition, then n/p", "that of layer-decomposition, then Dice of the mask"),
            (
                "optimiser",
                "Adam 10⁻², decay 3·10⁻⁵, batch 2, then n/p",
                "Adam 10⁻², decay 3·10⁻⁵, batch 2, plateau 10, twice",
            ),
            (
                "length",
                "≤ 500 epochs × 143 updates, patience 40; n/p",
                "≤ 500 epochs × 143 updates, patience 40, twice",
            ),
        ),
        notes="A top line. The first phase uses the slices without a lesion of the labelled training cases, and takes "
        "textures from them. The paper does not say how the second phase is trained: rates and patience are those of "
        "the first, but held-out patients stop it, since real lesions, unlike synthetic ones, can be learned by heart.",
    )
    Config = LayerFinetunedConfig

    def fit(self, labelled: LabelledSet, ctx: FitContext) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Train on synthetic lesions in healthy slices, then on the labelled lesions."""
        stack = labelled.cases.volumes(self.view)
        lesions = SparseMasks(labelled.lesion_volume(i, self.view) for i in range(len(labelled)))
        patients = [part.case.patient for part in labelled.parts]
        self.pretrain(stack, self.healthy_runs(stack, lesions), ctx)
        self.tune(stack, lesions, patients, ctx)

    def healthy_runs(self, stack: VolumeStack, lesions: Sequence[np.ndarray]) -> list[SliceRun]:
        """Return the runs of slices without a lesion, the short ones only where there are no others.

        Raises:
            DataError: every slice shows a lesion.
        """
        c = self.config
        runs = []
        for run in stack.runs:
            free = ~lesions[run.case][run.start : run.stop].any(axis=(1, 2))
            edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]]).astype(np.int8)))
            pairs = zip(edges[::2], edges[1::2], strict=True)
            runs += [SliceRun(run.case, run.start + int(a), run.start + int(b)) for a, b in pairs]
        if not runs:
            raise DataError("every slice of the labelled cases shows a lesion; add cases with lesion-free slices")
        return [run for run in runs if len(run) >= c.least_run * c.crop[0]] or runs

    def tune(self, stack: VolumeStack, lesions: Sequence[np.ndarray], patients: Sequence[str], ctx: FitContext) -> None:
        """Train the mask on labels with the Dice loss."""
        c = self.config
        self.train(
            ctx,
            "fine-tuning",
            stack.runs,
            partial(self.next_labelled, stack, lesions, ctx),
            self.mask_losses,
            updates=c.updates if c.updates is None or c.tuning_updates is None else c.tuning_updates,
            patients=patients,
            parameters=list(self.net.mask.parameters()) if c.tuned == "head" else None,
        )

    def next_labelled(
        self, stack: VolumeStack, lesions: Sequence[np.ndarray], ctx: FitContext, runs: Sequence[SliceRun], phase: str
    ) -> Draw:
        """Return what yields batches ``image`` and ``mask``, float32 (n, 1, Z, Y, X)."""
        from ..pseudo_anomaly.parts.volume_crops import VolumeCrops
        from ..synthesis.volume_fields import random_voxels

        c = self.config
        crops = VolumeCrops(stack, c.crop, runs)
        statistics = {case: organ_statistics(stack.image(case), stack.roi(case)) for case in crops.cases}
        order, places = batches(ctx, len(crops.cases), c.batch, "order", phase), ctx.rng("crops", phase)

        def one(case: int) -> dict[str, np.ndarray]:
            run = crops.run_of(case, places)
            where, lesion = crops.roi(run), lesions[run.case]
            inside = lesion[run.start : run.stop] & where
            if places.random() < c.positive and inside.any():
                where = inside
            crop = crops.around(run, random_voxels(where, places.random(1))[0])
            mask = crops.cut(lesion, crop) & crop.roi
            return {"image": standardised(crop.image, crop.roi, statistics[run.case]), "mask": mask.astype(np.float32)}

        return lambda: as_batch([one(int(case)) for case in next(order)], ctx.device)

    def mask_losses(self, batch: Tensors) -> Mapping[str, torch.Tensor]:
        from ..losses import soft_dice_loss

        return {"dice": soft_dice_loss(self.net(batch["image"])[2], batch["mask"])}
