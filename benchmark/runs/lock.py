"""One bench at a time in a run folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .folder import RunFolder, RunFolderError

NAME = "lock"


@contextmanager
def hold(folder: RunFolder) -> Iterator[None]:
    """Hold ``RUN/lock`` exclusively; the kernel frees it when the process ends, however it ends. The file stays.

    It is not re-entrant: a second hold of the same folder is refused in the same process too.

    Raises:
        RunFolderError: another process holds it, or the folder cannot be locked.
    """
    path = folder.path / NAME
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be opened: {error.strerror}; mend the permissions of the folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RunFolderError(
                f"another bench works in {folder.path} (pid {holder}); wait until it ends, or stop it"
            ) from None
        except OSError as error:
            raise RunFolderError(
                f"{path} cannot be locked: {error.strerror}; put the run on a file system with file locks"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
