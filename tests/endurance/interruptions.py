"""How a command is interrupted, and when."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from .commands import Started

STOPPED_S = 1.0
STAGES = ("lock", "run.json", "fits/*/last.pt", "maps/*/map.json", "tuning/*", "records/*.json")
MOMENTS = (*STAGES, "tables/*.csv", "report.html")


def _send(number: int, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _parent(number: int) -> Callable[[Started], None]:
    return lambda started: started.process.send_signal(number)


def _worker(number: int) -> Callable[[Started], None]:
    return lambda started: _send(number, started.workers()[:1])


def _pause_parent(started: Started) -> None:
    _parent(signal.SIGSTOP)(started)
    time.sleep(STOPPED_S)
    _parent(signal.SIGCONT)(started)


def _pause_worker(started: Started, *, orphan: bool = False) -> None:
    workers = started.workers()[:1]
    _send(signal.SIGSTOP, workers)
    if orphan:
        _parent(signal.SIGKILL)(started)
    time.sleep(STOPPED_S)
    _send(signal.SIGCONT, workers)


def _group(started: Started) -> None:
    with suppress(ProcessLookupError):
        os.killpg(started.process.pid, signal.SIGINT)


KINDS: dict[str, Callable[[Started], None]] = {
    "kill -9 parent": _parent(signal.SIGKILL),
    "kill -9 parent, rerun at once": _parent(signal.SIGKILL),
    "kill -9 worker": _worker(signal.SIGKILL),
    "kill -9 fork server": lambda started: _send(signal.SIGKILL, started.fork_servers()),
    "kill -9 all at once": lambda started: _send(signal.SIGKILL, started.family()),
    "SIGTERM parent": _parent(signal.SIGTERM),
    "SIGHUP parent": _parent(signal.SIGHUP),
    "SIGINT parent": _parent(signal.SIGINT),
    "SIGINT group": _group,
    "SIGTERM worker": _worker(signal.SIGTERM),
    "SIGSTOP, SIGCONT parent": _pause_parent,
    "SIGSTOP, SIGCONT worker": _pause_worker,
    "SIGSTOP worker, kill -9 parent": lambda started: _pause_worker(started, orphan=True),
}
AT_ONCE = "kill -9 parent, rerun at once"
# The command itself lives on after these, and ends as it does with failed cells at most.
SURVIVED = {
    *("kill -9 worker", "SIGTERM worker", "kill -9 fork server"),
    *("SIGSTOP, SIGCONT parent", "SIGSTOP, SIGCONT worker"),
}


def next_moment(run: Path, rng: random.Random, *, stages_only: bool) -> str | None:
    """Return a file that the command will still make, or None for any time."""
    made = STAGES if stages_only else MOMENTS
    return rng.choice([None, *(pattern for pattern in made if not next(run.glob(pattern), None))])


def wait_for(pattern: str | None, run: Path, started: Started, rng: random.Random, longest_s: float) -> None:
    """Wait until a file of the run has just appeared, or a moment longer; or for any time, rather a short one.

    It returns early when the command ends.
    """
    until = time.monotonic() + longest_s * (rng.random() ** 2 if pattern is None else 2)
    while time.monotonic() < until and started.process.poll() is None:
        if pattern and next(run.glob(pattern), None):
            pattern, until = None, time.monotonic() + rng.choice((0, rng.uniform(0, 0.5)))
        time.sleep(0.003)
