"""Worker processes that need nothing of the script that started them."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .errors import UasbenchError

SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - multiprocessing makes a private folder in one of them
LONGEST_FOLDER = 70


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


def short_socket_folder() -> None:
    """Have multiprocessing put this process's sockets where their addresses, of at most 107 bytes, have room.

    They lie in the folder for temporary files, whose name ``TMPDIR`` may make longer than that.

    Raises:
        UasbenchError: no folder with a short name can be written.
    """
    folders = [tempfile.gettempdir(), *SHORT_FOLDERS]
    usable = [f for f in folders if len(os.fsencode(f)) <= LONGEST_FOLDER and os.access(f, os.W_OK | os.X_OK)]
    if usable:
        before, tempfile.tempdir = tempfile.tempdir, usable[0]
        try:
            chosen = util.get_temp_dir()  # made at the first call of a process and kept
        finally:
            tempfile.tempdir = before
        if len(os.fsencode(chosen)) <= LONGEST_FOLDER + len("/pymp-12345678"):
            return
    raise UasbenchError(
        f"TMPDIR is {len(os.fsencode(folders[0]))} characters long ({folders[0][:40]}…), too long for a socket of "
        f"worker processes; set a folder of at most {LONGEST_FOLDER}"
    )


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
