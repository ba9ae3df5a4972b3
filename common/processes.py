"""Worker processes that need nothing of the script that started them."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


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
