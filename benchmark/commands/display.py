"""What a person sees while a run goes on: bars on a terminal, one line per finished cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...common.errors import printable
from ...datasets.storing.prepared import ShowProgress
from ..executors.contract import Event, Listener
from ..planning.info import version_warnings
from ..planning.plan import Graph
from ..planning.tasks import Planned

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


@contextmanager
def preparing(console: Console | None) -> Iterator[ShowProgress | None]:
    """Show a bar while data are prepared; nothing appears where everything is prepared already."""
    if console is None:
        yield None
        return
    from rich import progress as parts

    text, left = parts.TextColumn("preparing {task.description}"), parts.TimeRemainingColumn()
    columns = (text, parts.BarColumn(), parts.MofNCompleteColumn(), left)
    with parts.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None, visible=False)

        def show(done: int, total: int, text: str) -> None:
            bars.update(bar, completed=done, total=total, description=text, visible=True)

        yield show


@contextmanager
def shown(console: Console | None, stages: int, listener: Listener) -> Iterator[Listener]:
    """Give a listener that shows each event beside passing it on: progress with the time left, a bar per stage."""
    if console is None:
        yield listener
        return
    from rich import progress as parts
    from rich.markup import escape

    times = (parts.TimeElapsedColumn(), parts.TimeRemainingColumn())
    columns = (parts.TextColumn("{task.description}"), parts.BarColumn(), parts.MofNCompleteColumn(), *times)
    progress = parts.Progress(*columns, console=console, disable=not console.is_terminal)
    overall = progress.add_task("all stages", total=stages)
    bars: dict[str, TaskID] = {}
    started, ended = time.monotonic(), 0

    def show(event: Event) -> None:
        nonlocal ended
        listener(event)
        job = event.job
        if event.kind == "started":
            bars[job.id] = progress.add_task(job.label, total=None)
            return
        if event.kind == "progress":
            done, total = event.value
            progress.update(bars[job.id], completed=done, total=total)
            return
        ended += 1
        if job.id in bars:
            progress.remove_task(bars.pop(job.id))
        progress.update(overall, completed=ended)
        if event.kind == "failed":
            console.print(f"[red]failed[/red]  {job.label}: {escape(printable(str(event.value)))}", highlight=False)
        elif event.kind == "done" and job.task.stage == "measure":
            left = (time.monotonic() - started) / ended * (stages - ended)
            text = f"[green]done[/green]    {job.label}  ({ended}/{stages} stages, about {left:.0f} s left)"
            console.print(text, highlight=False)

    with progress:
        yield show


def remarks(texts: Iterable[str]) -> list[str]:
    """Return what is to be said about the data, a line each; a warning on cases says itself that it is one."""
    return [f"  {text}" if text.startswith("WARNING") else f"  note: {text}" for text in texts]


def announce(
    console: Console | None, graph: Graph, tasks: Sequence[Planned], damaged: Sequence[str], needed: int, free: int
) -> None:
    """Say what will be done, on what, what will not, and what was damaged."""
    if console is None:
        return
    lines = []
    for task in tasks:
        data, what = task.data, "phantom, synthetic CT" if task.data.phantom else "files"
        sets = f"{data.dataset} ({len(data.test)} cases) after {data.train} ({len(data.healthy)} cases)"
        lines.append(f"{sets}, {what}; {len(task.candidates)} configurations")
        lines += remarks(data.warnings)
        lines += [f"  skipped {skip.method}: {skip.reason}" for skip in task.skipped]
        lines += [f"  failed {label}: {reason}" for label, reason in task.broken]
    lines += [f"  note: {warning}" for warning in version_warnings(graph.folder)]
    lines += remarks(damaged)
    why = "its configuration, data or source changed; the old record is in stale/"
    lines += [f"  outdated {key.slug}: {why}" for key in graph.replaced]
    lines.append(
        f"{len(graph.jobs)} stages to do, {len(graph.finished)} cells already done; "
        f"maps take up to {needed / 2**20:.0f} MiB of {free / 2**30:.0f} GiB free; folder {graph.folder.path}"
    )
    for line in lines:
        console.print(printable(line), highlight=False, markup=False)
