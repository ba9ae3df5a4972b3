"""Runs a plan: prepare, fit, map, measure; whatever finishes is kept, whatever fails is a row."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..common.atomic import remove_stale
from ..datasets.storing.store import Store
from . import device as devices
from .catalogue.registry import datasets, runnable
from .executors.contract import Event, Executor, Place, find_executor
from .executors.schedule import run_jobs
from .locations import cache_root, data_root
from .planning.fits import trainable
from .planning.options import RunOptions
from .planning.plan import Graph, PlanError, plan_cells
from .planning.selection import Selection, select
from .planning.task_data import prepare_task, task_pairs
from .runs.folder import RunFolder
from .runs.info import Planned, check_source, retire_outdated, version_warnings, write_info, write_timing
from .runs.lock import hold
from .runs.records import CellKey, Failure, Record, write_json
from .stages.task import ELSEWHERE, Numerics

if TYPE_CHECKING:
    from rich.console import Console

PHANTOM_SIZE: dict[str, Literal["smoke", "quick", "full"]] = {"smoke": "smoke", "quick": "quick", "paper": "full"}
OnRecord = Callable[[Record], None]


@dataclass
class Outcome:
    """What a run left behind."""

    folder: RunFolder
    done: int
    failed: int


def run(
    options: RunOptions,
    *,
    console: Console | None = None,
    on_start: Callable[[RunFolder], None] = lambda _: None,
    on_record: OnRecord = lambda _: None,
) -> Outcome:
    """Do what is still to do of a run.

    Args:
        on_start: called with the run folder once ``run.json`` is written.
        on_record: called with the record of each cell as it lands.

    Raises:
        UasbenchError: the options, the data or the output folder cannot be used; the message says how to mend it.
    """
    started = time.monotonic()
    device = devices.resolve_device(options.device)
    precision = devices.resolve_precision(options.precision, device)
    numerics = Numerics(device=device, threads=options.threads, precision=precision)
    workers = options.workers or max(1, devices.default_workers(device))
    executor = find_executor(options.executor)
    folder = _writable(options.folder())
    check_source(folder, options)
    with hold(folder):
        tasks = planned_tasks(options, workers, console)
        for leftover in (folder.fits_dir, folder.maps_dir):
            remove_stale(leftover)
        retired = retire_outdated(folder, tasks)
        graph = Graph(options, numerics, folder)
        cells = [(c, t.data) for t in tasks for c in plan_cells(options, numerics, t.data, t.candidates)]
        for cell, data in cells:
            graph.add(cell, data)
        needed, free = graph.check_disk()
        graph.replaced = [*retired, *(key for key in graph.replaced if key not in retired)]
        _announce(console, graph, tasks, needed, free)
        write_info(folder, options, numerics, workers, tasks, [cell.key.slug for cell, _ in cells])
        on_start(folder)
        book = _Bookkeeper(graph, folder, on_record)
        for task in tasks:
            book.broken_in_the_plan(task, options.seeds)
        for key in graph.finished:
            on_record(folder.record(folder.record_path(key)))
        place = Place(folder, workers, device, options.limit_s, tuple(sorted(graph.packages)))
        _execute(graph, book, executor, place, console)
        wall = time.monotonic() - started
        write_timing(folder, wall_s=wall, workers=workers, stage_s=book.stage_s, work_s=book.fit_and_score_s)
    return Outcome(folder, book.done + len(graph.finished), book.failed)


class _Bookkeeper:
    """Turns events into records, failure files and counts."""

    def __init__(self, graph: Graph, folder: RunFolder, on_record: OnRecord) -> None:
        self.graph = graph
        self.folder = folder
        self.on_record = on_record
        self.done = 0
        self.failed = 0
        self.stage_s = {"fit": 0.0, "map": 0.0, "measure": 0.0}
        self.fit_and_score_s = 0.0

    def __call__(self, event: Event) -> None:
        """Account for an event."""
        job = event.job
        if event.kind in ("done", "failed"):
            self.stage_s[job.task.stage] += event.seconds
        if event.kind == "done" and job.task.stage == "measure":
            (key,) = self.graph.cells_of[job.id]
            self.folder.failure_path(key).unlink(missing_ok=True)
            self.done += 1
            record = self.folder.record(self.folder.record_path(key))
            self._count_work(record)
            self.on_record(record)
        elif event.kind == "failed":
            log = self.folder.logs_dir / f"{job.id}.log"
            for key in self.graph.cells_of[job.id]:
                self.failed += 1
                failure = Failure(cell=key, stage=job.task.stage, error=str(event.value), log=str(log))
                write_json(self.folder.failure_path(key), failure)

    def broken_in_the_plan(self, task: Planned, seeds: Sequence[int]) -> None:
        """Make rows of methods whose own code failed before anything could be computed."""
        for label, reason in task.broken:
            for seed in seeds:
                key = CellKey(method=label, dataset=task.data.dataset, train=task.data.train, seed=seed)
                self.failed += 1
                write_json(self.folder.failure_path(key), Failure(cell=key, stage="plan", error=reason))

    def _count_work(self, record: Record) -> None:
        if f"map-{record.cell.slug}" in self.graph.jobs:
            self.fit_and_score_s += record.cost.score_s
        for fit in record.ids.fits:
            job = f"fit-{fit}"
            if job in self.graph.jobs and record.cell == self.graph.cells_of[job][0]:
                self.fit_and_score_s += self.folder.fit_seconds(fit)


def planned_tasks(options: RunOptions, workers: int, console: Console | None) -> list[Planned]:
    """Select methods and prepare data for every task of the options.

    Raises:
        UasbenchError: no method can run on a task, or its data cannot be used.
    """
    sets, known = datasets(), runnable()
    pairs = task_pairs(options, sets)
    cache = cache_root(options.cache)
    selections = [select(options, sets.card(pair[0]).anatomy, pair[0], known) for pair in pairs]
    for selection, pair in zip(selections, pairs, strict=True):
        _refuse_nobody(selection, pair[0])
    roots = [_root(options, [sets.card(name) for name in pair], cache) for pair in pairs]
    store = Store(cache / "store")
    tasks = []
    for pair, root, chosen in zip(pairs, roots, selections, strict=True):
        views = list(dict.fromkeys(c.view for c in chosen.candidates if c.view is not None))
        with _preparing(console) as progress:
            data = prepare_task(
                options,
                pair,
                sets,
                root,
                store,
                views,
                workers=workers,
                progress=progress,
                others=any(c.training == "unseen" for c in chosen.candidates),
            )
        chosen.candidates, refused = trainable(chosen.candidates, data)
        chosen.skipped += refused
        _refuse_nobody(chosen, pair[0])
        tasks.append(Planned(data, chosen.candidates, chosen.skipped, chosen.broken))
    return tasks


def _refuse_nobody(selection: Selection, dataset: str) -> None:
    if selection.candidates:
        return
    reasons = [f"{s.method}: {s.reason}" for s in selection.skipped]
    reasons += [f"{label}: {reason}" for label, reason in selection.broken]
    raise PlanError(f"no method can run on {dataset}: {'; '.join(reasons)}")


def import_maps(source: Path, method: str, options: RunOptions, threshold: float | None) -> tuple[RunFolder, Record]:
    """Measure maps of another program as a cell of a run.

    Raises:
        UasbenchError: the data, the maps or the run folder cannot be used.
    """
    from .commands.importing import import_maps as measure_maps

    sets = datasets()
    (pair,) = task_pairs(options, sets)
    cache = cache_root(options.cache)
    root = _root(options, [sets.card(name) for name in pair], cache)
    folder = _writable(options.folder())
    check_source(folder, options)
    data = prepare_task(options, pair, sets, root, Store(cache / "store"), [], workers=devices.default_workers("cpu"))
    record = measure_maps(source, method, folder, options, data, threshold)
    slug = record.cell.slug
    if not folder.run_json.exists():
        write_info(folder, options, ELSEWHERE, 1, [Planned(data, [], [], [])], [slug])
    folder.update_info(cells=sorted({*folder.info()["cells"], slug}))
    return folder, record


def _root(options: RunOptions, cards: Sequence[Any], cache: Path) -> Path:
    if not options.phantom:
        return data_root(options.data_root, cards)
    if options.data_root is not None:
        raise PlanError("--phantom and --data-root exclude each other: synthetic and real numbers never share a run")
    from ..datasets.phantom.disk import phantom_root

    size = PHANTOM_SIZE[options.profile]
    return phantom_root(cache / "phantom", anatomy=cards[0].anatomy, seed=options.phantom_seed, size=size)


def prepare_only(options: RunOptions, console: Console | None = None) -> list[str]:
    """Prepare the data of a run and say what lies where; nothing is trained."""
    workers = options.workers or max(1, devices.default_workers("cpu"))
    lines = []
    for task in planned_tasks(options, workers, console):
        data = task.data
        views = len({c.view for c in task.candidates if c.view is not None})
        lines.append(f"{data.dataset}: {len(data.test)} cases; {data.train}: {len(data.healthy)} cases; {views} views")
        lines += [f"  note: {warning}" for warning in data.warnings]
    return [*lines, f"store: {cache_root(options.cache) / 'store'}"]


def _writable(path: Path) -> RunFolder:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.write_bytes(b"\0" * 65536)
        probe.unlink()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free space or choose another --out" if full else "choose another --out or mend its permissions"
        raise PlanError(f"cannot write to the run folder {path}: {error.strerror}; {fix}") from error
    return RunFolder(path)


def _execute(graph: Graph, book: _Bookkeeper, executor: type[Executor], place: Place, console: Console | None) -> None:
    jobs = list(graph.jobs.values())
    if not jobs:
        return
    if console is None:
        run_jobs(executor(place), jobs, book, place.limit_s)
        return
    from .progress import RunDisplay

    with RunDisplay(console, len(graph.jobs)) as display:

        def both(event: Event) -> None:
            book(event)
            display(event)

        run_jobs(executor(place), jobs, both, place.limit_s)


def _announce(console: Console | None, graph: Graph, tasks: Sequence[Planned], needed: int, free: int) -> None:
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


def _preparing(console: Console | None) -> Any:
    if console is None:
        return nullcontext(None)
    from .progress import preparation

    return preparation(console)


def command_line() -> str:
    """Return the command as it was typed."""
    return shlex.join(["bench", *sys.argv[1:]])
