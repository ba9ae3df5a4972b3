"""Patches as PatchCore sees them: pooled neighbourhoods of a backbone's maps, which of them show the organ, a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....datasets.case import Spacing
from ...training import as_input, batches
from .backbone import FeatureConfig, FeatureMethod, smooth, upsample

if TYPE_CHECKING:
    import torch

    from ....datasets.healthy import SliceStack
    from ...context import FitContext


@dataclass(frozen=True)
class PooledPatchConfig(FeatureConfig):
    """Settings that methods on patches have.

    Attributes:
        dims: components of a patch. The neighbourhood of a position, channels × pool², is pooled to so many at every
            stage, and the stages together once more, as PatchCore's released code does.
        pool: side of the neighbourhood of a position.
        organ_only: patches outside the organ are all alike, and no score is asked for there; off learns them too.
    """

    backbone: str = "wide_resnet50_2.tv_in1k"
    stages: tuple[int, ...] = (2, 3)
    dims: int = 1024
    pool: int = 3
    organ_only: bool = True


class PooledPatchMethod(FeatureMethod):
    """Scores every patch by its features; the map is these scores, enlarged and smoothed."""

    Config = PooledPatchConfig

    @property
    def background(self) -> float:
        """The score of patches that touch neither the organ nor a patch that does."""
        return 0.0

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return patch features, float32 (n, positions, dims), on the grid of the finest stage."""
        c = self.config
        return patch_features(self.features(images), c.pool, c.dims)

    def patch_scores(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the scores (m,) of patch features (m, dims)."""
        raise TypeError(f"{type(self).__name__} must implement patch_scores(vectors)")

    def score_view(self, array: np.ndarray, roi: np.ndarray, spacing: Spacing) -> np.ndarray:
        """Return the smoothed scores of the patches that touch the organ or its neighbourhood."""
        import torch

        c = self.config
        for network in (v for v in vars(self).values() if hasattr(v, "eval")):
            network.eval()
        out = np.empty(array.shape, np.float32)
        with torch.inference_mode():
            for start in range(0, len(array), c.batch):
                part = slice(start, start + c.batch)
                cells = torch.from_numpy(self._cells(roi[part])).to(self.device)
                maps = self._scored(as_input(array[part], self.device), cells)
                out[part] = smooth(maps, c.sigma).cpu().numpy()
        return out

    def _scored(self, images: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        import torch

        vectors = self.embed(images)
        scores = torch.full(cells.shape, self.background, device=images.device)
        with torch.autocast(images.device.type, enabled=False):
            scores[cells] = self.patch_scores(vectors[cells.flatten(1)])
        return upsample(scores, self.config.size)

    def _cells(self, roi: np.ndarray) -> np.ndarray:
        """Return the patches (n, side, side) that touch the organ, or a patch that does: enlarging reads those too."""
        import torch
        from torch.nn import functional

        if not self.config.organ_only:
            return np.ones((len(roi), self.side, self.side), bool)
        stride = self.backbone.strides[0]
        touched = torch.from_numpy(np.ascontiguousarray(roi)).float()[:, None]
        touched = functional.max_pool2d(touched, stride, ceil_mode=True)
        return (functional.max_pool2d(touched, 3, stride=1, padding=1)[:, 0] > 0).numpy()


def patch_features(stages: Sequence[torch.Tensor], pool: int, dims: int) -> torch.Tensor:
    """Pool the neighbourhoods of every stage, put them on the grid of the finest one, and pool the stages together.

    Args:
        stages: maps (n, channels, h, w), finest first.
        pool: side of a neighbourhood, odd.

    Returns:
        float32 (n, positions, dims).
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool1d, interpolate

    maps = [pooled_neighbourhoods(f, pool, dims) for f in stages]
    # The released code enlarges before it pools: both are linear, along other axes, and pooled maps are smaller.
    size = maps[0].shape[2:]
    rest = [interpolate(f, size=size, mode="bilinear", align_corners=False) for f in maps[1:]]
    return adaptive_avg_pool1d(torch.cat([maps[0], *rest], dim=1).flatten(2).transpose(1, 2), dims)


def pooled_neighbourhoods(maps: torch.Tensor, side: int, dims: int) -> torch.Tensor:
    """Pool the neighbourhood of every position, its channels × side × side values in this order, to ``dims`` means.

    Roth et al. 2022, released code: a component covers part of one channel's or of few channels' neighbourhoods, with
    zeros beyond the border. Image by image, because the neighbourhoods of a batch are side² times as large as its maps.

    Args:
        maps: (n, channels, h, w).
        side: odd.

    Returns:
        float32 (n, dims, h, w).
    """
    import torch
    from torch.nn import functional

    out = torch.empty((len(maps), dims, *maps.shape[2:]), device=maps.device)
    for image, pooled in zip(maps, out, strict=True):
        around = functional.unfold(image[None].float(), side, padding=side // 2)[0]
        pooled.flatten(1).copy_(functional.adaptive_avg_pool1d(around.T, dims).T)
    return out


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """Slices and some of their patches.

    Attributes:
        numbers: int64 (n,), of the slices in their stack; in host memory.
        images: (n, H, W) in the dtype of the view.
        rois: bool (n, H, W).
        chosen: int64 (m,), slice of the batch · positions + position; at least one, and known without asking a device.
    """

    numbers: np.ndarray
    images: torch.Tensor
    rois: torch.Tensor
    chosen: torch.Tensor


class OrganPatches:
    """Batches of slices in a drawn order, with the patches that a method looks at; slices without any are left out.

    Args:
        cells: returns the patches (n, side, side) of regions (n, H, W), both bool; it is asked once per slice.
        held: as in :class:`..resident.ResidentSlices`.
        purpose: of the order.

    Raises:
        TrainingError: no slice has such a patch.
    """

    def __init__(
        self,
        stack: SliceStack,
        ctx: FitContext,
        batch: int,
        cells: Callable[[np.ndarray], np.ndarray],
        *purpose: str,
        held: bool | None = None,
    ) -> None:
        from ...resident import ResidentSlices

        found = [cells(stack.take(range(i, min(i + batch, len(stack))))[1]) for i in range(0, len(stack), batch)]
        self.cells = np.concatenate(found).reshape(len(stack), -1)
        self.slices = ResidentSlices(stack, ctx.device, held)
        self.usable = np.flatnonzero(self.cells.any(axis=1))
        self.order = batches(ctx, len(self.usable), batch, "order", *purpose)

    def draw(self) -> PatchBatch:
        from ...resident import sent

        numbers = self.usable[next(self.order)]
        images, rois = self.slices.take(numbers)
        chosen = np.flatnonzero(self.cells[numbers])
        return PatchBatch(numbers, images, rois, sent(chosen, self.slices.device))
