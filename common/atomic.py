"""Files and folders that appear whole or not at all."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from .errors import DataError

_MARK = ".partial-"


class DiskError(DataError):
    """The disk is full, or a folder cannot be written."""


@contextmanager
def new_file(path: Path, needed: int = 0) -> Iterator[Path]:
    """Give the name of a file to write, which replaces ``path`` when the block ends without an error.

    Readers see the old content or the whole new one, also after a power cut. ``needed`` bytes are named where the disk
    is full.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(_temporary_name(path.name))
    _make_folder(path.parent, path.parent, needed)
    try:
        with clear_disk_errors(path.parent, needed):
            yield temporary
            _sync_path(temporary)
            temporary.replace(path)
            _sync_path(path.parent)
    finally:
        with suppress(OSError):  # on a read-only disk it would hide what went wrong
            temporary.unlink(missing_ok=True)


def write_file(path: Path, *chunks: bytes | memoryview) -> Path:
    """Write bytes through :func:`new_file` and return the path."""
    views = [memoryview(c).cast("B") for c in chunks]
    with new_file(path, sum(map(len, views))) as temporary, temporary.open("wb") as file:
        file.writelines(views)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write text as UTF-8 through :func:`new_file` and return the path."""
    return write_file(path, text.encode("utf-8"))


@contextmanager
def new_folder(path: Path, needed: int = 0) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes ``path`` when the block ends without an error.

    Where ``path`` exists by then (another process was faster), the new folder is dropped. ``needed`` is as in
    :func:`new_file`, and so is what is raised.
    """
    temporary = path.with_name(_temporary_name(path.name))
    _make_folder(temporary, path.parent, needed)
    try:
        with clear_disk_errors(path.parent, needed):
            yield temporary
            for entry in (*temporary.rglob("*"), temporary):
                _sync_path(entry)
            try:
                temporary.rename(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            _sync_path(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def discard(folder: Path) -> None:
    """Take a folder away at once, so that nobody finds it half deleted; who has opened its files may go on reading.

    Raises:
        DiskError: it cannot be taken away.
    """
    away = folder.with_name(_temporary_name(folder.name))
    with clear_disk_errors(folder.parent, 0), suppress(FileNotFoundError):
        folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def remove_stale(folder: Path) -> list[str]:
    """Remove what processes of this machine that died left half-written directly below ``folder``; return the names."""
    removed = []
    for path in folder.glob(f".*{_MARK}*") if folder.is_dir() else ():
        host, _, pid = path.name.rpartition(_MARK)[2].rpartition("-")[0].rpartition("-")
        if host != os.uname().nodename or not pid.isdigit() or _alive(int(pid)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        removed.append(path.name)
    return removed


def open_no_link(path: Path) -> TextIO:
    """Open a file for appending and reading, made where it is not there; a link is not followed.

    Raises:
        OSError: of errno ELOOP for a link.
    """
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644), "a+", encoding="utf-8")


@contextmanager
def clear_disk_errors(folder: Path, needed: int) -> Iterator[None]:
    """Turn a full or read-only disk into a :class:`DiskError` that says what is needed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(folder).free / 2**20 if folder.exists() else 0
            needs = f"{needed / 2**20:.0f} MiB are needed and " if needed else ""
            raise DiskError(
                f"{folder}: the disk is full: {needs}{free:.0f} MiB are free; make room or choose another folder"
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG):
            raise _unwritable(folder, error) from error
        raise


def _make_folder(path: Path, named: Path, needed: int) -> None:
    """Make a folder and those above it; whatever stands in the way is an error of the disk, on the folder ``named``."""
    with clear_disk_errors(named, needed):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP):
                raise _unwritable(named, error) from error
            raise


def _unwritable(folder: Path, error: OSError) -> DiskError:
    return DiskError(f"{folder} cannot be written ({error.strerror}); choose another folder")


def _temporary_name(name: str) -> str:
    # Cut, because a file's name may have 255 bytes at most.
    return f".{name[:60]}{_MARK}{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_path(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
