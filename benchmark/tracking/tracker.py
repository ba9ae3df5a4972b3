"""The one owner of MLflow: mirrors a run folder to a tracking server, from the parent process alone.

The records stay the source of truth. ``run.json`` keeps the ids under ``mlflow``, so that a rerun goes on in the same
parent run, but what the server has is asked of the server: a cell is there when exactly one active, finished run
under the present parent carries its content addresses. Whatever else carries its name is deleted and sent again.

One process at a time sends a run, under ``RUN/mlflow.lock``: two would each make the runs that they find missing.
"""

from __future__ import annotations

import queue
import shlex
import threading
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from ...common.errors import UasbenchError
from ..runs.folder import RunFolder, hold
from ..runs.records import Record
from .mirror import Mirror
from .progress import AT_THE_END, INTERRUPTED, ON_REQUEST, GivenUpError, Patience, Progress
from .server import TrackingError, first_line, tracking_uri

if TYPE_CHECKING:
    from rich.console import Console


class Tracker:
    """Sends cells to MLflow from a thread of the parent while the run goes on.

    A server that fails is reported once and left alone: no cell waits for it, and nothing is lost.
    """

    def __init__(self, uri: str | None, console: Console | None, patience: Patience = AT_THE_END) -> None:
        self.uri = uri
        self.console = console
        self.patience = patience
        self.problem: str | None = None
        self._events: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._progress = Progress()
        self._folder: RunFolder | None = None
        self._thread: threading.Thread | None = None
        self._lock = ExitStack()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stopped.set()
        self._wait(INTERRUPTED)

    def start(self, folder: RunFolder) -> None:
        self._folder = folder
        try:
            self._lock.enter_context(_alone(folder))
        except UasbenchError as error:
            self.problem = first_line(error)
            return
        self._thread = threading.Thread(target=self._work, args=(folder,), name="mlflow", daemon=True)
        self._thread.start()

    def cell(self, record: Record) -> None:
        if self.problem is None:
            self._events.put(record)

    def finish(self) -> None:
        """Wait until everything, tables and figures included, is sent or the server has failed; raise nothing.

        A server that hangs costs no more than the tracker's patience.
        """
        self._wait(self.patience)
        if self.problem and self._folder is not None and self.console is not None:
            path = shlex.quote(str(self._folder.path))
            self.console.print(
                f"MLflow: {self.problem}; {_unsent(self._folder, self._progress)}; no number is lost, "
                f"this sends the rest later: bench track {path}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _wait(self, patience: Patience) -> None:
        if self._thread is None or self._folder is None:
            return
        self._events.put(None)
        if why := self._progress.wait(self._thread, patience):
            self.problem = f"{_address(self._folder, self.uri)} {why}"
        self._thread = None
        self._lock.close()

    def _work(self, folder: RunFolder) -> None:
        try:
            self._send(folder)
        except GivenUpError:
            return
        except Exception as error:
            if self.problem is None:
                self.problem = _problem(folder, self.uri, error)

    def _send(self, folder: RunFolder) -> None:
        stopped = self._progress.stopped
        live = Mirror(folder, self.uri, self._progress)
        live.begin()
        while not stopped.is_set() and (record := self._events.get()) is not None:
            live.cell(record)
        if not stopped.is_set():
            Mirror(folder, self.uri, self._progress).send(files=True)
        if stopped.is_set():
            live.end("KILLED")


def publish(folder: RunFolder, uri: str | None = None, *, files: bool = True, patience: Patience = ON_REQUEST) -> int:
    """Send what the server (None: the run's own) lacks and return how many cells were sent.

    ``files`` sends tables, report and figures too, which are made at the end of a run.

    Raises:
        RunFolderError: another bench works in the folder, or sends it.
        TrackingError: the server cannot be reached, hangs, or refuses cells (the others have been sent then).
    """
    progress = Progress()
    outcome: list[int | BaseException] = []

    def work() -> None:
        try:
            outcome.append(Mirror(folder, uri, progress).send(files=files))
        except BaseException as error:
            outcome.append(error)

    with hold(folder), _alone(folder):
        thread = threading.Thread(target=work, name="mlflow", daemon=True)
        thread.start()
        try:
            why = progress.wait(thread, patience)
        except BaseException:
            progress.give_up(thread)
            raise
        if why:
            unsent = _unsent(folder, progress)
            raise TrackingError(f"{_address(folder, uri)} {why}; {unsent}; the same command goes on from there")
    (result,) = outcome
    if isinstance(result, Exception):
        raise TrackingError(_problem(folder, uri, result)) from result
    if isinstance(result, BaseException):
        raise result
    return result


def _alone(folder: RunFolder) -> AbstractContextManager[None]:
    return hold(folder, "mlflow.lock", "sends to MLflow what lies in")


def _unsent(folder: RunFolder, progress: Progress) -> str:
    slugs = {path.stem for path in folder.records_dir.glob("*.json")}
    missing = [f"{len(slugs - progress.cells)} of {len(slugs)} cells"] if slugs - progress.cells else []
    return f"not sent: {' and '.join([*missing, *([] if progress.files else ['the files of the run'])])}"


def _problem(folder: RunFolder, uri: str | None, error: Exception) -> str:
    if isinstance(error, UasbenchError):
        return first_line(error)
    return f"{_address(folder, uri)} does not take the run: {first_line(error)}"


def _address(folder: RunFolder, uri: str | None) -> str:
    try:
        return tracking_uri(folder, uri)
    except UasbenchError as unreadable:
        return f"MLflow ({first_line(unreadable)})"
