"""Early stopping: which part of the healthy scans validates, and training until it stops improving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .context import FitContext, LoopOverError, TrainingError
from .training import log_watched, updating

if TYPE_CHECKING:
    import torch

    from ..datasets.healthy import HealthySet, SliceStack


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
    criterion: str = "validation",
    watch: Callable[[], float] | None = None,
) -> int:
    """Train epoch by epoch until ``patience`` epochs bring no lower validation loss, then restore the best weights.

    Args:
        step: does one optimiser update and returns its losses.
        validate: returns the validation loss of the present weights.
        per_epoch: updates per epoch.
        updates: upper bound, which the context may lower.
        criterion: name of the curve of what ``validate`` returns.
        watch: returns the loss on held-out patients, as in :func:`.training.run_updates`, for every epoch.

    Returns:
        The number of updates done.

    Raises:
        TrainingError: a loss is not finite.
    """
    total = ctx.updates(updates)
    loop = ctx.loop()
    best, waited = loop.extra.get("best", float("inf")), loop.extra.get("waited", 0)
    best_state, done = loop.extra.get("best_state"), loop.done
    if not done:
        log_watched(ctx, done, watch)
    while done < total and waited < patience:
        losses: Mapping[str, Any] = {}
        try:
            for _ in range(min(per_epoch, total - done)):
                with updating(ctx):
                    losses = step(done)
                done += 1
                ctx.progress(done, total)
        except LoopOverError:
            total = done
        value = validate()
        ctx.log(done, **{criterion: value}, **{k: float(v) for k, v in losses.items()})
        log_watched(ctx, done, watch)
        if value < best:
            best, waited = value, 0
            best_state = {k: v.detach().clone() for k, v in net.state_dict().items()}
        else:
            waited += 1
        if loop.due:
            loop.save(done, {"best": best, "waited": waited, "best_state": best_state})
    if best_state is not None:
        net.load_state_dict(best_state)
    return done
