"""A part of the suite: trials with consecutive seeds, from where the last call stopped until the target or the time."""

import fcntl
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .ledger import Ledger

MINUTES = "UASBENCH_ENDURANCE_MINUTES"
SEED = "UASBENCH_ENDURANCE_SEED"
SHOWN = 5

Trial = Callable[[int, Counter[str]], None]


def work_off(ledger: Ledger, part: str, trial: Trial, target: int, unit: str = "trials") -> None:
    """Do trials until ``target`` of what ``unit`` counts are in the ledger, or the time is over.

    A trial gets its seed and the counts that it adds to; what it raises is a fault, after which the part goes on. The
    call fails if there are faults, also those of former calls, and is skipped while the target is not reached.
    """
    if SEED in os.environ:
        trial(int(os.environ[SEED]), Counter())
        return
    with _alone(ledger.path.parent / f"{part}.lock"):
        until = time.monotonic() + 60 * float(os.environ.get(MINUTES, "25"))
        while ledger.counts(part)[unit] < target and time.monotonic() < until:
            seed, counts, fault = ledger.next_seed(part), Counter[str](), None
            try:
                trial(seed, counts)
            except Exception as error:
                place = "" if isinstance(error, AssertionError) else traceback.format_exc(limit=-2)
                fault = f"{type(error).__name__}: {error} {place}"[:2000]
            ledger.add(part, seed, counts, fault)
    faults = ledger.faults(part)
    shown = "\n".join(f"{SEED}={seed}: {fault}" for seed, fault in list(faults.items())[:SHOWN])
    assert not faults, f"{part}: {len(faults)} trials with a fault, the first of them:\n{shown}"
    done = ledger.counts(part)[unit]
    if done < target:
        pytest.skip(f"{part}: {done} of {target} {unit} so far; the next call goes on")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep two calls from doing the same seeds."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.skip(f"another call works on this part ({lock})")
        yield
