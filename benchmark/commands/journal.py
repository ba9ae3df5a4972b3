"""What a run does at present, written down by its own process in ``RUN/progress.jsonl`` for any other to read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ...common.atomic import DiskError, open_no_link, write_text
from ..executors.contract import Event, Job, Listener
from ..runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

FINISHED, STOPPED, CLOSING = "finished", "stopped", "closing"


class Journal:
    """Passes events on and writes a line for each: ``[what, job or text, time, value]``, times in seconds since 1970.

    The first line is the plan of the command. Of a stage's progress every whole per cent is a line at most. A line that
    cannot be written is lost: nobody's result depends on it.
    """

    def __init__(
        self,
        folder: RunFolder,
        jobs: Sequence[Job],
        workers: int,
        gpus: int | None,
        listener: Listener,
        tables_s: float = 0.0,
    ) -> None:
        self.folder = folder
        self.listener = listener
        self._percent: dict[str, int] = {}
        places = {job.id: place for place, job in enumerate(jobs)}
        plan = {
            "process": process(),
            "at": time.time(),
            "workers": workers,
            "gpus": gpus,
            "tables_s": tables_s,
            "jobs": [
                [j.id, j.task.stage, j.label, j.resources.seconds, j.resources.gpus, [places[n] for n in j.needs]]
                for j in jobs
            ],
        }
        folder.ledger.add(folder.progress)
        with suppress(OSError, DiskError):
            write_text(folder.progress, json.dumps(plan) + "\n")

    def __call__(self, event: Event) -> None:
        self.listener(event)
        value: Any = event.value
        if event.kind == "progress":
            done, total = event.value
            percent = 100 * done // total if total else 0
            if self._percent.get(event.job.id) == percent:
                return
            self._percent[event.job.id] = percent
            value = percent
        elif event.kind == "done":
            value = event.seconds
        note(self.folder, event.kind, event.job.id, value)


def note(folder: RunFolder, what: str, about: str, value: Any = None) -> None:
    """Add a line, where the run has a journal: an event of a job, what the command does now, or that it has ended."""
    line = json.dumps([what, about, time.time(), value], default=str) + "\n"
    with suppress(OSError):
        if folder.progress.exists():
            with open_no_link(folder.progress) as file:
                file.write(line)


@contextmanager
def closing(folder: RunFolder, console: Console | None) -> Iterator[Callable[[str], None]]:
    """Give what a command calls with what it does after the last stage; with the end of the block it has finished."""

    def tell(text: str) -> None:
        note(folder, CLOSING, text)
        if console is not None:
            console.print(f"{text} …", highlight=False)

    try:
        yield tell
    except BaseException:
        note(folder, STOPPED, "")
        raise
    note(folder, FINISHED, "")


def process() -> dict[str, Any]:
    """Return what tells this process from all others: a number that is given again, and when it was born."""
    import psutil

    return {"pid": os.getpid(), "born": psutil.Process().create_time(), "host": os.uname().nodename}
