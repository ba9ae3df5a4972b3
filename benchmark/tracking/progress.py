"""How far a mirror has come: what whoever waits for it looks at, and gives up by."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

from ...common.processes import leave_behind


class Patience(NamedTuple):
    """Seconds that one step (a call of the server, a file) may take, and all of them together."""

    step_s: float
    total_s: float


AT_THE_END = Patience(120.0, 600.0)
ON_REQUEST = Patience(120.0, 3600.0)
INTERRUPTED = Patience(5.0, 5.0)


class GivenUpError(Exception):
    """Nobody waits for the work any more."""


class Progress:
    """Told between the thread that works and the one that waits for it.

    Attributes:
        cells: slugs of the cells that the server has.
        files: whether tables, report and figures have been sent.
        stopped: set to have the work wound up early.
    """

    def __init__(self) -> None:
        self.cells: set[str] = set()
        self.files = False
        self.stopped = threading.Event()
        self._given_up = False
        self._last = time.monotonic()

    def step(self) -> None:
        """Say that one more step begins.

        Raises:
            GivenUpError: it must not.
        """
        if self._given_up:
            raise GivenUpError
        self._last = time.monotonic()

    def wait(self, thread: threading.Thread, patience: Patience) -> str | None:
        """Wait for the thread, or give it up and return why."""
        start = time.monotonic()
        while thread.is_alive():
            now = time.monotonic()
            step, total = max(start, self._last) + patience.step_s - now, start + patience.total_s - now
            if min(step, total) <= 0:
                self.give_up(thread)
                return _reason(patience.step_s if step <= 0 else None, patience.total_s)
            thread.join(min(step, total))
        return None

    def give_up(self, thread: threading.Thread) -> None:
        """Let the thread take no step after the one that it is in."""
        self._given_up = True
        leave_behind(thread)


def _reason(step_s: float | None, total_s: float) -> str:
    return f"has not answered for {step_s:g} s" if step_s else f"was not done after {total_s:g} s"


class Watched:
    """An object of which every call of a method is a step."""

    def __init__(self, inner: object, progress: Progress) -> None:
        self._inner = inner
        self._progress = progress

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self._progress.step()
            return method(*arguments, **options)

        return call
