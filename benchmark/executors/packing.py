"""Many stages on one GPU: which of them may start now, by memory that was measured and by how busy the card is.

A small network leaves a large card idle: what binds it is the time between launches. Stages that need no GPU run
beside the others, one per core.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.atomic import DiskError, write_text
from ..runs.records import FIT_SEAL, MAP_SEAL
from .contract import Job
from .gpus import Reading

CONTEXT_MIB = 700.0
"""What CUDA itself takes of a card for every process."""
UNKNOWN_SHARE = 0.3
USABLE_SHARE = 0.92
BUSY = 0.9
SETTLING_S = 4.0
OUT_OF_MEMORY = "out of memory"


class Peaks:
    """The GPU memory that stages of a kind took on a card, in MiB, kept in a file of the cache."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[str, float] = {}
        if path is not None:
            with suppress(OSError, ValueError):
                self._known = {str(kind): float(mib) for kind, mib in json.loads(path.read_text("utf-8")).items()}

    def of(self, job: Job, card: str) -> float | None:
        return self._known.get(_kind(job, card))

    def learn(self, job: Job, card: str) -> None:
        """Keep what the finished stage of a job says of its peak, the largest that was seen."""
        task: Any = job.task
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            seal = task.out / (FIT_SEAL if task.stage == "fit" else MAP_SEAL)
            peak, kind = float(json.loads(seal.read_text("utf-8"))["peak_gpu_mib"]), _kind(job, card)
            if peak > self._known.get(kind, 0.0):
                self._known[kind] = peak
                if self.path is not None:
                    with suppress(DiskError):
                        write_text(self.path, json.dumps(self._known, indent=0, sort_keys=True))


@dataclass
class _Placed:
    gpu: str | None
    needs_mib: float
    alone: bool


class Packing:
    """Says where a job may start: on a GPU with room and time for it, or on a core.

    Args:
        gpus: names of the GPUs, as ``CUDA_VISIBLE_DEVICES`` takes them.
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
        self.gpus = list(gpus)
        self.cores = cores
        self.peaks = peaks
        self.retried: set[str] = set()
        self._read = read
        self._clock = clock
        self._placed: dict[str, _Placed] = {}
        self._started = dict.fromkeys(self.gpus, float("-inf"))
        self._card: dict[str, str] = {}

    def place(self, job: Job) -> tuple[str | None] | None:
        """Return ``(GPU,)``, or ``(None,)`` for a core, where a job may start now; None where it has to wait."""
        if not job.resources.gpus:
            on_cores = sum(placed.gpu is None for placed in self._placed.values())
            if on_cores >= self.cores:
                return None
            self._placed[job.id] = _Placed(None, 0.0, alone=False)
            return (None,)
        now, readings, alone = self._clock(), self._read(), job.id in self.retried
        fitting = []
        for gpu in self.gpus:
            reading = readings.get(gpu)
            here = [placed for placed in self._placed.values() if placed.gpu == gpu]
            if reading is None or any(placed.alone for placed in here) or (alone and here):
                continue
            self._card[gpu] = reading.card
            known = self.peaks.of(job, reading.card)
            needs = CONTEXT_MIB + (UNKNOWN_SHARE * reading.total_mib if known is None else known)
            promised = sum(placed.needs_mib for placed in here)
            left = USABLE_SHARE * reading.total_mib - max(promised, reading.used_mib)
            waits = here and (now - self._started[gpu] < SETTLING_S or (reading.busy or 0.0) >= BUSY)
            if (needs <= left and not waits) or not here:
                fitting.append((len(here), -left, gpu, needs))
        if not fitting:
            return None
        _, _, gpu, needs = min(fitting)
        self._placed[job.id] = _Placed(gpu, needs, alone)
        self._started[gpu] = now
        return (gpu,)

    def end(self, job: Job, error: str | None) -> bool:
        """Take a job off its place; True where it ran out of memory beside others and should run once more, alone."""
        placed = self._placed.pop(job.id)
        if placed.gpu is None:
            return False
        if error is None:
            self.peaks.learn(job, self._card[placed.gpu])
        if error is None or OUT_OF_MEMORY not in error or job.id in self.retried:
            return False
        self.retried.add(job.id)
        return True


def _kind(job: Job, card: str) -> str:
    """Return what jobs of one method, size and card have in common, whatever their seed and data."""
    text = json.dumps(job.task.model_dump(mode="json", include={"stage", "method", "numerics"}), sort_keys=True)
    return f"{card}: {job.task.stage} {hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
