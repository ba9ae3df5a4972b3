"""Files and folders that appear whole or not at all."""

import errno
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from .errors import DataError
from .json_files import read_json

CONTENTS = ".contents"
_MARK = ".partial-"
_UNFINISHED = re.compile(rf"\..+{re.escape(_MARK)}(?P<host>.+)-(?P<process>\d{{1,9}})-[0-9a-f]{{8}}")


class DiskError(DataError):
    """The disk is full, or a folder cannot be written."""


@contextmanager
def new_file(path: Path, needed: int = 0, *, lasting: bool = True) -> Iterator[Path]:
    """Give the name of a file to write, which replaces ``path`` when the block ends without an error.

    Readers see the old content or the whole new one, also after a power cut, unless it is not ``lasting``: for many
    files that are easily made again. ``needed`` bytes are named where the disk is full.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(_temporary_name(path.name))
    _make_folder(path.parent, path.parent, needed)
    try:
        with clear_disk_errors(path.parent, needed):
            yield temporary
            if lasting:
                _sync_path(temporary)
            temporary.replace(path)
            if lasting:
                _sync_path(path.parent)
    finally:
        with suppress(OSError):  # on a read-only disk it would hide what went wrong
            temporary.unlink(missing_ok=True)


def write_file(path: Path, *chunks: bytes | memoryview, lasting: bool = True) -> Path:
    """Write bytes through :func:`new_file` and return the path."""
    views = [memoryview(c).cast("B") for c in chunks]
    with new_file(path, sum(map(len, views)), lasting=lasting) as temporary, temporary.open("wb") as file:
        file.writelines(views)
    return path


def write_text(path: Path, text: str, *, lasting: bool = True) -> Path:
    """Write text as UTF-8 through :func:`new_file` and return the path."""
    return write_file(path, text.encode("utf-8"), lasting=lasting)


@contextmanager
def new_folder(path: Path, needed: int = 0, *, listed: bool = False, resumed: str = "") -> Iterator[Path]:
    """Give an empty folder to fill, which becomes ``path`` when the block ends without an error.

    Where ``path`` exists by then (another process was faster), the new folder is dropped. ``needed`` is as in
    :func:`new_file`, and so is what is raised. A ``listed`` folder holds a list of what was made in it, which
    :func:`contents` reads. With ``resumed``, a pattern of names, a folder with such files stays after an error or a
    kill, at :func:`resumable`, and is what the next call gives; nobody else may fill it then.
    """
    temporary = resumable(path) if resumed else path.with_name(_temporary_name(path.name))
    if resumed and not any(temporary.glob(resumed)):
        shutil.rmtree(temporary, ignore_errors=True)
    _make_folder(temporary, path.parent, needed)
    try:
        with clear_disk_errors(path.parent, needed):
            yield temporary
            if listed:
                names = sorted(entry.relative_to(temporary).as_posix() for entry in temporary.rglob("*"))
                (temporary / CONTENTS).write_text(json.dumps([*names, CONTENTS]), encoding="utf-8")
            for entry in (*temporary.rglob("*"), temporary):
                _sync_path(entry)
            try:
                temporary.rename(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            _sync_path(path.parent)
    except BaseException:
        if not (resumed and any(temporary.glob(resumed))):
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(temporary, ignore_errors=True)


def resumable(path: Path) -> Path:
    """Return where a folder that a later call fills further lies meanwhile; no process owns it."""
    return path.with_name(f".{path.name[:60]}{_MARK}resumable-0-{0:08x}")


def discard(folder: Path) -> None:
    """Take a folder away at once, so that nobody finds it half deleted; who has opened its files may go on reading.

    Raises:
        DiskError: it cannot be taken away.
    """
    away = folder.with_name(_temporary_name(folder.name))
    with clear_disk_errors(folder.parent, 0), suppress(FileNotFoundError):
        folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def contents(folder: Path) -> list[Path]:
    """Return what a ``listed`` folder held when it was made, the list included; nothing for any other folder."""
    try:
        names = read_json(folder / CONTENTS)
        inside = [Path(name) for name in names]
    except (OSError, ValueError, TypeError):
        return []
    return [folder / path for path in inside if path.parts and not path.is_absolute() and ".." not in path.parts]


def unfinished(folder: Path, *, elsewhere: bool = False) -> list[Path]:
    """Return what processes that died left half-written directly below ``folder``; their names say whose they are.

    With ``elsewhere`` those of other machines count too, of which nobody can tell here whether they run.
    """
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        mark = _UNFINISHED.fullmatch(path.name)
        if mark is None or path.is_symlink():
            continue
        here = mark["host"] == os.uname().nodename
        if not _alive(int(mark["process"])) if here else elsewhere:
            found.append(path)
    return found


def remove_stale(folder: Path) -> list[str]:
    """Remove what is :func:`unfinished` and made by this machine; return the names."""
    found = unfinished(folder)
    for path in found:
        remove(path)
    return [path.name for path in found]


def remove(path: Path) -> None:
    """Remove a file or a whole folder, whoever else may be removing it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


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
            needs = f"{math.ceil(needed / 2**20)} MiB are needed and " if needed else ""
            raise DiskError(
                f"{folder}: the disk is full: {needs}{free:.0f} MiB are free; make room or choose another folder"
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG):
            raise _unwritable(folder, error) from error
        raise


@contextmanager
def of_the_cache() -> Iterator[None]:
    """Say of a :class:`DiskError` that it concerns the cache, and how to choose another."""
    try:
        yield
    except DiskError as error:
        raise DiskError(f"cache {error}, with --cache or UASBENCH_CACHE") from error


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
    return DiskError(f"{folder} cannot be written ({error.strerror}); choose a writable folder")


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
