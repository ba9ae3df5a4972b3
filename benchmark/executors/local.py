"""Runs jobs in worker processes of this machine, forked from a server that has done the slow imports."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from ...common.processes import hidden_main
from ..stages import worker
from .job import Event, Job, Listener

GRACE_S = 5.0
TICK_S = 0.25


@dataclass
class _Running:
    job: Job
    slot: int
    process: BaseProcess
    connection: Connection
    started: float
    outcome: tuple[str, str | None] | None = None


class LocalExecutor:
    """Starts a ready job whenever a slot is free.

    Args:
        slots: one entry per job that may run at once: a CUDA device index as text, or None for the CPU.
        logs: folder for one log file per job.
        locks: folder for one lock file per job.
        limit_s: a job that takes longer is stopped and failed.
        preload: modules the fork server imports besides the usual ones.
    """

    def __init__(
        self, slots: Sequence[str | None], *, logs: Path, locks: Path, limit_s: float, preload: Sequence[str] = ()
    ) -> None:
        if not slots:
            raise ValueError("an executor needs at least one slot")
        self.slots = list(slots)
        self.logs = logs
        self.locks = locks
        self.limit_s = limit_s
        self._context = mp.get_context("forkserver")
        package = __name__.rpartition(".executors")[0]
        self._context.set_forkserver_preload([f"{package}.stages.preload", *preload])

    def run(self, jobs: Sequence[Job], listener: Listener) -> None:
        """Run all jobs, reporting to ``listener``; a failed job cancels what needs it and nothing else.

        A KeyboardInterrupt stops the running jobs, leaves no process behind and is raised again.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        self.locks.mkdir(parents=True, exist_ok=True)
        waiting = {job.id: job for job in sorted(jobs, key=lambda j: j.rank)}
        done = set[str]()
        running: list[_Running] = []
        try:
            while waiting or running:
                self._start_ready(waiting, done, running, listener)
                for ended in self._collect(running, listener):
                    self._settle(ended, waiting, done, listener)
        finally:
            self._stop(running)

    def log_of(self, job: Job) -> Path:
        """Return where a job's output goes."""
        return self.logs / f"{job.id}.log"

    def _start_ready(
        self, waiting: dict[str, Job], done: set[str], running: list[_Running], listener: Listener
    ) -> None:
        free = [i for i in range(len(self.slots)) if i not in {r.slot for r in running}]
        for job in [j for j in waiting.values() if j.needs <= done][: len(free)]:
            del waiting[job.id]
            running.append(self._start(job, free.pop(0)))
            listener(Event(job, "started"))

    def _start(self, job: Job, slot: int) -> _Running:
        ours, theirs = self._context.Pipe()
        arguments = (
            job.task.model_dump_json(),
            theirs,
            str(self.log_of(job)),
            str(self.locks / job.id),
            self.slots[slot],
        )
        process = self._context.Process(target=worker.work, args=arguments, name=f"uasbench {job.id}", daemon=False)
        with hidden_main():
            process.start()
        theirs.close()
        return _Running(job, slot, process, ours, time.monotonic())

    def _collect(self, running: list[_Running], listener: Listener) -> list[_Running]:
        by_handle = {r.connection: r for r in running} | {r.process.sentinel: r for r in running}
        for handle in wait(list(by_handle), timeout=TICK_S):
            self._receive(by_handle[handle], listener)  # type: ignore[index]
        ended = []
        for item in running:
            if not item.process.is_alive():
                self._receive(item, listener)
                ended.append(item)
            elif time.monotonic() - item.started > self.limit_s:
                text = f"stopped after {self.limit_s:.0f} s, the stage limit; raise it with --stage-limit"
                item.outcome = item.outcome or ("failed", text)
                _end(item.process)
                ended.append(item)
        for item in ended:
            running.remove(item)
        return ended

    def _receive(self, item: _Running, listener: Listener) -> None:
        try:
            while item.connection.poll():
                kind, value = item.connection.recv()
                if kind == "progress":
                    listener(Event(item.job, "progress", value))
                elif item.outcome is None:
                    item.outcome = ("done", None) if kind == "done" else ("failed", value)
        except (EOFError, OSError):
            return

    def _settle(self, item: _Running, waiting: dict[str, Job], done: set[str], listener: Listener) -> None:
        item.process.join()
        item.connection.close()
        seconds = time.monotonic() - item.started
        outcome, message = item.outcome or ("failed", _death(item.process.exitcode))
        item.process.close()
        if outcome == "done":
            done.add(item.job.id)
            listener(Event(item.job, "done", seconds=seconds))
            return
        listener(Event(item.job, "failed", message, seconds))
        lost = {item.job.id}
        while cancelled := [job for job in waiting.values() if job.needs & lost]:
            for job in cancelled:
                lost.add(job.id)
                del waiting[job.id]
                listener(Event(job, "cancelled", item.job))

    def _stop(self, running: list[_Running]) -> None:
        for item in running:
            _end(item.process)
            item.connection.close()
        running.clear()


def _end(process: BaseProcess) -> None:
    process.terminate()
    process.join(GRACE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        hint = "; the kernel may have run out of memory" if -code == signal.SIGKILL else ""
        return f"the worker was killed by {signal.Signals(-code).name}{hint}"
    return f"the worker ended with exit status {code} and no result"


def cpu_slots(workers: int) -> list[str | None]:
    """Return slots for CPU work."""
    return [None] * workers


def gpu_slots(workers: int, gpus: int) -> list[str | None]:
    """Spread workers over the GPUs that this process may see, in turn."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [v for v in visible.split(",") if v] if visible else [str(i) for i in range(gpus)]
    return [names[i % len(names)] for i in range(workers)]
