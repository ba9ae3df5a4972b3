"""How Screener's descriptors are trained: VICReg on pairs of voxels of two crops of the same scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from ...ahead import drawn_ahead
from ...context import FitContext
from ...losses import vicreg
from ...nets.voxel_descriptors import VoxelDescriptors
from ...resident import sent
from ...schedules import warm_cosine
from ...training import autocast, batches, make_optimiser, run_updates
from ...watching import held_out_loss
from .crop_pairs import CropPairs, Jitter, block_mask, common_voxels

if TYPE_CHECKING:
    from ....datasets.healthy import HealthySet
    from .screener_settings import ScreenerLiteConfig

WEIGHTS = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}
PairBatch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Optimiser:
    """AdamW whose rate rises, then falls to 0 with a cosine, with a bound on the gradient's norm; see the settings."""

    def __init__(self, net: torch.nn.Module, c: ScreenerLiteConfig, updates: int, ctx: FitContext) -> None:
        self.net, self.clip = net, c.clip
        total = ctx.updates(updates)
        warmup = max(1, round(c.warmup * total))
        self.adam = make_optimiser(ctx, torch.optim.AdamW, net.parameters(), lr=c.lr, weight_decay=c.weight_decay)
        self.schedule = ctx.keep(
            torch.optim.lr_scheduler.LambdaLR(self.adam, lambda i: warm_cosine(i, max(total, 1), warmup))
        )

    def update(self, loss: torch.Tensor) -> torch.Tensor:
        """Do one update; return the loss, detached."""
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(self.net.parameters(), self.clip)
        self.adam.step()
        self.schedule.step()
        return loss.detach()


def learn_descriptors(
    net: VoxelDescriptors,
    name: str,
    pairs: CropPairs,
    held_out: Callable[[HealthySet], CropPairs],
    ctx: FitContext,
    c: ScreenerLiteConfig,
    first: int,
) -> int:
    """Minimise VICReg on the expanded descriptors of pairs of voxels; return the updates done.

    Args:
        net: with a second input channel, which says what is masked, it learns the condition.
        name: of the phase in the curves.
        held_out: makes pairs of scans to watch by.
        first: number of the first update in the curves.
    """
    optimiser = Optimiser(net, c, c.updates, ctx)
    net.train()

    def terms(batch: PairBatch) -> dict[str, torch.Tensor]:
        with autocast(ctx.device, ctx.precision):
            return vicreg(*expanded(net, *batch))

    def total(found: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([WEIGHTS[term] * value for term, value in found.items()]).sum()

    def step(_: int) -> dict[str, torch.Tensor]:
        found = terms(draw())
        loss = optimiser.update(total(found))
        return {"loss": loss, **{term: value.detach() for term, value in found.items()}}

    def source(held: HealthySet) -> Callable[[], PairBatch]:
        return pair_batches(held_out(held), ctx, c, net.inputs == 2, name, "held out")

    watch = held_out_loss(ctx, c.updates, [net], source, lambda batch: total(terms(batch)))
    with drawn_ahead(pair_batches(pairs, ctx, c, net.inputs == 2, name), ctx) as draw:
        return run_updates(ctx, c.updates, step, phase=name, first=first, watch=watch)


def expanded(
    net: VoxelDescriptors, views: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the expanded descriptors of both voxels of each pair, (n · pairs, dimensions).

    Args:
        views: (2 · n, inputs, Z, Y, X), the first crops and then the second ones.
        first, second: int64 (n, pairs), flat indices of the voxels.
    """
    maps = net(views).flatten(2)
    index = torch.cat([first, second])[:, None].expand(-1, maps.shape[1], -1)
    chosen = maps.gather(2, index).transpose(1, 2).reshape(-1, maps.shape[1])
    one, other = net.expander(chosen).chunk(2)
    return one, other


def pair_batches(
    pairs: CropPairs, ctx: FitContext, c: ScreenerLiteConfig, masked: bool, *phase: str
) -> Callable[[], PairBatch]:
    """Return what yields batches for :func:`expanded`; with ``masked``, blocks are 0 and 1 in a second channel."""
    order, rng = batches(ctx, len(pairs), c.batch, "order", *phase), ctx.rng("pairs", *phase)
    jitter, count = Jitter(c.jitter), max(1, c.voxels // c.batch)

    def channels(image: np.ndarray, roi: np.ndarray) -> np.ndarray:
        image = jitter(image, roi, rng)
        if not masked:
            return image[None]
        mask = block_mask(c.crop, c.blocks, c.masked, rng)
        return np.stack([np.where(mask, 0, image), mask.astype(np.float32)])

    def draw() -> PairBatch:
        views: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        voxels: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for case in next(order):
            drawn = pairs.pair(int(case), rng)
            found = common_voxels(drawn[0][1], drawn[1][1], count, rng)
            for k, (image, crop) in enumerate(drawn):
                views[k].append(channels(image, crop.roi))
                voxels[k].append(found[k])
        first, second = (sent(np.stack(indices), ctx.device) for indices in voxels)
        return sent(np.stack([*views[0], *views[1]]), ctx.device), first, second

    return draw
