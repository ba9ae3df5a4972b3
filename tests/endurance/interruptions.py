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

Processes = Callable[[Started], list[psutil.Process]]
Interruption = Callable[[Started], bool]
"""Returns whether there was something to interrupt."""

# A stage has a supervisor (the worker), and a process behind the wall, which runs the method.
WHOSE: dict[str, Processes] = {
    "parent": lambda started: started.itself(),
    "worker": lambda started: started.workers()[:1],
    "method": lambda started: started.methods()[:1],
    "zygote": Started.zygotes,
    "all at once": Started.family,
}


def _signal(name: str, whose: str) -> Interruption:
    return lambda started: _send(getattr(signal, name), WHOSE[whose](started))


def _send(number: int, processes: Iterable[psutil.Process]) -> bool:
    reached = False
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            reached = True
    return reached


def _group(name: str) -> Interruption:
    def send(started: Started) -> bool:
        os.killpg(started.process.pid, getattr(signal, name))  # its leader is waited for later
        return True

    return send


def _pause(whose: str, *, orphan: bool = False) -> Interruption:
    def pause(started: Started) -> bool:
        stopped = WHOSE[whose](started)
        if not _send(signal.SIGSTOP, stopped):
            return False
        if orphan:
            started.process.kill()
        time.sleep(STOPPED_S)
        _send(signal.SIGCONT, stopped)
        return True

    return pause


AT_ONCE = "SIGKILL parent, rerun at once"
KINDS: dict[str, Interruption] = {
    **{f"SIGKILL {whose}": _signal("SIGKILL", whose) for whose in WHOSE},
    AT_ONCE: _signal("SIGKILL", "parent"),
    **{f"{name} parent": _signal(name, "parent") for name in ("SIGTERM", "SIGHUP", "SIGINT")},
    **{f"SIGTERM {whose}": _signal("SIGTERM", whose) for whose in ("worker", "method", "zygote")},
    **{f"{name} group": _group(name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")},
    **{f"SIGSTOP, SIGCONT {whose}": _pause(whose) for whose in ("parent", "worker", "method", "zygote")},
    "SIGSTOP worker, SIGKILL parent": _pause("worker", orphan=True),
    "SIGSTOP method, SIGKILL parent": _pause("method", orphan=True),
}
# The command itself lives on after these, and ends as it does with failed cells at most.
SURVIVED = {"SIGSTOP, SIGCONT parent", *(k for k in KINDS if k.endswith((" worker", " method", " zygote")))}


def interrupt(kind: str, started: Started) -> bool:
    """Interrupt, at the latest when there is something to interrupt; return whether there was before the end."""
    while started.process.poll() is None:
        if KINDS[kind](started):
            return True
        time.sleep(0.01)
    return False


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
