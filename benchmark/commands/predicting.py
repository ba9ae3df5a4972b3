"""``bench plan``: what a command would do and what it would cost, before it is run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import device as devices
from ..catalogue.rates import rates
from ..catalogue.rates import shown as hours_text
from ..catalogue.showing import table_of
from ..executors.contract import Job
from ..planning.info import check_source, recorded
from ..planning.options import RunOptions
from ..planning.plan import Graph
from ..planning.prediction import Predictor, foresee, wall_s
from ..planning.reuse import Others
from ..planning.tasks import Planned, planned_tasks
from ..planning.where import where
from ..runs.folder import RunFolder
from .display import duration, preparing, taken_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


@dataclass(frozen=True)
class Row:
    """What is still to do of a method on a data set; hours are 0 where a stage needs none, or nobody knows.

    ``rate_of`` is the organ that its rate was measured on, where that is another one.
    """

    dataset: str
    method: str
    cells: int
    stages: int
    core_hours: float
    gpu_hours: float
    known: bool
    rate_of: str | None


@dataclass(frozen=True)
class Forecast:
    """What a run would still do, on how many ``workers``, in ``hours`` from its first stage to its report.

    The cache holds ``prepared_bytes`` of its data, maps will take ``maps_bytes`` at most.
    Of the methods that are not ``known`` hours count measuring alone, and not that where ``measuring`` is False.
    ``stages`` are those to do, by the ids that ``bench stage`` takes. ``speed`` is this machine's, beside that of the
    ``sources`` of the rates; None where it was not measured. Hours know nothing of ``compiled`` networks.
    """

    folder: Path
    rows: tuple[Row, ...]
    cells_done: int
    workers: int
    device: str
    compiled: bool
    hours: float
    prepared_bytes: int
    maps_bytes: int
    free_bytes: int
    measuring: bool
    speed: float | None
    sources: tuple[str, ...]
    skipped: tuple[str, ...]
    taken: tuple[str, ...]
    stages: tuple[dict[str, Any], ...]

    @property
    def totals(self) -> dict[str, float]:
        """Cells, stages and hours of all rows."""
        names = ("cells", "stages", "core_hours", "gpu_hours")
        return {name: sum(getattr(row, name) for row in self.rows) for name in names}

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.method for row in self.rows if not row.known))

    @property
    def lower_bound(self) -> bool:
        """Whether stages are left out that take time."""
        return bool(self.unknown) or not self.measuring

    def json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        found = {"totals": self.totals, "unknown": list(self.unknown), "lower_bound": self.lower_bound}
        return {**asdict(self), "folder": str(self.folder), **found}


def plan(options: RunOptions, console: Console | None = None, *, calibrate: bool = True) -> Forecast:
    """Prepare the data of a run and say what it would do; nothing is trained and no run folder is made.

    Raises:
        UasbenchError: as for a run.
    """
    place = where(options, planning=True)
    numerics, workers, device = place.numerics, place.workers, place.numerics.device
    folder = RunFolder(options.folder())
    check_source(folder, options)
    others = Others(options.reuse, folder.path)
    with preparing(console) as progress:
        tasks = planned_tasks(options, place.readers, progress)
    graph = Graph(numerics, folder, recorded(folder, tasks) if folder.run_json.exists() else None, others)
    graph.add_all(options, tasks)
    predictor = foresee(graph, place, options.threads, rates(), 0.0 if calibrate else inf)
    used, probe_s = predictor.sources(graph.plans.values()), predictor.probe_s
    seconds = wall_s(graph.jobs.values(), workers) + graph.tables_s
    if device != "cpu" and not place.elsewhere:  # several workers share a GPU
        on_gpus = sum(job.resources.seconds or 0.0 for job in graph.jobs.values() if job.resources.gpus)
        seconds = max(seconds, on_gpus / max(1, devices.gpu_count()))
    speeds = [source.probe_s / probe_s for source in used.values() if source.probe_s and probe_s]
    return Forecast(
        folder=folder.path,
        rows=tuple(_rows(graph, predictor)),
        cells_done=len(graph.finished),
        workers=workers,
        device=device,
        compiled=numerics.compiled,
        hours=seconds / 3600,
        prepared_bytes=_prepared_bytes(tasks),
        maps_bytes=graph.map_bytes,
        free_bytes=shutil.disk_usage(next(p for p in (folder.path, *folder.path.parents) if p.exists())).free,
        measuring=all(j.resources.seconds is not None for j in graph.jobs.values() if j.task.stage == "measure"),
        speed=min(speeds, default=None),
        sources=tuple(f"{name}: {source.about}" for name, source in sorted(used.items())),
        stages=tuple(map(described, graph.jobs.values())),
        skipped=tuple(f"{skip.method}: {skip.reason}" for task in tasks for skip in task.skipped),
        taken=tuple(taken_text(graph)),
    )


def _prepared_bytes(tasks: Sequence[Planned]) -> int:
    """Return what the entries of the store take that the methods of these tasks open."""
    entries = {path for t in tasks for view in {c.view for c in t.candidates} for path in t.data.entries(view)}
    return sum(file.stat().st_size for entry in entries for file in entry.iterdir())


def described(job: Job) -> dict[str, Any]:
    """Return what a stage is, needs and takes, as plain values."""
    what = {"id": job.id, "stage": job.task.stage, "label": job.label, "needs": sorted(job.needs)}
    return what | asdict(job.resources)


def _rows(graph: Graph, predictor: Predictor) -> Iterator[Row]:
    """Yield a row per data set and method; a stage that several cells need counts for the first of them."""
    stages: dict[tuple[str, str], list[Any]] = {}
    for name, job in graph.jobs.items():
        key = graph.cells_of[name][0]
        stages.setdefault((key.dataset, key.method), []).append(job)
    cells = [(key.dataset, key.method) for key in graph.plans if key not in graph.finished]
    rates_of = {
        (key.dataset, key.method): (predictor.rate(cell), cell.candidate.spec.anatomy)
        for key, cell in graph.plans.items()
    }
    for dataset, method in dict.fromkeys(cells):
        jobs = stages.get((dataset, method), [])
        rate, organ = rates_of[dataset, method]
        takes = [job.resources for job in jobs]
        yield Row(
            dataset=dataset,
            method=method,
            cells=cells.count((dataset, method)),
            stages=len(jobs),
            core_hours=sum(r.cpus * (r.seconds or 0.0) for r in takes if not r.gpus) / 3600,
            gpu_hours=sum(r.seconds or 0.0 for r in takes if r.gpus) / 3600,
            known=all(job.resources.seconds is not None for job in jobs if job.task.stage != "measure"),
            rate_of=None if rate is None or rate.anatomy == organ else rate.anatomy,
        )


def shown(forecast: Forecast) -> Iterator[RenderableType]:
    """Yield a forecast for a console: a table by method, and what it means in words."""
    totals = {**forecast.totals, "dataset": "", "method": "all"}

    def cells(values: dict[str, Any]) -> list[str]:
        known = values.get("known", True)
        hours = [hours_text([values[name] if known else None]) for name in ("core_hours", "gpu_hours")]
        if values is totals and forecast.lower_bound:
            hours = [f"≥ {text}" for text in hours]
        return [values["dataset"], values["method"], f"{values['cells']}", f"{values['stages']}", *hours]

    columns = ("data set", "method", "cells", "stages", "core-h", "GPU-h")
    yield table_of(columns, [cells(values) for values in (*map(asdict, forecast.rows), totals)])
    gib, time = 2**30, f"{'at least' if forecast.lower_bound else 'about'} {duration(3600 * forecast.hours)}"
    yield (
        f"{totals['stages']} stages of {totals['cells']} cells to do, {forecast.cells_done} cells done; "
        f"with {forecast.workers} workers on {forecast.device} {time}; prepared data "
        f"take {forecast.prepared_bytes / gib:.2f} GiB, maps up to {forecast.maps_bytes / gib:.2f} GiB of "
        f"{forecast.free_bytes / gib:.0f} GiB free; folder {forecast.folder}"
    )
    yield from (f"  skipped {text}" for text in forecast.skipped)
    yield from (f"  {text}" for text in forecast.taken)
    if forecast.unknown:
        yield f"  nobody has measured {', '.join(forecast.unknown)} at this profile: only measuring is counted"
    borrowed = dict.fromkeys(f"{row.method} ({row.rate_of})" for row in forecast.rows if row.rate_of is not None)
    if borrowed:
        yield f"  measured on another organ alone: {', '.join(borrowed)}"
    if forecast.compiled:
        yield "  compiling is not counted, and trainings are taken to be as fast as without"
    if not forecast.measuring:
        yield "  nobody has measured what measuring takes at this profile: it is not counted"
    if forecast.lower_bound:
        yield "  the sums are lower bounds: what is not counted comes on top of them"
    speed = "assumed to be as fast as" if forecast.speed is None else f"{forecast.speed:.2f} times as fast as"
    yield from (f"  rates: this machine is {speed} {text}" for text in forecast.sources)
