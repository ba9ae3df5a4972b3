"""A bound on code of a plug-in that runs in the command's own process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CONSTRUCTION_S = 60.0


@contextmanager
def time_limit(seconds: float = CONSTRUCTION_S) -> Iterator[None]:
    """Raise TimeoutError in code that does not come back; in the main thread only, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"did not come back within {seconds:.0f} s of being constructed")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
