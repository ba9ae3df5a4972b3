"""The engine's side of the contract: order, cancelling, limits and a clean end, whatever runs the stages."""

import time
from collections.abc import Sequence

from .contract import Event, Executor, Job, Listener

TICK_S = 0.25


def run_jobs(executor: Executor, jobs: Sequence[Job], listener: Listener, limit_s: float) -> None:
    """Run all jobs, reporting to ``listener``; a failed job cancels what needs it and nothing else.

    A job that takes longer than ``limit_s`` is stopped and failed.

    Raises:
        ValueError: jobs need one that is not there.
        KeyboardInterrupt: raised again after the running jobs were stopped.
    """
    _Schedule(executor, jobs, listener, limit_s).run()


class _Schedule:
    def __init__(self, executor: Executor, jobs: Sequence[Job], listener: Listener, limit_s: float) -> None:
        self.executor = executor
        self.listener = listener
        self.limit_s = limit_s
        self.waiting = {job.id: job for job in sorted(jobs, key=lambda job: job.rank)}
        self.running: dict[str, Job] = {}
        self.started: dict[str, float] = {}
        self.done: set[str] = set()

    def run(self) -> None:
        try:
            for name in self.executor.attach(list(self.waiting.values())):
                self.running[name] = self.waiting.pop(name)
                self._start(self.running[name])
            while self.waiting or self.running:
                self._submit_ready()
                for report in self.executor.reports(TICK_S):
                    job = self.running[report.id]
                    if report.kind == "started":
                        self._start(job)
                    elif report.kind == "progress":
                        self.listener(Event(job, "progress", report.value))
                    else:
                        self._end(job, report.value if report.kind == "failed" else None)
                self._stop_overdue()
        finally:
            self.executor.close()

    def _start(self, job: Job) -> None:
        self.started[job.id] = time.monotonic()
        self.listener(Event(job, "started"))

    def _submit_ready(self) -> None:
        ready = [job for job in self.waiting.values() if job.needs <= self.done]
        for job in ready[: self.executor.room()]:
            self.running[job.id] = self.waiting.pop(job.id)
            self.executor.submit(job)
        if not self.running and self.waiting:
            raise ValueError(f"{', '.join(self.waiting)} need jobs that are not there, or the executor takes none")

    def _stop_overdue(self) -> None:
        now = time.monotonic()
        for job in [self.running[name] for name, at in self.started.items() if now - at > self.limit_s]:
            self.executor.stop(job.id)
            self._end(job, f"stopped after {self.limit_s:.0f} s, the stage limit; raise it with --stage-limit")

    def _end(self, job: Job, error: str | None) -> None:
        del self.running[job.id]
        seconds = time.monotonic() - self.started.pop(job.id, time.monotonic())
        if error is None:
            self.done.add(job.id)
            self.listener(Event(job, "done", seconds=seconds))
            return
        self.listener(Event(job, "failed", error, seconds))
        lost = {job.id}
        while cancelled := [other for other in self.waiting.values() if other.needs & lost]:
            for other in cancelled:
                lost.add(other.id)
                del self.waiting[other.id]
                self.listener(Event(other, "cancelled", job))
