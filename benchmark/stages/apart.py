"""Runs the part of a stage that executes a method's code in a process of its own, watched from outside.

The inner process has a wall around it, a session, a folder for temporary files and two pipes, and nothing else that is
open: one for what it prints, one for what it reports as lines of JSON. Its supervisor holds the lock and the log, sees
every way in which the inner one ends, and then ends whatever that has started.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from ...common.errors import UasbenchError, summary
from ...common.json_files import parsed
from ...common.processes import adopt_orphans, die_with_parent, end_descendants, readable
from .task import Progress
from .wall import SECRETS, Places, raise_wall

PROGRESS_EVERY_S = 0.2
LOG_LIMIT, LOG_END = 4 * 2**20, 64 * 2**10
LONGEST_LINE, LONGEST_ERROR = 2**16, 2_000
_REPORTS = 3

Inside = Callable[[Progress], None]


class StageError(UasbenchError):
    """The inner process failed; the message is its own, in one line, or says how it died."""


class Here:
    """Runs in this process, without a wall: for tests, notebooks and ``bench rescore``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __call__(self, inside: Inside, places: Places | None) -> None:
        inside(self._progress)


class Apart:
    """Runs in a fork of this process, which must have one thread only.

    Where ``submitter`` is a descriptor, its end means that nobody waits for the outcome any more.
    """

    def __init__(self, progress: Progress, submitter: int | None = None) -> None:
        self._progress = progress
        self._submitter = submitter

    def __call__(self, inside: Inside, places: Places | None) -> None:
        """Run ``inside``; with ``places`` behind a wall.

        Raises:
            StageError: it raised, exited or was killed.
            SystemExit: the submitter has ended.
        """
        adopt_orphans()
        scratch = Path(tempfile.mkdtemp(prefix=_scratch_of(os.getpid())))
        (output, printed), (reports, reported) = os.pipe(), os.pipe()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            if (process := os.fork()) == 0:
                _run(inside, places, scratch, printed, reported)
            os.close(printed)
            os.close(reported)
            error = self._watch(process, output, reports)
        finally:
            end_descendants()
            for descriptor in (output, reports):
                os.close(descriptor)
            shutil.rmtree(scratch, ignore_errors=True)
        if error is not None:
            raise StageError(error)

    def _watch(self, process: int, output: int, reports: int) -> str | None:
        """Relay what the inner process prints and reports until it has ended; return what went wrong, or None."""
        log, told = _Log(), _Reports(self._progress)
        feeds = {output: log.write, reports: told.read}
        ended = os.pidfd_open(process)
        try:
            while ended not in (ready := self._ready([*feeds, ended])):
                for descriptor in ready:
                    if not _feed(descriptor, feeds[descriptor]):
                        del feeds[descriptor]
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            end_descendants()  # so that nobody writes into the pipes any more
            for descriptor, sink in feeds.items():
                os.set_blocking(descriptor, False)
                with suppress(BlockingIOError):
                    while _feed(descriptor, sink):
                        pass
        finally:
            os.close(ended)
            log.close()
        return told.error if told.ended else death(status)

    def _ready(self, descriptors: list[int]) -> list[int]:
        watched = descriptors if self._submitter is None else [*descriptors, self._submitter]
        ready = readable(watched)
        if self._submitter in ready:
            raise SystemExit("whoever submitted this stage has ended")
        return ready


def clear_scratch(pid: int) -> None:
    """Delete the temporary folder of a supervisor that was killed before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_scratch_of(pid)}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _scratch_of(pid: int) -> str:
    """Return how the temporary folders of a process begin; containers that share the disk number theirs alike."""
    return f"uasbench-{Path('/proc/self/ns/pid').stat().st_ino}-{pid}-"


def death(status: int | None) -> str:
    """Say how a process ended that reported nothing; a negative status is a signal, None one that nobody saw."""
    if status is None:
        return "the worker ended without a result, and so did the process that would know why"
    if status < 0:
        hint = "; the kernel may have run out of memory" if -status == signal.SIGKILL else ""
        return f"the worker was killed by {signal.Signals(-status).name}{hint}"
    return f"the worker ended with exit status {status} and no result"


def _run(inside: Inside, places: Places | None, scratch: Path, printed: int, reported: int) -> NoReturn:
    """Be the inner process."""
    status = 1
    try:
        die_with_parent()
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _keep_open(printed, reported)
        for name in SECRETS:
            os.environ.pop(name, None)
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        os.chdir(scratch)
        if places is not None:
            raise_wall(replace(places, writes=(*places.writes, scratch)))
        inside(_seldom())
        error = None
    except BaseException as raised:
        traceback.print_exc()
        error = summary(raised)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        _tell(error=error)
        status = 0
    finally:
        os._exit(status)


def _keep_open(printed: int, reported: int) -> None:
    """Leave open nothing to read from (0), what is printed to (1 and 2) and what is reported to (3)."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    above = [fcntl.fcntl(d, fcntl.F_DUPFD, _REPORTS + 1) for d in (nothing, printed, printed, reported)]
    for number, descriptor in enumerate(above):
        os.dup2(descriptor, number, inheritable=number != _REPORTS)
    os.closerange(_REPORTS + 1, os.sysconf("SC_OPEN_MAX"))
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _tell(**report: Any) -> None:
    os.write(_REPORTS, json.dumps(report).encode() + b"\n")


def _seldom() -> Progress:
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= PROGRESS_EVERY_S:
            last = now
            _tell(progress=[int(done), int(total)])

    return report


def _feed(descriptor: int, sink: Callable[[bytes], None]) -> bool:
    """Hand on what can be read without waiting; return whether there may be more."""
    data = os.read(descriptor, 65536)
    if data:
        sink(data)
    return bool(data)


class _Reports:
    """What the inner process says of itself, which may be anything: its method can write there too."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._rest = b""
        self.ended = False
        self.error: str | None = None

    def read(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data[:LONGEST_LINE]).split(b"\n")
        self._rest = self._rest[:LONGEST_LINE]
        for line in lines:
            match _parsed(line):
                case {"progress": [int(done), int(total)]}:
                    self._progress(done, total)
                case {"error": str() | None as error}:
                    self.ended, self.error = True, None if error is None else error[:LONGEST_ERROR]


def _parsed(line: bytes) -> Any:
    try:
        return parsed(line)
    except ValueError:
        return None


class _Log:
    """Hands on what is printed, up to a limit; of what goes beyond, the end."""

    def __init__(self) -> None:
        self._room = LOG_LIMIT
        self._end = b""
        self._dropped = 0

    def write(self, data: bytes) -> None:
        now, later = data[: self._room], data[self._room :]
        self._room -= len(now)
        if now:
            os.write(1, now)
        if later:
            end = self._end + later
            self._end = end[-LOG_END:]
            self._dropped += len(end) - len(self._end)

    def close(self) -> None:
        if self._dropped:
            os.write(1, f"\n[{self._dropped} bytes left out: a log has at most {LOG_LIMIT}]\n".encode())
        os.write(1, self._end)
