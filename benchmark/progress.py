"""What a person sees while a run goes on: bars on a terminal, one line per finished cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from .executors.contract import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


class RunDisplay:
    """Overall progress with an estimate of the time left, and a bar per running stage."""

    def __init__(self, console: Console, total: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.console = console
        self.live = console.is_terminal
        self.total = total
        self.done = 0
        self.started = time.monotonic()
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not self.live,
        )
        self._overall = self._progress.add_task("all stages", total=total)

    def __enter__(self) -> RunDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        job = event.job
        if event.kind == "started":
            self._bars[job.id] = self._progress.add_task(job.label, total=None)
        elif event.kind == "progress":
            done, total = event.value
            self._progress.update(self._bars[job.id], completed=done, total=total)
        else:
            self._finish(event)

    def _finish(self, event: Event) -> None:
        self.done += 1
        bar = self._bars.pop(event.job.id, None)
        if bar is not None:
            self._progress.remove_task(bar)
        self._progress.update(self._overall, completed=self.done)
        if event.kind == "failed":
            self._print(f"[red]failed[/red]  {event.job.label}: {_plain(str(event.value))}")
        elif event.kind == "done" and event.job.task.stage == "measure":
            elapsed = time.monotonic() - self.started
            left = elapsed / self.done * (self.total - self.done)
            self._print(
                f"[green]done[/green]    {event.job.label}  ({self.done}/{self.total} stages, about {left:.0f} s left)"
            )

    def _print(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@contextmanager
def preparation(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar while data are prepared; nothing appears where everything is prepared already."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("preparing {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None, visible=False)

        def show(done: int, total: int, text: str) -> None:
            bars.update(bar, completed=done, total=total, description=text, visible=True)

        yield show
