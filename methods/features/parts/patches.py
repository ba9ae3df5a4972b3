"""What the methods on patch features share: a transformer or a convolutional backbone, organ patches, the way back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ....common.errors import DataError
from ....datasets.case import Spacing
from ....datasets.views.slice_view import View
from ...config import ConfigError
from ...context import FitContext, TrainingError
from ...nets import weights as sources
from ...training import as_input, autocast
from .backbone import LITE0, FeatureConfig, FeatureMethod, smooth, upsample

if TYPE_CHECKING:
    import torch

    from ....datasets.healthy import SliceStack
    from ...nets.timm_nets import GreyBackbone

DINO2_SMALL, TINY = "vit_small_patch14_dinov2.lvd142m", "test_vit"
BOUNDING_BOX_MM = 1.0
"""A field of view that grows to the organ's bounding box, whatever the organ."""
FIXED_DRAW = 0
"""Seed of random weights where a method has no other use for a seed."""


@dataclass(frozen=True)
class PatchConfig(FeatureConfig):
    """Settings that the methods on patch features have.

    Attributes:
        size: a multiple of the patch of the backbone.
        backbone: a vision transformer of timm, or a convolutional network.
        weights: ``pretrained`` (of the hub or the package), ``random``, or a path (:func:`.weights.find`).
        stages: of a convolutional backbone; their maps are brought to the finest grid and lie side by side.
        blocks: of a transformer, counted from 0; the features are the mean of their outputs.
        norm: send these through the last LayerNorm of the transformer.
        unit: divide every feature by its length.
        crop: ``roi`` fills the view with the organ's bounding box (or with ``field_of_view`` where that is larger);
            ``frame`` shows slices whole, as the references do.
        roi_only: learn and score patches of the organ alone; off takes the whole frame, as the references do.
        coverage: share of a patch that the organ has to fill.
        max_patches: most patches that are learned from; of more, every n-th.
        max_gib: most memory that these may take; more is refused before anything is extracted.
    """

    size: int = 448
    backbone: str = DINO2_SMALL
    weights: str = sources.PRETRAINED
    stages: tuple[int, ...] = (2, 3)
    blocks: tuple[int, ...] = (11,)
    norm: bool = True
    unit: bool = True
    crop: Literal["roi", "frame"] = "roi"
    roi_only: bool = True
    coverage: float = 0.5
    max_patches: int = 1_000_000
    max_gib: float = 8.0

    profiles: ClassVar = {
        "smoke": {
            **{"size": 64, "backbone": TINY, "weights": sources.RANDOM, "blocks": (1,)},
            **{"batch": 8, "max_patches": 500, "crop": "frame", "sigma": 1.0},
        },
        "quick": {"size": 128, "backbone": LITE0, "batch": 16, "max_patches": 20_000, "sigma": 2.0},
        "standard": {"size": 128, "backbone": LITE0, "max_patches": 40_000, "sigma": 2.0},
    }

    def __post_init__(self) -> None:
        named = re.search(r"^vit_.*_patch(\d+)", self.backbone)
        if named and self.size % int(named[1]):
            patch, low = int(named[1]), self.size // int(named[1])
            near = " or ".join(str(n * patch) for n in (low, low + 1) if n)
            raise ConfigError(f"size={self.size}: {self.backbone} has patches of {patch} pixels; use {near}")
        if not 0 < self.coverage <= 1:
            raise ConfigError(f"coverage={self.coverage:g}: use more than 0 and at most 1")


class PatchMethod(FeatureMethod):
    """Compares the features of single patches, wherever in the organ they lie, with those of healthy ones.

    Attributes:
        keeps: whether training holds all patches at once, so that ``max_gib`` bounds them.
        found: patches of the healthy scans that the organ fills.
        extracted: those of them that were learned from.
    """

    Config = PatchConfig
    keeps: ClassVar[bool] = True

    @property
    def view(self) -> View:
        c = self.config
        if c.crop == "frame":
            return replace(super().view, field_of_view=None)
        return replace(super().view, field_of_view=c.field_of_view or BOUNDING_BOX_MM)

    @property
    def width(self) -> int:
        """Components of a feature."""
        return sum(self.backbone.channels)

    def build(self) -> None:
        """Create the backbone, frozen; random weights do not follow the seed where the card says ``deterministic``.

        Raises:
            WeightsError: there are no weights, or they do not fit.
            ConfigError: the backbone has no such blocks, or its patches do not fill the view.
        """
        self.found = self.extracted = 0
        if self.card.deterministic:
            self._create_backbone(FIXED_DRAW)
        else:
            super().build()

    def _untrained_backbone(self) -> GreyBackbone:
        from ...nets.timm_nets import TimmFeatures
        from ...nets.vit import ViTFeatures, is_transformer

        c = self.config
        if is_transformer(c.backbone):
            return ViTFeatures(c.backbone, c.blocks, size=c.size, norm=c.norm, average=True)
        return TimmFeatures(c.backbone, c.stages)

    def grid(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of all patches of images (n, 1, H, W), float32 (n, h, w, width)."""
        import torch
        from torch.nn import functional

        first, *rest = self.features(images)
        size = first.shape[2:]
        rest = [functional.interpolate(f, size=size, mode="bilinear", align_corners=False) for f in rest]
        found = torch.cat([first, *rest], dim=1).permute(0, 2, 3, 1)
        return functional.normalize(found, dim=3) if self.config.unit else found.contiguous()

    def cells(self, roi: torch.Tensor, *, at_least_one: bool) -> torch.Tensor:
        """Return the patches of regions of interest (n, H, W) that count, bool (n, h, w).

        Args:
            at_least_one: in a slice where the organ fills no patch, those that it touches count.
        """
        import torch
        from torch.nn import functional

        share = functional.avg_pool2d(roi.float()[:, None], self.backbone.strides[0], ceil_mode=True)[:, 0]
        if not self.config.roi_only:
            return torch.ones_like(share, dtype=torch.bool)
        enough = share >= self.config.coverage
        if at_least_one:
            enough = torch.where(enough.any(dim=(1, 2), keepdim=True), enough, share > 0)
        return enough

    def batches_of(self, stack: SliceStack) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Return the slices of a stack, batch by batch, and which of their patches are learned from (n, h, w).

        They are at most ``max_patches`` of the stack: all, or every n-th.

        Raises:
            TrainingError: the organ fills no patch.
            DataError: they would need more memory than ``max_gib``.
        """
        import torch

        c = self.config
        parts = [range(i, min(i + c.batch, len(stack))) for i in range(0, len(stack), c.batch)]
        masks = [self.cells(torch.from_numpy(stack.take(part)[1]), at_least_one=False) for part in parts]
        self.found = sum(int(mask.sum()) for mask in masks)
        if self.found == 0:
            raise TrainingError(
                f"{self.card.name}: the organ fills {c.coverage:.0%} of no patch in {len(stack)} slices; give healthy "
                "scans with a region of interest, or lower coverage"
            )
        self.extracted = min(self.found, c.max_patches)
        if self.keeps and (need := 4 * self.extracted * self.width / 2**30) > c.max_gib:
            raise DataError(
                f"{self.card.name}: {self.extracted} patches of {self.width} components need {need:.1f} GiB, max_gib "
                f"is {c.max_gib:g}; lower max_patches (now {c.max_patches}) or raise max_gib"
            )
        before = 0
        for part, mask in zip(parts, masks, strict=True):
            count = int(mask.sum())
            # Every n-th, by whole numbers, so that no seed decides which.
            number = torch.arange(before, before + count)
            taken = (number + 1) * self.extracted // self.found > number * self.extracted // self.found
            mask[mask.clone()] = taken
            before += count
            yield stack.take(part)[0], mask

    def steps(self, stack: SliceStack) -> int:
        """Return how many batches :meth:`batches_of` gives."""
        return math.ceil(len(stack) / self.config.batch)

    def patches(self, images: np.ndarray, cells: torch.Tensor, ctx: FitContext) -> torch.Tensor:
        """Return the features of chosen patches of slices, float32 (patches, width), on the device."""
        import torch

        if not cells.any():
            return torch.empty(0, self.width, device=ctx.device)
        self.backbone.eval()
        with torch.no_grad(), autocast(ctx.device, ctx.precision):
            found = self.grid(as_input(images, ctx.device))
        return found[cells.to(ctx.device)]

    def provenance(self) -> dict[str, str]:
        return {**super().provenance(), "patches": f"{self.extracted} of {self.found} extracted"}

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Score the patches of the organ; what they do not cover has the score of the nearest of them."""
        import torch

        c = self.config
        self.backbone.eval()
        out = np.empty(array.shape, np.float32)
        with torch.inference_mode():
            for start in range(0, len(array), c.batch):
                part = slice(start, start + c.batch)
                cells = self.cells(torch.from_numpy(np.ascontiguousarray(roi[part])).to(self.device), at_least_one=True)
                found = self.grid(as_input(array[part], self.device))
                scores = torch.zeros(cells.shape, device=self.device)
                with torch.autocast(self.device.split(":")[0], enabled=False):
                    if cells.any():
                        scores[cells] = self.distances(found[cells])
                    out[part] = self.smoothed(upsample(spread(scores, cells), c.size)).cpu().numpy()
        return out

    def smoothed(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the enlarged maps (n, H, W) smoothed."""
        return smooth(maps, self.config.sigma)

    def distances(self, features: torch.Tensor) -> torch.Tensor:
        """Return how anomalous each of the features (patches, width) is, float32 (patches,)."""
        raise TypeError(f"{type(self).__name__} must implement distances(features)")


def spread(scores: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Carry the scores of known patches outwards, ring by ring: each of a ring gets the mean of its known neighbours.

    Enlarging and smoothing then mix no value into the organ that nobody has computed.

    Args:
        scores: (n, h, w).
        known: bool, same shape; an image without any keeps its scores.
    """
    import torch
    from torch.nn import functional

    def around(values: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(values[:, None], 3, stride=1, padding=1, divisor_override=1)[:, 0]

    for _ in range(max(scores.shape[1:])):
        if known.all():
            break
        count = around(known.float())
        ring = (count > 0) & ~known
        mean = around(torch.where(known, scores, 0.0)) / count.clamp(min=1)
        scores, known = torch.where(ring, mean, scores), known | ring
    return scores
