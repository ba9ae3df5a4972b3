"""Watching a training without lesion labels: its loss on healthy patients that it does not learn from.

Nothing is chosen by it: a fit that is watched ends with the same weights as one that is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.errors import DataError
from .context import HELD_OUT, FitContext, TrainingError
from .training import batches

if TYPE_CHECKING:
    import torch

    from ..datasets.healthy import HealthySet
    from ..datasets.views.volume_view import AnyView

# A batch goes forward 25 times, 160 updates go forward and back: watching takes some 5 % of a training.
UPDATES_PER_BATCH, MOST_BATCHES = 160, 8


def held_out_loss(
    ctx: FitContext,
    updates: int,
    nets: Sequence[torch.nn.Module],
    source: Callable[[HealthySet], Callable[[], Any]],
    loss: Callable[[Any], Any],
) -> Callable[[], float] | None:
    """Return what measures the mean loss on fixed batches of held-out patients, or None where too few are held out.

    Args:
        updates: wanted of the training, or 25 times those of an epoch; a short one is watched on fewer batches.
        nets: what is in evaluation mode meanwhile, and afterwards in the mode it had.
        source: takes the held-out scans and returns what draws batches, with random numbers of its own.
        loss: of a batch: a number or a scalar tensor; it uses the same random numbers at every call.
    """
    import torch

    total = ctx.updates(updates)
    if ctx.held_out is None or total == 0:
        return None
    with undisturbed(ctx.device):
        try:
            draw = source(ctx.held_out)
            fixed = [draw() for _ in range(min(MOST_BATCHES, max(1, total // UPDATES_PER_BATCH)))]
        except (DataError, TrainingError):  # scans too few to draw from are no reason to train nothing
            return None

    def value() -> float:
        with undisturbed(ctx.device), evaluating(nets), torch.no_grad():
            torch.manual_seed(ctx.seed_for(HELD_OUT))
            return float(np.mean([float(loss(batch)) for batch in fixed]))

    return value


def held_out_slices(
    view: AnyView, batch: int, ctx: FitContext
) -> Callable[[HealthySet], Callable[[], tuple[torch.Tensor, torch.Tensor]]]:
    """Return a ``source`` of plain slices through a view and their regions of interest, shape (batch, H, W) both."""

    def source(held_out: HealthySet) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
        from .resident import ResidentSlices

        slices = ResidentSlices(held_out.array(view), ctx.device, held=False)
        order = batches(ctx, len(slices), batch, "order", HELD_OUT)
        return lambda: slices.take(next(order))

    return source


@contextmanager
def evaluating(nets: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode for a while; each of their modules has the mode it had afterwards."""
    modes = [(module, module.training) for net in nets for module in net.modules()]
    for net in nets:
        net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def undisturbed(device: str) -> Iterator[None]:
    """Give the random generators of the process the state that they had."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
