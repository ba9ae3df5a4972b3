"""The memory that stages took, by what they have in common, so that the next ones of a kind can be given as much."""

import hashlib
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from ...common.atomic import DiskError, write_text
from ...common.json_files import read_json
from ..runs.records import FIT_SEAL, MAP_SEAL
from .contract import Job

SEALS = {"fit": FIT_SEAL, "map": MAP_SEAL, "refine": MAP_SEAL}
"""Of the stages whose memory is kept."""
SPARE = 1.5
LEAST_MIB = 1024


class Peaks:
    """Peaks of trainings, maps and masks in MiB, kept in a file of the cache; ``of`` names the one of their seals."""

    def __init__(self, path: Path | None, of: Literal["peak_gpu_mib", "peak_ram_mib"]) -> None:
        self.path, self.name = path, of
        self._known: dict[str, float] = {}
        self._raised: dict[str, float] = {}
        if path is not None:
            with suppress(OSError, ValueError, TypeError, AttributeError):  # a damaged file is learned anew
                self._known = {str(kind): float(mib) for kind, mib in read_json(path).items()}

    def of(self, job: Job, where: str) -> float | None:
        """Return the largest peak of jobs of this kind in a place, such as a card; None where none was seen."""
        if job.task.stage not in SEALS:
            return None
        kind = _kind(job, where)
        found = (peaks[kind] for peaks in (self._known, self._raised) if kind in peaks)
        return max(found, default=None)

    def at_least(self, job: Job, where: str, mib: float) -> None:
        """Take jobs of this kind for as large from now on; no file keeps it, as others may have filled the place."""
        kind = _kind(job, where)
        self._raised[kind] = max(mib, self._raised.get(kind, 0.0))

    def learn(self, job: Job, where: str) -> None:
        """Keep what the finished stage of a job says of its peak, the largest that was seen."""
        task: Any = job.task
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            seal = task.out / SEALS[task.stage]
            peak, kind = float(read_json(seal)[self.name]), _kind(job, where)
            if peak > self._known.get(kind, 0.0):  # 0 is no news: another process did the work
                self._known[kind] = peak
                if self.path is not None:
                    with suppress(DiskError):
                        write_text(self.path, json.dumps(self._known, indent=0, sort_keys=True))


def with_spare(peak_mib: float) -> float:
    """Return the memory to ask for: half more, and a power of two, so that jobs of many methods ask for the same.

    >>> with_spare(940), with_spare(100)
    (2048, 1024)
    """
    return max(LEAST_MIB, 2 ** math.ceil(math.log2(SPARE * peak_mib)))


def _kind(job: Job, card: str) -> str:
    """Return what jobs of one method, code, size and card have in common, whatever their seed."""
    task: Any = job.task
    cases = [case for case, _ in getattr(task, "parts", ())]
    cases += [case for model in getattr(task, "models", ()) for case in model.cases]
    cases += getattr(task, "cases", ())
    largest = max((math.prod(case.shape) for case in cases), default=0).bit_length()
    plain = task.model_dump(mode="json", include={"stage", "method", "numerics", "untried"})
    text = json.dumps([plain, largest], sort_keys=True)
    return f"{card}: {task.stage} {hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
