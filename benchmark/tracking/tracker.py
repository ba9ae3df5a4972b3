"""The one owner of MLflow: mirrors a run folder to a tracking server, from the parent process alone.

The records stay the source of truth. ``run.json`` keeps the ids under ``mlflow``, so that a rerun goes on in the same
parent run, but what the server has is asked of the server: a cell is there when exactly one active, finished run
under the present parent carries its content addresses. Whatever else carries its name is deleted and sent again.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from ...common.errors import UasbenchError
from ..runs.folder import RunFolder
from ..runs.records import Record
from .mirror import Mirror
from .server import TrackingError, first_line, tracking_uri

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED_WAIT_S = 5.0


class Tracker:
    """Sends cells to MLflow from a thread of the parent while the run goes on.

    A server that fails is reported once and left alone: no cell waits for it, and nothing is lost.
    """

    def __init__(self, uri: str | None, console: Console | None) -> None:
        self.uri = uri
        self.console = console
        self.problem: str | None = None
        self._events: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._interrupted = threading.Event()
        self._folder: RunFolder | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._thread is None or not self._thread.is_alive():
            return
        if kind is not None:
            self._interrupted.set()
        self._events.put(None)
        self._thread.join(timeout=None if kind is None else INTERRUPTED_WAIT_S)

    def start(self, folder: RunFolder) -> None:
        self._folder = folder
        self._thread = threading.Thread(target=self._work, args=(folder,), name="mlflow", daemon=True)
        self._thread.start()

    def cell(self, record: Record) -> None:
        if self.problem is None:
            self._events.put(record)

    def finish(self) -> None:
        """Wait until everything, tables and figures included, is sent or the server has failed; raise nothing."""
        if self._thread is None or self._folder is None:
            return
        self._events.put(None)
        self._thread.join()
        if self.problem and self.console is not None:
            self.console.print(
                f"MLflow: {self.problem}; no number is lost, 'bench track {self._folder.path}' sends them later",
                markup=False,
                highlight=False,
            )

    def _work(self, folder: RunFolder) -> None:
        try:
            live = Mirror(folder, self.uri, self._interrupted)
            live.begin()
            while not self._interrupted.is_set() and (record := self._events.get()) is not None:
                live.cell(record)
            if not self._interrupted.is_set():
                Mirror(folder, self.uri, self._interrupted).send(files=True)
            if self._interrupted.is_set():
                live.end("KILLED")
        except Exception as error:
            self.problem = _problem(folder, self.uri, error)


def publish(folder: RunFolder, uri: str | None = None, *, files: bool = True) -> int:
    """Send what the server (None: the run's own) lacks and return how many cells were sent.

    ``files`` sends tables, report and figures too, which are made at the end of a run.

    Raises:
        TrackingError: the server cannot be reached, or refuses cells (the others have been sent then).
    """
    try:
        return Mirror(folder, uri).send(files=files)
    except Exception as error:
        raise TrackingError(_problem(folder, uri, error)) from error


def _problem(folder: RunFolder, uri: str | None, error: Exception) -> str:
    if isinstance(error, UasbenchError):
        return first_line(error)
    try:
        return f"{tracking_uri(folder, uri)} does not take the run: {first_line(error)}"
    except UasbenchError as unreadable:
        return f"{first_line(error)}; {first_line(unreadable)}"
