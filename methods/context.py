"""What a method gets from the engine: ``fit`` seed, device, precision, budget, checkpoints, progress and logging.

``skip`` may ask the network before a run; in a listing it looks at this machine alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..common.seeds import derive

if TYPE_CHECKING:
    import torch

    from ..datasets.healthy import HealthySet
    from .resuming import Loop, Resumption

T = TypeVar("T")

HELD_OUT = "held_out"
"""Name in the curves of the loss on healthy patients who are not learned from; ``PHASE/held_out`` in phases."""


class TrainingError(RuntimeError):
    """Training went wrong in a way that makes its result meaningless (a loss that is not finite, no data)."""


class LoopOverError(Exception):
    """``on_progress`` raises it: the present loop of updates ends there, and the next phase begins."""


def _ignore(*_: object) -> None:
    """Take any report and drop it: the default outside the engine."""


@dataclass
class FitContext:
    """The surroundings of one fit.

    Attributes:
        seed: the run's seed; derive one per purpose with :meth:`seed_for` instead of using it twice.
        device: torch device string.
        precision: ``fp32`` or ``bf16`` (autocast).
        compiled: the engine has compiled the method's networks, and updates run them so (:func:`.training.updating`).
        max_updates: upper bound on optimiser updates; None leaves the method's own, 0 asks for the untrained method.
        save_checkpoint: called with a name such as ``it-2000``; the engine then stores the method's state under it.
        on_progress: called with (done, total); may raise :class:`LoopOverError`.
        on_log: called with (step, values).
        unlabelled: the test cases, images and regions of interest alone, for a method whose card says
            ``uses="unlabelled-test"``; None for every other.
        held_out: healthy scans of patients who calibrate thresholds, to watch a training by and never to learn or to
            choose from; None where nobody is held out.
        resumption: where the engine stores what a killed training goes on from; None stores nothing.
        kept: what :meth:`keep` was given.
        logged: the points of the curves so far.
    """

    seed: int
    device: str = "cpu"
    precision: str = "fp32"
    compiled: bool = False
    max_updates: int | None = None
    save_checkpoint: Callable[[str], None] = field(default=_ignore)
    on_progress: Callable[[int, int], None] = field(default=_ignore)
    on_log: Callable[[int, dict[str, float]], None] = field(default=_ignore)
    unlabelled: HealthySet | None = None
    held_out: HealthySet | None = None
    resumption: Resumption | None = None
    kept: list[Any] = field(default_factory=list)
    logged: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)

    def seed_for(self, *purpose: str | int) -> int:
        return derive(self.seed, *purpose)

    def rng(self, *purpose: str | int) -> np.random.Generator:
        return self.keep(np.random.default_rng(self.seed_for(*purpose)))

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return a generator of its own for a purpose, on the device."""
        import torch

        return self.keep(torch.Generator(self.device).manual_seed(self.seed_for(*purpose)))

    def keep(self, thing: T) -> T:
        """Return ``thing``, whose state becomes part of the checkpoints from which a killed training goes on.

        It is whatever changes with the updates and is no attribute of the method: a generator, or an optimiser, a
        schedule, a network or anything else with ``state_dict`` and ``load_state_dict``. A loop without an optimiser
        among them begins again after a kill.
        """
        self.kept.append(thing)
        return thing

    def loop(self) -> Loop:
        """Return the checkpoints of the loop of updates that begins now, and how far it has come already."""
        from .resuming import Loop

        return Loop(None, self) if self.resumption is None else self.resumption.loop(self)

    def updates(self, wanted: int) -> int:
        """Return ``wanted`` updates, or fewer where the budget is smaller."""
        return wanted if self.max_updates is None else min(wanted, self.max_updates)

    def progress(self, done: int, total: int) -> None:
        """Report progress to the display."""
        self.on_progress(done, total)

    def log(self, step: int, **values: float) -> None:
        """Record a point of the training curves.

        Raises:
            TrainingError: a value is NaN or infinite.
        """
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(f"{name} is {value} at update {step}")
        self.logged.append((step, values))
        self.on_log(step, values)

    def checkpoint(self, name: str) -> None:
        """Store the method's present state under ``name`` beside the final ``last``."""
        self.save_checkpoint(name)


_network = ContextVar("uasbench_network", default=True)


def network_allowed() -> bool:
    """Return whether a method may ask the network."""
    return _network.get()


@contextmanager
def network_forbidden() -> Iterator[None]:
    """Forbid it for a while."""
    token = _network.set(False)
    try:
        yield
    finally:
        _network.reset(token)
