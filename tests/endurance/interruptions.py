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
MOMENTS = {
    "lock": "lock",
    "plan": "run.json",
    "fit": "fits/*/last.pt",
    "map": "maps/*/map.json",
    "study": "tuning/*",
    "record": "records/*.json",
    "tables": "tables/*.csv",
    "report": "report.html",
}


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


def wait_for(moment: str, run: Path, started: Started, rng: random.Random, longest_s: float) -> None:
    """Wait until a file of the run has just appeared and a moment more, or for any time where it was there before.

    It returns early when the command ends.
    """
    pattern = MOMENTS.get(moment)
    here = pattern is None or next(run.glob(pattern), None) is not None
    until = time.monotonic() + (rng.uniform(0, longest_s) if here else longest_s)
    while time.monotonic() < until and started.process.poll() is None:
        if not here and next(run.glob(pattern or ""), None):
            here, until = True, time.monotonic() + rng.choice((0, rng.uniform(0, 0.5)))
        time.sleep(0.003)
