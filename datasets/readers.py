"""Processes in which foreign files are read: a crash of theirs costs what was being read, and nothing else.

A reader works on one item at a time, so that its death has one suspect. The suspect is read once more in a new process
of its own: memory that an earlier item had damaged, or that many readers had used up, is no fault of it.
"""

import fcntl
import multiprocessing as mp
import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from ..common.atomic import DiskError
from ..common.errors import shortened, summary
from ..common.processes import end_with_parent, hidden_main

LIMIT_S = 1800.0
"""Seconds after which a reader that has not come back is stopped: no scan takes a hundredth of it to read."""
DYING_S = 1.0
MOST_PRINTED = 4096

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Answer = tuple[Literal["done", "lost", "disk"], Any]


@dataclass(frozen=True)
class Lost:
    """Why an item has no outcome: what became of the reader, or what left it that was no answer."""

    reason: str


@dataclass(eq=False)
class _Reader:
    process: BaseProcess
    connection: Connection
    watch: Connection
    function: bytes = b""
    item: Any = None
    until: float = field(default=float("inf"))

    def send(self, pickled: bytes, item: Any, text: bytes, limit_s: float) -> None:
        self.item, self.until = item, time.monotonic() + limit_s
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died, which is found out as for any other
            self.connection.send((None if pickled == self.function else pickled, text))
        self.function = pickled

    def gone(self) -> Lost:
        """Say how the process died, or that it lives on where nobody can hear it, and end it."""
        until = time.monotonic() + DYING_S
        while (deaf := self.process.is_alive()) and time.monotonic() < until:
            time.sleep(0.01)
        code = self.end()
        return Lost("the reader closed its connections" if deaf else _death(code))

    def end(self) -> int | None:
        """End the process and return its exit status."""
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.connection.close()
        self.watch.close()
        return code


class Readers:
    """Up to ``count`` reader processes, started when they are needed and ended with the block that they are used in.

    They end when this process ends, however it ends. Nothing that they or a library of theirs print reaches a terminal.
    """

    def __init__(self, count: int = 1, limit_s: float = LIMIT_S) -> None:
        self.count, self.limit_s = count, limit_s
        self._idle: list[_Reader] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the readers; a later call of :meth:`work` starts others."""
        while self._idle:
            self._idle.pop().end()

    def work(
        self, function: Callable[[Item], Outcome], items: Iterable[Item], at_once: int | None = None
    ) -> Iterator[tuple[Item, Outcome | Lost]]:
        """Yield each item with what ``function`` returns for it, in the order in which they are finished.

        Args:
            function: is pickled, as items and outcomes are. What it raises, also to end its process, makes a ``Lost``.
            at_once: readers that work at the same time; default all of them.

        Raises:
            DiskError: raised again where ``function`` raised it.
        """
        pickled = _pickled(function)
        texts = [(item, pickled if isinstance(pickled, Lost) else _pickled(item)) for item in items]
        yield from ((item, text) for item, text in texts if isinstance(text, Lost))
        if isinstance(pickled, Lost):
            return
        sound = [(item, text) for item, text in texts if not isinstance(text, Lost)]
        suspects: list[tuple[Item, bytes]] = []
        for (item, text), outcome, died in self._round(pickled, sound, min(self.count, at_once or self.count)):
            if died:
                suspects.append((item, text))
            else:
                yield item, outcome
        for suspect in suspects:
            self.close()
            for _, outcome, _ in self._round(pickled, [suspect], 1):
                yield suspect[0], outcome

    def one(self, function: Callable[[Item], Outcome], item: Item) -> Outcome | Lost:
        """Return what ``function`` returns for one item."""
        ((_, outcome),) = self.work(function, [item], 1)
        return outcome

    def _round(
        self, pickled: bytes, items: Iterable[tuple[Item, bytes]], at_once: int
    ) -> Iterator[tuple[tuple[Item, bytes], Any, bool]]:
        """Yield item (with its pickled form), outcome, and whether its reader died of it."""
        waiting, busy = deque(items), list[_Reader]()
        try:
            while waiting or busy:
                while waiting and len(busy) < at_once:
                    reader = self._idle.pop() if self._idle else _start()
                    busy.append(reader)
                    item = waiting.popleft()
                    reader.send(pickled, item, item[1], self.limit_s)
                left = min(reader.until for reader in busy) - time.monotonic()
                handles = [handle for reader in busy for handle in (reader.connection, reader.process.sentinel)]
                wait(handles, timeout=max(0.0, left))
                for reader in list(busy):
                    found = self._answer(reader)
                    if found is not None:
                        busy.remove(reader)
                        yield reader.item, *found
        finally:
            for reader in busy:
                reader.end()

    def _answer(self, reader: _Reader) -> tuple[Any, bool] | None:
        """Return outcome and whether the reader died of its item; None while it works."""
        answer: Answer | None = None
        try:
            if reader.connection.poll():
                answer = pickle.loads(reader.connection.recv_bytes())  # noqa: S301 - made by our own process
        except (EOFError, OSError):
            return reader.gone(), True
        except Exception as error:
            answer = "lost", f"its answer cannot be read ({shortened(summary(error))})"
        if answer is not None:
            kind, value = answer
            if kind == "disk":
                raise DiskError(value)
            self._idle.append(reader)
            return (value if kind == "done" else Lost(value)), False
        if wait([reader.process.sentinel], 0):
            return reader.gone(), True
        if time.monotonic() > reader.until:
            reader.end()
            return Lost(f"the reader was stopped after {self.limit_s:.0f} s"), False
        return None


def printed() -> str:
    """Return what this process and its libraries have printed since the last call, where it is a reader."""
    if _output is None:
        return ""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    text = os.pread(_output, MOST_PRINTED, 0).decode("utf-8", "replace")
    os.ftruncate(_output, 0)
    return text.strip()


_output: int | None = None


def _start() -> _Reader:
    # Spawn, which asks nobody by an address and starts without what the caller has imported or holds open.
    context = mp.get_context("spawn")
    (ours, theirs), (watch, watched) = context.Pipe(), context.Pipe()
    process = context.Process(target=_read, args=(theirs, watched), name="uasbench reader", daemon=False)
    # A reader inherits the mask: Ctrl-C is the parent's also while the reader is still starting.
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with hidden_main():
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    theirs.close()
    watched.close()
    return _Reader(process, ours, watch)


def _read(connection: Connection, watched: Connection) -> None:
    """The life of a reader."""
    end_with_parent(watched)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _silence()
    function: Callable[[Any], Any] | None = None
    while True:
        try:
            pickled, text = connection.recv()
        except EOFError:
            return
        try:
            printed()
            if pickled is not None:
                function = pickle.loads(pickled)  # noqa: S301 - made by the parent, as the item is
            item = pickle.loads(text)  # noqa: S301
            answer: Answer = "done", function(item)  # pyright: ignore[reportOptionalCall] - the first item brings it
        except DiskError as error:
            answer = "disk", str(error)
        except BaseException as error:  # also what is raised to end the process
            answer = "lost", shortened(summary(error))
        text = _pickled(answer)
        connection.send_bytes(pickle.dumps(("lost", text.reason)) if isinstance(text, Lost) else text)


def _pickled(value: Any) -> bytes | Lost:
    try:
        return pickle.dumps(value)
    except Exception as error:
        return Lost(f"it cannot be pickled ({shortened(summary(error))})")


def _silence() -> None:
    """Send what is printed here, also by compiled code, to memory, from where it can be asked."""
    global _output
    _output = os.memfd_create("printed")
    flags = fcntl.fcntl(_output, fcntl.F_GETFL)
    fcntl.fcntl(_output, fcntl.F_SETFL, flags | os.O_APPEND)  # after a cut, what follows begins at the front
    for number in (1, 2):
        os.dup2(_output, number)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the reader ended with exit status {code} and no result"
    if -code == signal.SIGKILL:
        return "the reader was killed (SIGKILL); the memory may have run out"
    return f"the reader crashed ({signal.Signals(-code).name})"
