"""What learned methods share: training for a number of updates or until no gain, what validates, batched inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .context import FitContext, TrainingError

if TYPE_CHECKING:
    import torch

    from ..datasets.healthy import HealthySet, SliceStack

CURVE_POINTS = 200


def run_updates(
    ctx: FitContext, updates: int, step: Callable[[int], Mapping[str, Any]], *, phase: str = "", first: int = 0
) -> int:
    """Call ``step(i)`` for each optimiser update, within the budget, reporting progress and curves.

    Args:
        updates: updates the method wants; the context may allow fewer.
        step: does one update and returns its losses (numbers or tensors, read only where a curve point is due).
        phase: prefix of the curve names, for methods with several phases.
        first: number of the first update in the curves, for later phases.

    Returns:
        The number of updates done.

    Raises:
        TrainingError: a loss is not finite.
    """
    total = ctx.updates(updates)
    every = max(1, total // CURVE_POINTS)
    for i in range(total):
        losses = step(i)
        if i % every == 0 or i == total - 1:
            ctx.log(first + i, **{f"{phase}/{k}" if phase else k: float(v) for k, v in losses.items()})
        ctx.progress(i + 1, total)
    return total


def batches(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield index arrays for ever: each epoch is a new permutation, the remainder of an epoch opens the next batch.

    Raises:
        TrainingError: there is nothing to train on.
    """
    if count == 0:
        raise TrainingError("no training slices: the healthy set has no slice with a region of interest")
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < batch:
            queue = np.concatenate([queue, rng.permutation(count)])
        yield queue[:batch]
        queue = queue[batch:]


def training_length(updates: int | None, epochs: int, count: int, batch: int) -> int:
    """Return the updates of a training: ``updates``, or where that is None those of whole epochs over ``count`` items.

    >>> training_length(None, 3, 9, 4), training_length(5, 3, 9, 4)
    (9, 5)
    """
    return epochs * math.ceil(count / batch) if updates is None else updates


def held_out_count(count: int) -> int:
    """Return how many of ``count`` validate: a fifth, at least one.

    >>> [held_out_count(n) for n in (1, 4, 10, 13)]
    [1, 1, 2, 3]
    """
    return max(1, round(0.2 * count))


def held_out_patients(patients: Iterable[str], rng: np.random.Generator) -> list[str]:
    """Draw a fifth of the patients, at least one; none where there are no two, since one must stay for training."""
    names = sorted(set(patients))
    if len(names) < 2:
        return []
    return rng.choice(names, held_out_count(len(names)), replace=False).tolist()


def hold_out(healthy: HealthySet, stack: SliceStack, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split the slices into a training and a validation part.

    A fifth of the patients, at least one, validates; with a single patient the last fifth of its slices does.

    Returns:
        two int64 arrays of slice numbers.

    Raises:
        TrainingError: there are fewer than two slices.
    """
    if len(stack) < 2:
        raise TrainingError("early stopping needs at least two healthy slices; train with budget=seed2")
    patient_of_case = np.array([part.case.patient for part in healthy.parts])
    chosen = held_out_patients(patient_of_case.tolist(), rng)
    if chosen:
        held = np.isin(patient_of_case[stack.case_of], chosen)
    else:
        held = np.arange(len(stack)) >= len(stack) - held_out_count(len(stack))
    return np.flatnonzero(~held), np.flatnonzero(held)


def train_until_no_gain(
    ctx: FitContext,
    net: torch.nn.Module,
    step: Callable[[int], Mapping[str, Any]],
    validate: Callable[[], float],
    *,
    per_epoch: int,
    updates: int,
    patience: int,
) -> int:
    """Train epoch by epoch until ``patience`` epochs bring no lower validation loss, then restore the best weights.

    Args:
        step: does one optimiser update and returns its losses.
        validate: returns the validation loss of the present weights.
        per_epoch: updates per epoch.
        updates: upper bound, which the context may lower.

    Returns:
        The number of updates done.

    Raises:
        TrainingError: a loss is not finite.
    """
    total = ctx.updates(updates)
    best, best_state, waited, done = float("inf"), None, 0, 0
    while done < total and waited < patience:
        losses: Mapping[str, Any] = {}
        for _ in range(min(per_epoch, total - done)):
            losses = step(done)
            done += 1
            ctx.progress(done, total)
        value = validate()
        ctx.log(done, validation=value, **{k: float(v) for k, v in losses.items()})
        if value < best:
            best, waited = value, 0
            best_state = {k: v.detach().clone() for k, v in net.state_dict().items()}
        else:
            waited += 1
    if best_state is not None:
        net.load_state_dict(best_state)
    return done


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

    out = np.empty(array.shape, np.float32)
    with torch.inference_mode():
        for start in range(0, len(array), batch):
            chunk = as_input(array[start : start + batch], device)
            out[start : start + batch] = forward(chunk).float().cpu().numpy()
    return out


def as_input(array: np.ndarray, device: str) -> torch.Tensor:
    """Turn slices (n, H, W) of a view into a float32 tensor (n, 1, H, W) in [0, 1]."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)
    tensor = tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor.float()
    return tensor[:, None]
