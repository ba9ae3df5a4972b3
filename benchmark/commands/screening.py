"""The screening of a healthy set: every scan is mapped by methods that did not learn from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...common.errors import UasbenchError
from ...datasets.storing.prepared import PreparedCase
from ...methods.card import SliceScore
from ..planning.info import write_info
from ..planning.options import RunOptions
from ..planning.plan import Graph, PlannedCell
from ..planning.tasks import Planned, screening_tasks
from ..planning.where import where
from ..runs.folder import RunFolder
from ..runs.map_store import healthy_map, read_map
from ..stages.map import finished
from .display import announce, preparing
from .running import Bookkeeper, carry_out

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class HeldOut:
    """A scan, and where the maps of the methods lie that did not learn from it, by method, with their slice scores."""

    fold: int
    case: PreparedCase
    maps: dict[str, Path]
    slice_scores: dict[str, SliceScore]

    def map_of(self, method: str) -> np.ndarray:
        """Read a map on the native grid, float32 (z, y, x)."""
        return read_map(self.maps[method]).native()


@dataclass(frozen=True)
class Screened:
    """A set whose scans have each been held out once; ``failed`` counts methods and folds without maps."""

    name: str
    anatomy: str
    profile: str
    scans: tuple[HeldOut, ...]
    failed: int
    skipped: tuple[str, ...]
    phantom: bool


def screen(options: RunOptions, name: str, folds: int, out: Path, console: Console | None = None) -> Screened:
    """Train the methods of the options once per fold, without the patients of the fold, and map those patients.

    Each fold is a run folder below ``out`` with fits and maps and no records; a stopped screening goes on with the same
    call.

    Raises:
        UasbenchError: the set is none of healthy scans, its data cannot be used, or no method can run.
    """
    place_of = where(options)
    with preparing(console) as progress:
        tasks = screening_tasks(options, name, folds, place_of.readers, progress)
    scans, failed = list[HeldOut](), 0
    for number, task in enumerate(tasks, 1):
        asked = options.model_copy(update={"out": out.resolve() / f"fold-{number}"})
        with RunFolder.working(asked.folder()) as folder:
            graph = Graph(place_of.numerics, folder)
            cells = [cell for cell, _ in graph.add_all(asked, [task])]
            graph.jobs = {key: job for key, job in graph.jobs.items() if job.task.stage != "measure"}
            announce(console, graph, [task], [], *graph.check_disk())
            slugs = [cell.key.slug for cell in cells]
            write_info(folder, asked, place_of.numerics, place_of.workers, [task], slugs)
            graph.write()
            book = Bookkeeper(graph, folder, lambda _: None)
            carry_out(graph, place_of, asked, book, console)
        failed += book.failed
        scans += _held_out(number, task, cells)
    complete = set.intersection(*(set(scan.maps) for scan in scans))
    if not complete:
        raise UasbenchError(f"no method has mapped the scans of all folds; {out}/fold-*/logs tell why")
    data = tasks[0].data
    skipped = tuple(f"{skip.method}: {skip.reason}" for skip in tasks[0].skipped)
    return Screened(name, data.card.anatomy, options.profile, tuple(scans), failed, skipped, data.phantom is not None)


def _held_out(number: int, task: Planned, cells: list[PlannedCell]) -> Iterator[HeldOut]:
    done = [cell for cell in cells if finished(cell.maps.out) == cell.maps.id]
    for case, _ in task.data.calibrating():
        maps = {
            f"{cell.key.method}" + (f" (seed {cell.key.seed})" if cell.key.seed else ""): healthy_map(
                cell.maps.out, case.id
            )
            for cell in done
        }
        scores = {name: cell.candidate.card.slice_score for name, cell in zip(maps, done, strict=True)}
        yield HeldOut(number, case, maps, scores)
