"""Runs jobs in worker processes of this machine, forked from a process that has done the slow imports."""

import json
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...common.processes import readable
from ...common.zygote import Worker, Zygote
from .. import device as devices
from ..stages import worker
from ..stages.apart import clear_scratch, death
from ..stages.wall import SECRETS
from . import gpus
from .contract import Job, Place, Report
from .energy import Meter, counter
from .packing import Packing
from .peaks import Peaks

GRACE_S = 5.0
QUEUED = 1 << 16
"""Jobs that a packing executor takes: those that have no room yet wait in it."""


@dataclass
class _Running:
    job: Job
    process: Worker
    reports: socket.socket
    unread: bytes = b""
    outcome: Report | None = None


class Slots:
    """One job per slot: a GPU in turn, or the CPU."""

    def __init__(self, names: Sequence[str | None]) -> None:
        self.names = names
        self._taken: dict[str, int] = {}

    def order(self, job: Job) -> tuple[int, ...]:
        """Return the order in which waiting jobs are offered a place."""
        return job.rank

    def place(self, job: Job) -> tuple[str | None] | None:
        """Return the GPU of a free slot, None in a tuple where it has none; None where no slot is free."""
        free = [i for i in range(len(self.names)) if i not in self._taken.values()]
        if not free:
            return None
        self._taken[job.id] = free[0]
        return (self.names[free[0]],)

    def end(self, job: Job, error: str | None) -> bool:
        """Free the slot of a job; nothing runs again."""
        del self._taken[job.id]
        return False


class LocalExecutor:
    """One process per job, on slots or packed on GPUs (``Place.packed``); jobs end with their submitter."""

    def __init__(self, place: Place) -> None:
        if place.workers < 1:
            raise ValueError("an executor needs at least one worker")
        self.place = place
        self.room_for = place.workers
        if place.packed:
            names = gpus.visible(gpus.read())
            if not names:
                raise devices.DeviceError("--workers pack: nvidia-smi names no GPU that may be used; give a number")
            peaks = Peaks(None if place.cache is None else place.cache / "gpu-peaks.json", "peak_gpu_mib")
            self.places: Slots | Packing = Packing(names, gpus.read, place.workers, peaks)
            self.room_for = QUEUED
        else:
            self.places = Slots(slots(place.workers, 0 if place.device == "cpu" else devices.gpu_count()))
        package = __name__.rpartition(".executors")[0]
        self._zygote = Zygote([f"{package}.stages.preload", *place.preload], hidden=SECRETS)
        self._waiting: dict[str, Job] = {}
        self._running: dict[str, _Running] = {}
        self._said: list[Report] = []
        self._meter = Meter(counter)

    def room(self) -> int:
        return self.room_for - len(self._running) - len(self._waiting)

    def attach(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        return ()  # a worker ends with its submitter

    def submit(self, job: Job) -> None:
        self._waiting[job.id] = job  # started by the next call of reports()

    def _start_waiting(self) -> None:
        for job in sorted(self._waiting.values(), key=self.places.order):
            if (place := self.places.place(job)) is not None:
                del self._waiting[job.id]
                self._start(job, place[0])

    def _start(self, job: Job, gpu: str | None) -> None:
        ours, theirs = socket.socketpair()
        arguments = [
            job.text,
            *(os.fspath(file.absolute()) for file in (self.place.log(job.id), self.place.lock(job.id))),
        ]
        with theirs:
            target = f"{worker.__name__}:{worker.work.__name__}"
            process = self._zygote.start(target, [*arguments, gpu], [theirs.fileno()])
        ours.setblocking(False)
        if gpu is not None and job.resources.gpus:
            self._meter.start(job.id, gpu)
        self._running[job.id] = _Running(job, process, ours)
        self._said.append(Report(job.id, "started"))

    def reports(self, timeout: float) -> list[Report]:
        self._start_waiting()
        found, self._said = self._said, []
        handles = [handle for item in self._running.values() for handle in (item.reports, item.process)]
        readable(handles, 0 if found else timeout)
        for name, item in list(self._running.items()):
            ended = bool(readable([item.process], 0))
            for report in _read(name, item):
                if report.kind == "progress":
                    found.append(report)
                else:
                    item.outcome = report
            if ended:
                if item.outcome is None:
                    self._zygote.settle(item.process)
                outcome = item.outcome or Report(name, "failed", death(item.process.status))
                kwh = self._meter.end(name)
                if outcome.kind == "done":
                    outcome = replace(outcome, value=kwh)
                if self._forget(name, outcome.value if outcome.kind == "failed" else None):
                    self._waiting[name] = item.job
                    outcome = Report(name, "again", outcome.value)
                found.append(outcome)
        return found

    def stop(self, job: str) -> None:
        if self._waiting.pop(job, None) is not None:
            return
        process = self._running[job].process
        process.send_signal(signal.SIGTERM)
        if not readable([process], GRACE_S):
            process.send_signal(signal.SIGKILL)
            readable([process])
        self._meter.end(job)
        self._forget(job, "stopped")

    def close(self) -> None:
        for job in [*self._waiting, *self._running]:
            self.stop(job)
        self._zygote.close()

    def _forget(self, job: str, error: str | None) -> bool:
        """Take leave of a process that has ended; True where its job should run again."""
        item = self._running.pop(job)
        item.reports.close()
        item.process.close()
        clear_scratch(item.process.pid)
        return self.places.end(item.job, error)


def _read(job: str, item: _Running) -> list[Report]:
    """Return what a worker has reported since the last time: lines of JSON, ``[kind, value]``."""
    try:
        while data := item.reports.recv(65536):
            item.unread += data
    except (BlockingIOError, ConnectionError):
        pass
    *lines, item.unread = item.unread.split(b"\n")
    return [Report(job, *json.loads(line)) for line in lines]


def slots(workers: int, gpus: int) -> list[str | None]:
    """Return one CUDA device per worker, of those that this process may see, in turn; None each without a GPU."""
    if not gpus:
        return [None] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [v for v in visible.split(",") if v] if visible else [str(i) for i in range(gpus)]
    return [names[i % len(names)] for i in range(workers)]
