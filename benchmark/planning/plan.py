"""The plan of a run: cells, their stages' addresses, and the graph of jobs that is still to do."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...common.atomic import write_text
from ...common.errors import UasbenchError
from ...common.sealed import UNSEALED, DamagedError, damage
from ...common.source_hash import steady
from ...common.untried import untried
from ..executors.contract import Job, Resources
from ..runs.folder import RunFolder, RunFolderError
from ..runs.records import FIT_SEAL, MAP_SEAL, CellKey, StageIds
from ..stages.map import MapTask, finished
from ..stages.measure import MeasureTask
from ..stages.task import Numerics, Task
from . import ids
from .fits import PlannedFits, planned_fits
from .options import RunOptions
from .overlap import overlap_of
from .selection import Candidate
from .task_data import TaskData

BYTES_PER_VALUE = 4
RESERVE = 512 * 2**20
DETERMINISTIC_SEED = 0


class PlanError(UasbenchError):
    """The run cannot be done as asked."""


@dataclass(frozen=True)
class PlannedCell:
    """One path through the graph: trainings, maps, measuring."""

    candidate: Candidate
    fits: PlannedFits
    maps: MapTask
    measure: MeasureTask

    @property
    def key(self) -> CellKey:
        return self.measure.cell

    @property
    def ids(self) -> StageIds:
        return self.measure.ids


def plan_cells(
    options: RunOptions, numerics: Numerics, data: TaskData, candidates: Sequence[Candidate]
) -> list[PlannedCell]:
    """Return the cells of one task; a deterministic method gets seed 0 only."""
    with steady():
        return [
            _plan_cell(options, numerics, data, candidate, seed)
            for candidate in candidates
            for seed in ([DETERMINISTIC_SEED] if candidate.card.deterministic else options.seeds)
        ]


def _plan_cell(options: RunOptions, numerics: Numerics, data: TaskData, candidate: Candidate, seed: int) -> PlannedCell:
    folder = RunFolder(options.folder())
    key = CellKey(method=candidate.label, dataset=data.dataset, train=data.train, seed=seed)
    fits, healthy = planned_fits(folder, numerics, data, candidate, seed), tuple(data.calibrating())
    of_fits = [task.id for task in fits.tasks]
    members = of_fits if len(of_fits) > 1 or candidate.members is not None else []
    fit = ids.digest(members) if members else of_fits[0]
    maps = MapTask(
        id=ids.map_id(fit, candidate, data, restorations=options.keeps_restorations, untried=untried(numerics.device)),
        method=candidate.spec,
        models=fits.models,
        healthy=tuple(case for case, _ in healthy),
        seed=seed,
        numerics=numerics,
        out=folder.map_dir(key),
        restorations=options.keeps_restorations,
    )
    measure = MeasureTask(
        cell=key,
        method=candidate.info(data.card.anatomy, overlap_of(candidate, data.card)),
        profile=candidate.spec.profile,
        config=candidate.config,
        ids=StageIds(fit=fit, map=maps.id, measure="", members=members),
        data=data.info(),
        cases=tuple(data.test),
        truths=data.truths,
        healthy=healthy,
        fit_dirs=tuple(task.out for task in fits.tasks),
        **folder.measuring(key),
        series=options.keeps_restorations,
        slice_score=candidate.card.slice_score,
        trials=options.study_trials,
        numerics=numerics,
        models=len(fits.models),
        labels=None if fits.labels is None else fits.labels.use(),
    )
    return PlannedCell(candidate, fits, maps, ids.addressed(measure))


class Graph:
    """The jobs of a run that are not finished yet, and which cells each of them serves."""

    def __init__(self, numerics: Numerics, folder: RunFolder, outdated: Sequence[CellKey] = ()) -> None:
        self.numerics = numerics
        self.folder = folder
        self.plans: dict[CellKey, PlannedCell] = {}
        self.jobs: dict[str, Job] = {}
        self.cells_of: dict[str, list[CellKey]] = {}
        self.finished: list[CellKey] = []
        self.replaced: list[CellKey] = list(outdated)
        self.map_bytes = 0
        self.packages: set[str] = set()
        self._checked: dict[tuple[Path, bool], DamagedError | None] = {}

    def add(self, cell: PlannedCell, data: TaskData) -> None:
        self.plans[cell.key] = cell
        maps = cell.maps.out / MAP_SEAL
        told = self._is_whole(maps, seal_alone=True) and finished(cell.maps.out) == cell.maps.id
        if self._has_record(cell) and (told or not cell.maps.out.exists()):
            self.finished.append(cell.key)
            return
        self.packages.update(cell.candidate.packages)
        slug = cell.key.slug
        needs_map = not told or not self._is_whole(maps)
        needs = set[str]()
        for fit, name in zip(cell.fits.tasks, cell.fits.names, strict=True):
            # Where the maps are whole, what a fit has cost is all that is read of it.
            if not self._is_whole(fit.out / FIT_SEAL, seal_alone=not needs_map):
                self._job(f"fit-{fit.id}", fit, cell, set(), name)
                needs.add(f"fit-{fit.id}")
        needs_map = needs_map or bool(needs)
        if needs_map:
            self._job(f"map-{slug}", cell.maps, cell, needs)
            calibration = data.calibration_voxels * len(cell.fits.models)
            pictures = data.test_voxels if cell.maps.restorations else 0  # most methods show one
            self.map_bytes += BYTES_PER_VALUE * (data.test_voxels + calibration + pictures)
        needs = {f"map-{slug}"} if needs_map else set[str]()
        self._job(f"measure-{slug}", cell.measure, cell, needs)

    def check_disk(self) -> tuple[int, int]:
        """Return the bytes the maps may take and the bytes free, refusing when they do not fit.

        Raises:
            PlanError: the disk of the run folder is too full.
        """
        free = shutil.disk_usage(self.folder.path).free
        needed = self.map_bytes + (RESERVE if self.jobs else 0)
        if needed > free:
            raise PlanError(
                f"{self.folder.path}: the run may need {needed / 2**30:.1f} GiB of disk and {free / 2**30:.1f} GiB "
                "are free; free space, choose another --out, or run fewer methods or seeds at once"
            )
        return self.map_bytes, free

    def _is_whole(self, seal: Path, *, seal_alone: bool = False) -> bool:
        if not seal.parent.exists():
            return False
        asked = (seal, seal_alone)
        if asked not in self._checked:  # what several cells share is not read for each
            self._checked[asked] = damage(seal, seal_alone=seal_alone)
        return self._checked[asked] is None

    def damaged(self) -> list[DamagedError]:
        """Return what is wrong with fits and maps that are made again; those of an earlier version are outdated."""
        return [error for error in self._checked.values() if error is not None and error.why != UNSEALED]

    def write(self) -> None:
        """Write the plans of the cells, and move records that they replace out of the tables."""
        for key in self.replaced:
            self.folder.retire(self.folder.record_path(key))
        for key in self.finished:
            self.folder.failure_path(key).unlink(missing_ok=True)
        made = [
            path
            for key, cell in self.plans.items()
            for path in (self.folder.map_dir(key), *(fit.out for fit in cell.fits.tasks), self.folder.gallery_path(key))
        ]
        self.folder.ledger.add(*made)
        for key, cell in self.plans.items():
            write_text(self.folder.cell_path(key), cell.measure.model_dump_json() + "\n", lasting=False)

    def _has_record(self, cell: PlannedCell) -> bool:
        path = self.folder.record_path(cell.key)
        if cell.key in self.replaced or not path.exists():
            return False
        try:
            record = self.folder.record(path)
            same = record.ids == cell.ids and record.digest is not None
        except RunFolderError:
            same = False
        if not same:
            self.replaced.append(cell.key)
        return same

    def _job(self, name: str, task: Task, cell: PlannedCell, needs: set[str], which: str = "") -> None:
        self.cells_of.setdefault(name, []).append(cell.key)
        if name not in self.jobs:
            order = ("measure", "map", "fit").index(task.stage)
            rank = (order, int(cell.candidate.card.trivial), len(self.jobs))
            label = f"{task.stage:7s} {cell.key.method} · {cell.key.dataset} · seed {cell.key.seed}"
            label += f" · {which}" if which else ""
            on_gpu = self.numerics.device == "cuda" and task.stage != "measure"
            takes = Resources(cpus=self.numerics.threads, gpus=float(on_gpu))
            self.jobs[name] = Job(name, task, label, frozenset(needs), rank, takes)
