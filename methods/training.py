"""What learned methods share: training for a number of updates, and inference in batches."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .context import HELD_OUT, FitContext, LoopOverError, TrainingError

if TYPE_CHECKING:
    import torch

Optimiser = TypeVar("Optimiser", bound="torch.optim.Optimizer")
CURVE_POINTS, WATCHED_POINTS = 200, 25


def run_updates(
    ctx: FitContext,
    updates: int,
    step: Callable[[int], Mapping[str, Any]],
    *,
    phase: str = "",
    first: int = 0,
    watch: Callable[[], float] | None = None,
) -> int:
    """Call ``step(i)`` for each optimiser update, within the budget, reporting progress and curves.

    Args:
        updates: updates the method wants; the context may allow fewer.
        step: does one update and returns its losses (numbers or tensors, read only where a curve point is due).
        phase: prefix of the curve names, for methods with several phases.
        first: number of the first update in the curves, for later phases.
        watch: returns the loss on held-out patients (:func:`.watching.held_out_loss`); it is logged before the
            first update and after each of 24 parts of the training.

    Returns:
        The number of updates done.

    Raises:
        TrainingError: a loss is not finite.
    """
    total = ctx.updates(updates)
    every = max(1, total // CURVE_POINTS)
    looks = {round(total * k / (WATCHED_POINTS - 1)) for k in range(WATCHED_POINTS)} if total else set()

    def log(done: int, losses: Mapping[str, Any]) -> None:
        ctx.log(first + done, **{f"{phase}/{k}" if phase else k: float(v) for k, v in losses.items()})

    loop = ctx.loop()
    if total and not loop.done:
        log_watched(ctx, first, watch, phase)
    for done in sorted({1, loop.done} if loop.done else ()):  # the first one tells the display of a new loop
        ctx.progress(done, total)
    for i in range(loop.done, total):
        with updating(ctx):
            losses = step(i)
        if i % every == 0 or i == total - 1:
            log(i, losses)
        if i + 1 in looks:
            log_watched(ctx, first + i + 1, watch, phase)
        if loop.due:
            loop.save(i + 1)
        try:
            ctx.progress(i + 1, total)
        except LoopOverError:
            return i + 1
    return total


def updating(ctx: FitContext) -> AbstractContextManager:
    """Return the context of one update, in which compiled networks run so; of its numbers CUDA graphs keep none."""
    if not ctx.compiled:
        return nullcontext()
    import torch

    if ctx.device.startswith("cuda"):
        torch.compiler.cudagraph_mark_step_begin()
    return torch.compiler.set_stance("default")


def log_watched(ctx: FitContext, step: int, watch: Callable[[], float] | None, phase: str = "") -> None:
    """Add a point to the curve of the loss on held-out patients, where they are watched and it is finite."""
    if watch is not None and math.isfinite(value := watch()):
        ctx.log(step, **{f"{phase}/{HELD_OUT}" if phase else HELD_OUT: value})


class Batches(Iterator[np.ndarray]):
    """Index arrays for ever: each epoch is a new permutation, the remainder of an epoch opens the next batch.

    Raises:
        TrainingError: there is nothing to train on.
    """

    def __init__(self, count: int, batch: int, rng: np.random.Generator) -> None:
        if count == 0:
            raise TrainingError("no training slices: the healthy set has no slice with a region of interest")
        self.count, self.batch, self.rng = count, batch, rng
        self._queue = np.empty(0, dtype=np.int64)

    def __next__(self) -> np.ndarray:
        while len(self._queue) < self.batch:
            self._queue = np.concatenate([self._queue, self.rng.permutation(self.count)])
        batch, self._queue = self._queue[: self.batch], self._queue[self.batch :]
        return batch

    def state_dict(self) -> dict[str, list[int]]:
        """Return what is left of the present epoch; the state of ``rng`` is kept by whoever made it."""
        return {"queue": self._queue.tolist()}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        self._queue = np.array(state["queue"], dtype=np.int64)


def batches(ctx: FitContext, count: int, batch: int, *purpose: str | int) -> Batches:
    """Return batches in an order drawn for a purpose.

    Raises:
        TrainingError: there is nothing to train on.
    """
    return ctx.keep(Batches(count, batch, ctx.rng(*purpose)))


def training_length(updates: int | None, epochs: int, count: int, batch: int) -> int:
    """Return the updates of a training: ``updates``, or where that is None those of whole epochs over ``count`` items.

    >>> training_length(None, 3, 9, 4), training_length(5, 3, 9, 4)
    (9, 5)
    """
    return epochs * math.ceil(count / batch) if updates is None else updates


def quicker_first(ctx: FitContext, optimiser: torch.optim.Optimizer, rate: float | None, updates: int) -> None:
    """Let an optimiser learn at ``rate`` for the first half of ``updates``, then at its own; None changes nothing."""
    if rate is not None:
        ctx.keep(_QuickerFirst(optimiser, rate, updates))


class _QuickerFirst:
    def __init__(self, optimiser: torch.optim.Optimizer, rate: float, updates: int) -> None:
        self.own, self.half, self.done = [group["lr"] for group in optimiser.param_groups], max(1, updates // 2), 0
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.register_step_post_hook(self._count)

    def _count(self, optimiser: torch.optim.Optimizer, *_: Any) -> None:
        self.done += 1
        if self.done == self.half:
            for group, lr in zip(optimiser.param_groups, self.own, strict=True):
                group["lr"] = lr

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.done = state["done"]


def make_optimiser(
    ctx: FitContext, kind: Callable[..., Optimiser], parameters: Iterable[Any], **settings: Any
) -> Optimiser:
    """Return an optimiser of parameters or groups of them, which is kept; a GPU fuses its steps into few kernels.

    Fused steps have bits of their own: on the CPU ``fused=True`` asks for them.
    """
    if ctx.device.startswith("cuda") and "fused" in inspect.signature(kind).parameters:
        settings["fused"] = True
    return ctx.keep(kind(parameters, **settings))


def update(optimiser: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
    """Do one optimiser update; return the loss for the curves, detached."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach()


def autocast(device: str, precision: str) -> AbstractContextManager:
    """Return the autocast context of a precision (``fp32`` or ``bf16``)."""
    import torch

    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16)


def predict(
    forward: Callable[[torch.Tensor], torch.Tensor], array: np.ndarray, *, batch: int, device: str
) -> np.ndarray:
    """Run ``forward`` over slices in batches without gradients.

    Args:
        forward: takes float32 (n, 1, H, W) on ``device`` and returns (n, H, W).
        array: shape (slices, H, W); uint8 is divided by 255.

    Returns:
        float32, shape (slices, H, W).
    """
    import torch

    from .behind import fetched

    out, starts = np.empty(array.shape, np.float32), range(0, len(array), batch)
    with torch.inference_mode():
        found = (forward(as_input(array[start : start + batch], device)).float() for start in starts)
        for start, part in zip(starts, fetched(found, device), strict=True):
            out[start : start + batch] = part.numpy()
    return out


def as_input(slices: np.ndarray | torch.Tensor, device: str) -> torch.Tensor:
    """Turn slices (n, H, W) of a view into a float32 tensor (n, 1, H, W) in [0, 1]."""
    import torch

    from .resident import sent

    tensor = slices if isinstance(slices, torch.Tensor) else sent(slices, device)
    tensor = tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor.float()
    return tensor[:, None]
