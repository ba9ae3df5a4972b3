"""``bench run``: plan, execute, keep the books; whatever finishes is kept, whatever fails is a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...common.atomic import remove_stale
from ...datasets.storing.entries import remove_damaged
from .. import device as devices
from ..calibration import CalibrationError
from ..catalogue.rates import rates
from ..catalogue.registry import datasets, runnable
from ..executors.contract import Event, Place, run_jobs
from ..locations import cache_root
from ..planning.info import check_source, made_again, recorded, retire_damaged, write_info, write_timing
from ..planning.options import RunOptions
from ..planning.plan import Graph
from ..planning.prediction import PROBED_FROM_S, foresee
from ..planning.reuse import Others
from ..planning.tasks import Planned, planned_tasks
from ..planning.time_left import TimeLeft
from ..planning.where import Where, where
from ..runs.folder import RunFolder
from ..runs.records import CellKey, Failure, Record, write_json
from .display import announce, preparing, shown
from .journal import STOPPED, Journal, note

if TYPE_CHECKING:
    from rich.console import Console

OnRecord = Callable[[Record], None]


def run(
    options: RunOptions,
    *,
    console: Console | None = None,
    on_start: Callable[[RunFolder], None] = lambda _: None,
    on_record: OnRecord = lambda _: None,
) -> tuple[RunFolder, int]:
    """Do what is still to do of a run; return its folder and how many cells failed.

    ``on_start`` gets the run folder once ``run.json`` is written, ``on_record`` the record of each cell as it lands.

    Raises:
        UasbenchError: the options, the data or the output folder cannot be used; the message says how to mend it.
    """
    started = time.monotonic()
    place_of = where(options)
    with RunFolder.working(options.folder()) as folder:
        tasks, graph = prepared(options, place_of, folder, console)
        on_start(folder)
        book = Bookkeeper(graph, folder, on_record)
        for task in tasks:
            book.broken_in_the_plan(task, options.seeds)
        carry_out(graph, place_of, options, book, console)
        wall = time.monotonic() - started
        write_timing(folder, wall_s=wall, workers=place_of.workers, stage_s=book.stage_s, work_s=book.fit_and_score_s)
    return folder, book.failed


def prepared(
    options: RunOptions, place: Where, folder: RunFolder, console: Console | None = None
) -> tuple[list[Planned], Graph]:
    """Prepare the data of a run and write its plan into its folder; return its tasks and what is still to do.

    Raises:
        UasbenchError: as :func:`run`.
    """
    check_source(folder, options)
    others = Others(options.reuse, folder.path)
    with preparing(console) as progress:
        tasks = planned_tasks(options, place.readers, progress)
    damaged = retire_damaged(folder)
    graph = Graph(place.numerics, folder, recorded(folder, tasks), others)
    cells = graph.add_all(options, tasks)
    with preparing(console) as progress:
        opened = {(id(t.data), c.candidate.view): t.data for c, t in cells if c.key not in graph.finished}
        entries = remove_damaged(dict.fromkeys(p for (_, v), t in opened.items() for p in t.entries(v)))
        if entries:  # they come again as they were, under the same addresses
            planned_tasks(options, place.readers, progress)
    damaged += made_again([*entries, *graph.damaged()])
    needed, free = graph.check_disk()
    for known in (datasets(), runnable()):  # not before: a plan that fails leaves nothing behind
        known.write_index()
    announce(console, graph, tasks, damaged, needed, free)
    for part in (folder.path, *folder.parts, *map(folder.map_dir, graph.plans)):
        if part == folder.path or not part.is_symlink():  # what a link leads to is somebody else's
            remove_stale(part)
    slugs = [cell.key.slug for cell, _ in cells]
    write_info(folder, options, place.numerics, place.workers, tasks, slugs, damaged, graph.taken)
    graph.write()
    try:
        foresee(graph, place, options.threads, rates(), PROBED_FROM_S)
    except CalibrationError as error:
        if console is not None:
            console.print(f"  note: {error}", highlight=False, markup=False)
    if options.require_same_node_kind:
        graph.jobs = {name: replace(job, node_kind=folder.node_kind) for name, job in graph.jobs.items()}
    return tasks, graph


def carry_out(
    graph: Graph, place_of: Where, options: RunOptions, book: Bookkeeper, console: Console | None = None
) -> None:
    """Run the jobs of a graph, with a journal in its folder; nothing happens where none are left."""
    if not graph.jobs:
        return
    folder, jobs, workers = graph.folder, list(graph.jobs.values()), place_of.workers
    preload, cache = tuple(sorted(graph.packages)), cache_root(options.cache)
    device = place_of.numerics.device
    place = Place(folder, workers, device, options.limit_s, preload, place_of.packed, cache, options.queue)
    gpus = devices.gpu_count() if place_of.packed else None
    journal = Journal(folder, jobs, workers, gpus, book, graph.tables_s)
    with shown(console, jobs, TimeLeft(jobs, workers, gpus, graph.tables_s), journal) as listener:
        try:
            run_jobs(place_of.executor(place), jobs, listener, options.limit_s)
        except BaseException:
            note(folder, STOPPED, "")
            raise
        finally:
            book.write()


class Bookkeeper:
    """Turns events into records, failure files and counts."""

    def __init__(self, graph: Graph, folder: RunFolder, on_record: OnRecord) -> None:
        self.graph = graph
        self.folder = folder
        self.on_record = on_record
        self.failed = 0
        self.stage_s = {"fit": 0.0, "map": 0.0, "measure": 0.0}
        self.fit_and_score_s = 0.0
        self.again: list[str] = []
        self.energy_kwh: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        job = event.job
        if event.kind == "again":
            self.again.append(f"{job.label}: {event.value}")
        if event.kind in ("done", "failed"):
            self.stage_s[job.task.stage] = self.stage_s.get(job.task.stage, 0.0) + event.seconds
        if event.kind == "done" and event.value is not None:
            self.energy_kwh[job.id] = event.value
        if event.kind == "done" and job.task.stage == "measure":
            (key,) = self.graph.cells_of[job.id]
            self.folder.failure_path(key).unlink(missing_ok=True)
            record = self.folder.record(self.folder.record_path(key))
            if f"map-{record.cell.slug}" in self.graph.jobs:
                self.fit_and_score_s += record.cost.score_s
            if f"refine-{record.cell.slug}" in self.graph.jobs:
                self.fit_and_score_s += self.folder.refine_seconds(key)
            for fit in record.ids.fits:
                if f"fit-{fit}" in self.graph.jobs and record.cell == self.graph.cells_of[f"fit-{fit}"][0]:
                    self.fit_and_score_s += self.folder.fit_seconds(fit)
            self.on_record(record)
        elif event.kind == "failed":
            log = self.folder.logs_dir / f"{job.id}.log"
            for key in self.graph.cells_of[job.id]:
                self.failed += 1
                failure = Failure(cell=key, stage=job.task.stage, error=str(event.value), log=str(log))
                write_json(self.folder.failure_path(key), failure)

    def write(self) -> None:
        """Add to ``run.json`` what no record can hold: stages that ran again, and the energy that stages took."""
        known = self.folder.info()
        if self.again:
            self.folder.update_info(again=[*known.get("again", []), *self.again])
        if self.energy_kwh:
            self.folder.update_info(energy_kwh=known.get("energy_kwh", {}) | self.energy_kwh)

    def broken_in_the_plan(self, task: Planned, seeds: Sequence[int]) -> None:
        """Make rows of methods whose own code failed before anything could be computed."""
        for label, reason in task.broken:
            for seed in seeds:
                key = CellKey(method=label, dataset=task.data.dataset, train=task.data.train, seed=seed)
                self.failed += 1
                write_json(self.folder.failure_path(key), Failure(cell=key, stage="plan", error=reason))
