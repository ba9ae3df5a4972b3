"""How Screener's density is trained: a Gaussian of descriptors given conditions, over cells that show the organ."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...ahead import drawn_ahead
from ...context import FitContext
from ...nets.voxel_descriptors import ConditionalGaussian
from ...resident import sent
from ...training import batches, run_updates
from ...watching import held_out_loss
from .crop_pairs import CropPairs, places
from .descriptor_training import Optimiser

if TYPE_CHECKING:
    from ....datasets.healthy import HealthySet
    from .screener_settings import ScreenerLiteConfig

SCALE_BATCHES, LEAST_STD = 16, 1e-3
CropBatch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Cells = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def learn_density(
    density: ConditionalGaussian,
    cells: Cells,
    pairs: CropPairs,
    held_out: Callable[[HealthySet], CropPairs],
    ctx: FitContext,
    c: ScreenerLiteConfig,
    first: int,
) -> int:
    """Minimise −log q of noisy descriptors given noisy conditions; return the updates done.

    Args:
        cells: returns descriptors, conditions, both scaled, and which cells show the organ, for crops of
            :func:`crop_batches`.
        held_out: makes crops of scans to watch by.
        first: number of the first update in the curves.
    """
    optimiser = Optimiser(density, c, c.density_updates, ctx)
    density.train()

    def loss_of(batch: CropBatch) -> torch.Tensor:
        crops, noise, condition_noise = batch
        with torch.no_grad():
            descriptors, conditions, filled = cells(crops)
        surprise = density.surprise(descriptors + noise, conditions + condition_noise)
        return (surprise * filled).sum() / filled.sum() / descriptors.shape[1]

    def source(held: HealthySet) -> Callable[[], CropBatch]:
        return crop_batches(held_out(held), ctx, c, "density", "held out")

    watch = held_out_loss(ctx, c.density_updates, [density], source, loss_of)
    with drawn_ahead(crop_batches(pairs, ctx, c, "density"), ctx) as draw:

        def step(_: int) -> dict[str, torch.Tensor]:
            return {"-log q": optimiser.update(loss_of(draw()))}

        return run_updates(ctx, c.density_updates, step, phase="density", first=first, watch=watch)


def crop_batches(pairs: CropPairs, ctx: FitContext, c: ScreenerLiteConfig, *phase: str) -> Callable[[], CropBatch]:
    """Return what yields crops as :func:`channels` lays them out, and noise for their descriptors and conditions."""
    order, rng = batches(ctx, len(pairs), c.batch, "order", *phase), ctx.rng("crops", *phase)
    draws = ctx.generator("noise", *phase)
    grid = [-(-side // pool) for side, pool in zip(c.crop, c.pool, strict=True)]

    def noise(width: int) -> torch.Tensor:
        return c.noise * torch.randn(c.batch, width, *grid, generator=draws, device=ctx.device)

    def draw() -> CropBatch:
        crops = []
        for case in next(order):
            image, crop = pairs.one(int(case), rng)
            where = places(pairs.box(crop.run.case), crop.origin, c.crop) if c.condition == "position" else None
            crops.append(channels(image, crop.roi, where))
        return sent(np.stack(crops), ctx.device), noise(c.width), noise(c.condition_width)

    return draw


def channels(image: np.ndarray, roi: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    """Return image, organ and, where given, the places of the voxels as one array, float32 (2 or 5, z, y, x)."""
    stacked = np.stack([image, roi.astype(np.float32)])
    return stacked if where is None else np.concatenate([stacked, where])


def moments(cells: Cells, draw: Callable[[], CropBatch]) -> dict[str, np.ndarray]:
    """Return mean and standard deviation, float32 (2, channels), of descriptors and conditions over drawn crops."""
    found = {"descriptor": [], "condition": []}
    weights = []
    with torch.no_grad():
        for _ in range(SCALE_BATCHES):
            *maps, filled = cells(draw()[0])
            weights.append(filled.flatten().double().cpu().numpy())
            for kept, map_ in zip(found.values(), maps, strict=True):
                kept.append(map_.transpose(0, 1).flatten(1).double().cpu().numpy())
    weight = np.concatenate(weights)
    weight /= weight.sum()
    scale = {}
    for name, parts in found.items():
        values = np.concatenate(parts, axis=1)
        mean = values @ weight
        std = np.sqrt((values - mean[:, None]) ** 2 @ weight)
        scale[name] = np.stack([mean, np.maximum(std, LEAST_STD)]).astype(np.float32)
    return scale
