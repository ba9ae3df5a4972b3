"""Runs jobs in worker processes of this machine, forked from a process that has done the slow imports."""

import json
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ...common.processes import readable
from ...common.zygote import Worker, Zygote
from .. import device as devices
from ..stages import worker
from ..stages.apart import death
from ..stages.wall import SECRETS
from .contract import Job, Place, Report

GRACE_S = 5.0


@dataclass
class _Running:
    slot: int
    process: Worker
    reports: socket.socket
    unread: bytes = b""
    outcome: Report | None = None


class LocalExecutor:
    """One process per job, each on a slot of its own: a GPU in turn, or the CPU; jobs end with their submitter."""

    def __init__(self, place: Place) -> None:
        if place.workers < 1:
            raise ValueError("an executor needs at least one worker")
        self.place = place
        self.slots = slots(place.workers, 0 if place.device == "cpu" else devices.gpu_count())
        package = __name__.rpartition(".executors")[0]
        self._zygote = Zygote([f"{package}.stages.preload", *place.preload], hidden=SECRETS)
        self._running: dict[str, _Running] = {}
        self._started: list[Report] = []

    def room(self) -> int:
        return len(self.slots) - len(self._running)

    def attach(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        return ()  # a worker ends with its submitter

    def submit(self, job: Job) -> None:
        taken = {item.slot for item in self._running.values()}
        slot = next(i for i in range(len(self.slots)) if i not in taken)
        ours, theirs = socket.socketpair()
        arguments = [
            job.text,
            *(os.fspath(file.absolute()) for file in (self.place.log(job.id), self.place.lock(job.id))),
        ]
        with theirs:
            target = f"{worker.__name__}:{worker.work.__name__}"
            process = self._zygote.start(target, [*arguments, self.slots[slot]], [theirs.fileno()])
        ours.setblocking(False)
        self._running[job.id] = _Running(slot, process, ours)
        self._started.append(Report(job.id, "started"))

    def reports(self, timeout: float) -> list[Report]:
        found, self._started = self._started, []
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
                found.append(item.outcome or Report(name, "failed", death(item.process.status)))
                self._forget(name)
        return found

    def stop(self, job: str) -> None:
        process = self._running[job].process
        process.send_signal(signal.SIGTERM)
        if not readable([process], GRACE_S):
            process.send_signal(signal.SIGKILL)
            readable([process])
        self._forget(job)

    def close(self) -> None:
        for job in list(self._running):
            self.stop(job)
        self._zygote.close()

    def _forget(self, job: str) -> None:
        item = self._running.pop(job)
        item.reports.close()
        item.process.close()


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
