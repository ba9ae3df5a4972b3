"""What a person sees while a run goes on: bars on a terminal, one line per finished cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...common.errors import printable
from ...datasets.storing.prepared import ShowProgress
from ..executors.contract import Event, Job, Listener
from ..planning.info import version_warnings
from ..planning.plan import Graph
from ..planning.tasks import Planned
from ..planning.time_left import TimeLeft
from ..runs.records import FIT_SEAL, MAP_SEAL

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
def shown(console: Console | None, jobs: Sequence[Job], time_left: TimeLeft, listener: Listener) -> Iterator[Listener]:
    """Give a listener that shows each event beside passing it on: progress with the time left, a bar per stage."""
    if console is None:
        yield listener
        return
    from rich import progress as parts
    from rich.markup import escape

    times = (parts.TimeElapsedColumn(), parts.TextColumn("{task.fields[left]}"))
    columns = (parts.TextColumn("{task.description}"), parts.BarColumn(), parts.MofNCompleteColumn(), *times)
    progress = parts.Progress(*columns, console=console, disable=not console.is_terminal)
    bars: dict[str, TaskID] = {}
    ended = 0

    def left() -> str:
        seconds = time_left.seconds(time.monotonic())
        return "" if seconds is None else f"about {duration(seconds)} left"

    overall = progress.add_task("all stages", total=len(jobs), left=left())
    if not console.is_terminal and left():
        console.print(left(), highlight=False)

    def show(event: Event) -> None:
        nonlocal ended
        listener(event)
        job = event.job
        time_left.note(event, time.monotonic())
        ended += event.kind in ("done", "failed", "cancelled")
        progress.update(overall, completed=ended, left=left())
        if event.kind == "started":
            bars[job.id] = progress.add_task(job.label, total=None, left="")
            return
        if event.kind == "again":
            progress.remove_task(bars.pop(job.id))
            console.print(f"again   {job.label}: {escape(printable(str(event.value)))}", highlight=False)
            return
        if event.kind == "progress":
            done, total = event.value
            progress.update(bars[job.id], completed=done, total=total)
            return
        if job.id in bars:
            progress.remove_task(bars.pop(job.id))
        if event.kind == "failed":
            console.print(f"[red]failed[/red]  {job.label}: {escape(printable(str(event.value)))}", highlight=False)
        elif event.kind == "done" and job.task.stage == "measure":
            told = ", ".join(filter(None, (f"{ended}/{len(jobs)} stages", left())))
            console.print(f"[green]done[/green]    {job.label}  ({told})", highlight=False)

    with progress:
        yield show


def duration(seconds: float) -> str:
    """Return a length of time in the unit that reads best.

    >>> duration(14.4), duration(1800), duration(108_200)
    ('14 s', '30 min', '30.1 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"


def remarks(texts: Iterable[str]) -> list[str]:
    """Return what is to be said about the data, a line each; a warning on cases says itself that it is one."""
    return [f"  {text}" if text.startswith("WARNING") else f"  note: {text}" for text in texts]


def taken_text(graph: Graph) -> Iterator[str]:
    """Say what is taken from which other run."""
    for other in graph.others.folders:
        kinds = [seal.name for seal in graph.taken.values() if seal.is_relative_to(other.path)]
        why = "" if kinds else "; what it holds has other settings, data, numerics or source"
        yield f"trainings taken from {other.path}: {kinds.count(FIT_SEAL)}, maps: {kinds.count(MAP_SEAL)}{why}"


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
    lines += [f"  {text}" for text in taken_text(graph)]
    lines += [f"  outdated {key.slug}: {why}" for key in graph.replaced]
    lines.append(
        f"{len(graph.jobs)} stages to do, {len(graph.finished)} cells already done; "
        f"maps take up to {needed / 2**20:.0f} MiB of {free / 2**30:.0f} GiB free; folder {graph.folder.path}"
    )
    for line in lines:
        console.print(printable(line), highlight=False, markup=False)
