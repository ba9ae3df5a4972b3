"""What a person sees while a run goes on: bars on a terminal, one line per finished cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from ...datasets.storing.prepared import ShowProgress
from ..executors.contract import Event, Listener
from ..planning.info import version_warnings
from ..planning.plan import Graph
from ..planning.tasks import Planned

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
def preparing(console: Console | None) -> Iterator[ShowProgress | None]:
    """Show a bar while data are prepared; nothing appears where everything is prepared already."""
    if console is None:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("preparing {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None, visible=False)

        def show(done: int, total: int, text: str) -> None:
            bars.update(bar, completed=done, total=total, description=text, visible=True)

        yield show


@contextmanager
def shown(console: Console | None, jobs: int, listener: Listener) -> Iterator[Listener]:
    """Give a listener that shows each event beside passing it on."""
    if console is None:
        yield listener
        return
    with RunDisplay(console, jobs) as display:

        def both(event: Event) -> None:
            listener(event)
            display(event)

        yield both


def announce(console: Console | None, graph: Graph, tasks: Sequence[Planned], needed: int, free: int) -> None:
    """Say what will be done, on what, and what will not."""
    if console is None:
        return

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    for task in tasks:
        data = task.data
        what = "phantom, synthetic CT" if data.phantom else "files"
        say(
            f"{data.dataset} ({len(data.test)} cases) after {data.train} ({len(data.healthy)} cases), {what}; "
            f"{len(task.candidates)} configurations"
        )
        for warning in data.warnings:
            say(f"  note: {warning}")
        for skip in task.skipped:
            say(f"  skipped {skip.method}: {skip.reason}")
        for label, reason in task.broken:
            say(f"  failed {label}: {reason}")
    for warning in version_warnings(graph.folder):
        say(f"  note: {warning}")
    for key in graph.replaced:
        say(f"  outdated {key.slug}: its configuration, data or source changed; the old record is in stale/")
    say(
        f"{len(graph.jobs)} stages to do, {len(graph.finished)} cells already done; "
        f"maps take up to {needed / 2**20:.0f} MiB of {free / 2**30:.0f} GiB free; folder {graph.folder.path}"
    )
