"""Runs jobs in worker processes of this machine, forked from a server that has done the slow imports."""

import math
import multiprocessing as mp
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ...common.processes import hidden_main, short_socket_folder
from .. import device as devices
from ..stages import worker
from .contract import Job, Place, Report

GRACE_S = 5.0


@dataclass
class _Running:
    slot: int
    process: BaseProcess
    connection: Connection
    outcome: Report | None = None
    until: float = math.inf


class LocalExecutor:
    """One process per job, each on a slot of its own: a GPU in turn, or the CPU; jobs end with their submitter."""

    def __init__(self, place: Place) -> None:
        if place.workers < 1:
            raise ValueError("an executor needs at least one worker")
        self.place = place
        self.slots = slots(place.workers, 0 if place.device == "cpu" else devices.gpu_count())
        short_socket_folder()
        self._context = mp.get_context("forkserver")
        package = __name__.rpartition(".executors")[0]
        self._context.set_forkserver_preload([f"{package}.stages.preload", *place.preload])
        self._running: dict[str, _Running] = {}
        self._started: list[Report] = []

    def room(self) -> int:
        return len(self.slots) - len(self._running)

    def attach(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        return ()  # a worker ends with its submitter

    def submit(self, job: Job) -> None:
        taken = {item.slot for item in self._running.values()}
        slot = next(i for i in range(len(self.slots)) if i not in taken)
        ours, theirs = self._context.Pipe()
        arguments = (job.text, theirs, self.place.log(job.id), self.place.lock(job.id), self.slots[slot])
        process = self._context.Process(target=worker.work, args=arguments, name=f"uasbench {job.id}", daemon=False)
        with hidden_main():
            process.start()
        theirs.close()
        self._running[job.id] = _Running(slot, process, ours)
        self._started.append(Report(job.id, "started"))

    def reports(self, timeout: float) -> list[Report]:
        found, self._started = self._started, []
        handles = [handle for item in self._running.values() for handle in (item.connection, item.process.sentinel)]
        wait(handles, timeout=0 if found else timeout)
        for name, item in list(self._running.items()):
            ended = not item.process.is_alive()
            with suppress(EOFError, OSError):
                while item.connection.poll():
                    report = Report(name, *item.connection.recv())
                    if report.kind == "progress":
                        found.append(report)
                    else:
                        item.outcome, item.until = report, time.monotonic() + GRACE_S
            if not ended and time.monotonic() > item.until:
                item.process.kill()
            elif ended:
                found.append(item.outcome or Report(name, "failed", _death(item.process.exitcode)))
                self._forget(name)
        return found

    def stop(self, job: str) -> None:
        process = self._running[job].process
        process.terminate()
        process.join(GRACE_S)
        if process.is_alive():
            process.kill()
            process.join()
        self._forget(job)

    def close(self) -> None:
        for job in list(self._running):
            self.stop(job)

    def _forget(self, job: str) -> None:
        item = self._running.pop(job)
        item.connection.close()
        item.process.close()


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        hint = "; the kernel may have run out of memory" if -code == signal.SIGKILL else ""
        return f"the worker was killed by {signal.Signals(-code).name}{hint}"
    return f"the worker ended with exit status {code} and no result"


def slots(workers: int, gpus: int) -> list[str | None]:
    """Return one CUDA device per worker, of those that this process may see, in turn; None each without a GPU."""
    if not gpus:
        return [None] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [v for v in visible.split(",") if v] if visible else [str(i) for i in range(gpus)]
    return [names[i % len(names)] for i in range(workers)]
