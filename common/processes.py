"""Worker processes that need nothing of the script that started them."""

import ctypes
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

ENDING_S = 5.0
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36

_left: list[threading.Thread] = []


class Handle(Protocol):
    """Anything with a descriptor."""

    def fileno(self) -> int: ...


H = TypeVar("H", bound=int | Handle)


def readable(handles: Iterable[H], timeout_s: float | None = None) -> list[H]:
    """Wait until something can be read or has ended, and return which; unlike ``select`` for any descriptor."""
    with selectors.DefaultSelector() as watched:
        for handle in handles:
            watched.register(handle, selectors.EVENT_READ, handle)
        return [key.data for key, _ in watched.select(timeout_s)]


def leave_behind(thread: threading.Thread) -> None:
    """Give up a daemon thread that hangs: :func:`leave` will not wait for what it has started."""
    _left.append(thread)


def leave(status: str | int | None) -> NoReturn:
    """End this process as ``sys.exit`` does, also where threads were left behind.

    Python waits for the threads of pools that libraries have started, and for ever where one of them hangs.
    """
    if not any(thread.is_alive() for thread in _left):
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status if isinstance(status, int) else status is not None)


@contextmanager
def hidden_main() -> Iterator[None]:
    """Keep multiprocessing from importing the caller's script in every worker, so that it needs no main guard."""
    main: Any = sys.modules["__main__"]
    saved = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    main.__spec__ = None
    if "__file__" in saved:
        del main.__file__
    try:
        yield
    finally:
        for name, value in saved.items():
            setattr(main, name, value)


def end_with_parent(connection: Connection, status: int = 1) -> None:
    """Leave Ctrl-C to the parent, and end this process when the parent ends or closes its end of ``connection``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            connection.recv()
        except (EOFError, OSError):
            os._exit(status)

    threading.Thread(target=watch, daemon=True).start()


def adopt_orphans() -> None:
    """Become the parent of what descendants of this process leave behind (Linux), so that it can be ended."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however that ends (Linux)."""
    parent = os.getppid()
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_descendants() -> None:
    """Kill every descendant of this process and wait for them; see :func:`adopt_orphans` for those without parents."""
    import psutil

    this = psutil.Process()
    deadline = time.monotonic() + ENDING_S
    while children := this.children(recursive=True):
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if time.monotonic() > deadline:  # one that waits for a device cannot be killed before it has it
            return
        time.sleep(0.002)


def end_strangers(known: Collection[int]) -> None:
    """Kill the children of this process that are not ``known``: what one of those had started and left behind."""
    import psutil

    for child in psutil.Process().children():
        if child.pid not in known:
            with suppress(psutil.Error):
                child.kill()


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def redirect_output(log: Path) -> None:
    """Send what this process prints from now on to the end of a file, also from compiled code."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        with suppress(OSError, ValueError):
            stream.flush()
        os.dup2(descriptor, number)
    os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
