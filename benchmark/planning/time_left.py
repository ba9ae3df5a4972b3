"""The time that a run still takes, from what its stages were predicted to take and what those that ended have taken."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from statistics import fmean

from ..executors.contract import Event, Job

BELIEVED_S = 30.0
"""What is left is corrected by what has ended so far, little by little: short stages are mostly the harness's time."""


class TimeLeft:
    """Seconds to the end of a run, of whose ``jobs`` each stands after those that it needs.

    A job that nobody can predict takes what those of its stage have taken so far, or what the others are predicted to.
    Where stages are packed on GPUs, those with one share ``gpus``, and the others have ``workers``. All work is shared
    evenly among these, and no shorter than the longest chain of jobs that need each other: a schedule takes no less,
    and looking through one at every event would cost more than it tells. ``tables_s`` follow the last job.
    """

    def __init__(self, jobs: Iterable[Job], workers: int, gpus: int | None = None, tables_s: float = 0.0) -> None:
        self._open = {job.id: job for job in jobs}
        self._workers = workers
        self._gpus = gpus
        self._tables_s = tables_s
        self._started: dict[str, float] = {}
        self._predicted = [0.0, 0.0]  # without and with a GPU that is shared
        self._known = self._with_gpu = 0
        self._unknown: Counter[tuple[bool, str]] = Counter()
        self._chain: dict[str, float] = defaultdict(float)  # from the start of a job to the end of what needs it
        for job in reversed(self._open.values()):
            self._count(job, 1)
            self._chain[job.id] += job.resources.seconds or 0.0
            for need in job.needs:
                self._chain[need] = max(self._chain[need], self._chain[job.id])
        self._waiting = [(-self._chain[name], name) for name in self._open]
        heapq.heapify(self._waiting)
        self._took: dict[str, list[float]] = defaultdict(list)
        self._expected = self._observed = BELIEVED_S

    def note(self, event: Event, now: float) -> None:
        """Take account of an event; ``now`` are the seconds of any clock."""
        name = event.job.id
        if event.kind == "started":
            self._started[name] = now
        elif event.kind == "again":
            self._started.pop(name, None)
            heapq.heappush(self._waiting, (-self._chain[name], name))
        elif event.kind != "progress":
            self._count(self._open.pop(name), -1)
            self._started.pop(name, None)
            if event.kind == "done":
                self._took[event.job.task.stage].append(event.seconds)
                if event.job.resources.seconds is not None:
                    self._expected += event.job.resources.seconds
                    self._observed += event.seconds

    def seconds(self, now: float) -> float | None:
        """Return the seconds that are left, None where nobody knows; only what runs is looked at one by one."""
        if self._open and not self._known and not self._took:
            return None
        factor = self._observed / self._expected
        usual = factor * sum(self._predicted) / self._known if self._known else 0.0

        def unpredicted(stage: str) -> float:
            return fmean(self._took[stage]) if stage in self._took else usual

        left = [factor * seconds for seconds in self._predicted]
        for (shared, stage), count in self._unknown.items():
            left[shared] += count * unpredicted(stage)
        longest = factor * self._longest_waiting()
        for name, since in self._started.items():
            job = self._open[name]
            predicted = job.resources.seconds
            takes = unpredicted(job.task.stage) if predicted is None else factor * predicted
            done = min(takes, now - since)
            left[self._shares(job)] -= done
            longest = max(longest, factor * self._chain[name] - done)
        waits = (len(self._open) - self._with_gpu, self._with_gpu)
        at_once = (self._workers, self._gpus or 1)
        parts = zip(left, at_once, waits, strict=True)
        shared = max(max(0.0, part) / min(most, max(1, count)) for part, most, count in parts)
        return max(shared, longest) + self._tables_s

    def _longest_waiting(self) -> float:
        while self._waiting and (self._waiting[0][1] not in self._open or self._waiting[0][1] in self._started):
            heapq.heappop(self._waiting)
        return -self._waiting[0][0] if self._waiting else 0.0

    def _shares(self, job: Job) -> bool:
        return self._gpus is not None and job.resources.gpus > 0

    def _count(self, job: Job, by: int) -> None:
        shared, seconds = self._shares(job), job.resources.seconds
        self._with_gpu += by * shared
        if seconds is None:
            self._unknown[shared, job.task.stage] += by
        else:
            self._predicted[shared] += by * seconds
            self._known += by
