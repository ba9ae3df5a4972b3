"""Many stages on one GPU: which of them may start now, by memory that was measured and by how busy the card is.

A small network leaves a large card idle: what binds it is the time between launches. Stages that need no GPU run
beside the others, one per core.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .contract import Job
from .gpus import Reading
from .peaks import Peaks

CONTEXT_MIB = 700.0
"""What CUDA itself takes of a card for every process."""
UNKNOWN_SHARE = 0.3
USABLE_SHARE = 0.92
BUSY = 0.9
FULL_RAISES = 1.5
"""By this a kind of stage is taken to need more than it was given, after one of it ran out of memory beside others."""
SETTLING_S = 4.0
READ_EVERY_S = 1.0
OUT_OF_MEMORY = ("CUDA out of memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")


@dataclass
class _Placed:
    gpu: str | None
    needs_mib: float = 0.0
    alone: bool = False
    """Nothing may start beside it."""
    crowded: bool = False
    """Something ran beside it at some time."""


@dataclass
class _Gpu:
    reading: Reading
    others_mib: float
    started: float = float("-inf")


class Packing:
    """Says where a job may start: on a GPU with room and time for it, or on a core.

    Args:
        gpus: UUIDs of the GPUs.
        read: asks the cards (:func:`.gpus.read`).
        cores: stages without a GPU at once.
        peaks: memory by kind of stage; one that is not known yet may take ``UNKNOWN_SHARE`` of the card.
        clock: seconds.
    """

    def __init__(
        self,
        gpus: Sequence[str],
        read: Callable[[], Mapping[str, Reading]],
        cores: int,
        peaks: Peaks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cores = cores
        self.peaks = peaks
        self.again: set[str] = set()
        self._read = read
        self._clock = clock
        self._read_at = clock()
        self._placed: dict[str, _Placed] = {}
        readings = read()
        self._gpus = {name: _Gpu(readings[name], readings[name].used_mib) for name in gpus}

    def order(self, job: Job) -> tuple[bool, tuple[int, ...]]:
        """Return the order in which waiting jobs are offered a place: those that run again first, then by rank."""
        return job.id not in self.again, job.rank

    def place(self, job: Job) -> tuple[str | None] | None:
        """Return ``(GPU,)``, or ``(None,)`` for a core, where a job may start now; None where it has to wait."""
        if not job.resources.gpus:
            if sum(placed.gpu is None for placed in self._placed.values()) >= self.cores:
                return None
            self._placed[job.id] = _Placed(None)
            return (None,)
        now, alone, fitting = self._clock(), job.id in self.again, []
        self._look(now)
        waiting = self.again - self._placed.keys()
        for name, gpu in self._gpus.items():
            here = self._on(name)
            if any(placed.alone for placed in here) or (alone and here) or (waiting and not alone):
                continue
            total, known = gpu.reading.total_mib, self.peaks.of(job, gpu.reading.card)
            needs = CONTEXT_MIB + (UNKNOWN_SHARE * total if known is None else known)
            ours = max(sum(placed.needs_mib for placed in here), gpu.reading.used_mib - gpu.others_mib)
            left = USABLE_SHARE * total - gpu.others_mib - ours
            settled = now - gpu.started >= SETTLING_S and (gpu.reading.busy or 0.0) < BUSY
            if not here or (needs <= left and settled):
                fitting.append((len(here), -left, name, needs))
        if not fitting:
            return None
        _, _, name, needs = min(fitting)
        here = self._on(name)
        for placed in here:
            placed.crowded = True
        self._placed[job.id] = _Placed(name, needs, alone, crowded=bool(here))
        self._gpus[name].started = now
        return (name,)

    def end(self, job: Job, error: str | None) -> bool:
        """Take a job off its place; True where it ran out of memory beside others and should run once more, alone.

        Fewer of its kind are started from then on.
        """
        placed = self._placed.pop(job.id)
        if placed.gpu is None:
            return False
        card = self._gpus[placed.gpu].reading.card
        if error is None:
            self.peaks.learn(job, card)
        full = error is not None and any(text in error for text in OUT_OF_MEMORY)
        if not full or not placed.crowded or job.id in self.again:
            self.again.discard(job.id)
            return False
        self.peaks.at_least(job, card, FULL_RAISES * placed.needs_mib - CONTEXT_MIB)
        self.again.add(job.id)
        return True

    def _on(self, gpu: str) -> list[_Placed]:
        return [placed for placed in self._placed.values() if placed.gpu == gpu]

    def _look(self, now: float) -> None:
        """Ask the cards, not more often than they change; what an empty one holds is others'."""
        if now - self._read_at < READ_EVERY_S:
            return
        self._read_at = now
        for name, reading in self._read().items():
            if name in self._gpus:
                gpu = self._gpus[name]
                gpu.reading = reading
                gpu.others_mib = min(gpu.others_mib, reading.used_mib) if self._on(name) else reading.used_mib
