"""The plan of a run: cells, their stages' addresses, and the graph of jobs that is still to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...common.atomic import write_text
from ...common.errors import UasbenchError
from ...common.garbage import uncollected
from ...common.sealed import UNSEALED, DamagedError, damage
from ...common.source_hash import steady
from ...common.untried import untried
from .. import device as devices
from ..executors.contract import Job, Resources
from ..refinement.prompts import Prompt
from ..runs.folder import RunFolder
from ..runs.records import FIT_SEAL, MAP_SEAL, CellKey, StageIds
from ..stages.fit import FitTask
from ..stages.map import MapTask, finished
from ..stages.measure import MeasureTask
from ..stages.refine import RefineTask
from ..stages.task import Numerics
from . import ids
from .fits import PlannedFits, planned_fits
from .options import RunOptions
from .overlap import overlap_of
from .refinement import refine_task, refined, refined_info, refused
from .reuse import Others, take_over
from .selection import Candidate
from .task_data import TaskData

if TYPE_CHECKING:
    from .tasks import Planned

AnyTask = FitTask | MapTask | RefineTask | MeasureTask
BYTES_PER_VALUE = 4
RESERVE = 512 * 2**20
DETERMINISTIC_SEED = 0


class PlanError(UasbenchError):
    """The run cannot be done as asked."""


@dataclass(frozen=True)
class PlannedCell:
    """One path through the graph: trainings, maps, measuring; of a row that refines another, that one's and its own.

    ``mapped`` is the cell that the maps belong to.
    """

    candidate: Candidate
    fits: PlannedFits
    maps: MapTask
    measure: MeasureTask
    mapped: CellKey
    refine: RefineTask | None = None

    @property
    def measured(self) -> MapTask | RefineTask:
        """The stage that makes what is measured."""
        return self.refine or self.maps

    @property
    def key(self) -> CellKey:
        return self.measure.cell

    @property
    def ids(self) -> StageIds:
        return self.measure.ids


def plan_cells(
    options: RunOptions, numerics: Numerics, data: TaskData, candidates: Sequence[Candidate]
) -> list[PlannedCell]:
    """Return the cells of one task; a deterministic method gets seed 0 only. Refined rows follow those they refine."""
    with steady():
        cells = [
            _plan_cell(options, _numerics_of(candidate, numerics), data, candidate, seed)
            for candidate in candidates
            for seed in ([DETERMINISTIC_SEED] if candidate.card.deterministic else options.seeds)
        ]
        if not options.refine or refused(options, data) is not None:
            return cells
        return cells + [
            _refined_cell(options, numerics, data, cell, prompt) for cell in cells for prompt in options.refine
        ]


def _numerics_of(candidate: Candidate, numerics: Numerics) -> Numerics:
    """Return what the arithmetic of a configuration depends on: a trivial method has no use for a GPU or a compiler."""
    if not candidate.card.trivial:
        return numerics
    on_cpu = {"device": "cpu", "precision": devices.resolve_precision("auto", "cpu"), "compiled": False}
    return numerics.model_copy(update=on_cpu)


def _plan_cell(options: RunOptions, numerics: Numerics, data: TaskData, candidate: Candidate, seed: int) -> PlannedCell:
    folder = RunFolder(options.folder())
    key = CellKey(method=candidate.label, dataset=data.dataset, train=data.train, seed=seed)
    fits, healthy = planned_fits(folder, numerics, data, candidate, seed), tuple(data.calibrating())
    of_fits = [task.id for task in fits.tasks]
    members = of_fits if len(of_fits) > 1 or candidate.members is not None else []
    fit = ids.digest(members) if members else of_fits[0]
    pictures, asked = options.keeps_restorations, untried(numerics.device)
    maps = MapTask(
        id=ids.map_id(fit, candidate, data, restorations=pictures, untried=asked),
        method=candidate.spec,
        models=fits.models,
        healthy=tuple(case for case, _ in healthy),
        seed=seed,
        numerics=numerics,
        out=folder.map_dir(key),
        restorations=pictures,
        untried=asked,
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
        series=pictures,
        trained_slice_mm=max((case.spacing[0] for case in fits.learned_from()), default=None),
        slice_score=candidate.card.slice_score,
        trials=options.study_trials,
        numerics=numerics,
        models=len(fits.models),
        labels=None if fits.labels is None else fits.labels.use(),
    )
    return PlannedCell(candidate, fits, maps, ids.addressed(measure), key)


def _refined_cell(
    options: RunOptions, numerics: Numerics, data: TaskData, cell: PlannedCell, prompt: Prompt
) -> PlannedCell:
    """Return the cell of a refined row: fits and maps of the other, masks and measuring of its own."""
    candidate = refined(options, data, cell.candidate, prompt)
    key = cell.key.model_copy(update={"method": candidate.label})
    task = refine_task(options, numerics, data, candidate, prompt, cell.maps, key)
    info = candidate.info(data.card.anatomy, cell.measure.method.overlap)
    measure = cell.measure.model_copy(
        update={
            "cell": key,
            "method": refined_info(options, info),
            "config": candidate.config,
            "numerics": numerics,
            "ids": cell.ids.model_copy(update={"map": task.id, "measure": ""}),
            **RunFolder(options.folder()).measuring(key),
        }
    )
    return replace(cell, candidate=candidate, measure=ids.addressed(measure), refine=task)


class Recorded(NamedTuple):
    """The cells of a run that have a record.

    Attributes:
        addresses: what each was made from; empty text of a record that says no digest.
        outdated: those that have to be measured again.
    """

    addresses: Mapping[CellKey, str]
    outdated: Sequence[CellKey]


def address(ids: StageIds) -> str:
    """Return the content addresses of a cell's stages as one text."""
    return " ".join((ids.measure, ids.map, ids.fit, *ids.members))


class Graph:
    """The jobs of a run that are not finished yet, and which cells each of them serves.

    ``tables_s`` are the seconds that its tables and report are predicted to take; 0 where nobody knows. What ``others``
    have made already is no job; ``taken`` has its folder here and its seal there, and :meth:`write` takes it over.
    """

    def __init__(
        self, numerics: Numerics, folder: RunFolder, recorded: Recorded | None = None, others: Others | None = None
    ) -> None:
        self.numerics = numerics
        self.folder = folder
        self.others = others or Others()
        self.taken: dict[Path, Path] = {}
        self.plans: dict[CellKey, PlannedCell] = {}
        self.jobs: dict[str, Job] = {}
        self.cells_of: dict[str, list[CellKey]] = {}
        self.finished: list[CellKey] = []
        self.replaced = dict.fromkeys(() if recorded is None else recorded.outdated)
        self._recorded = {} if recorded is None else recorded.addresses
        self.map_bytes = 0
        self.tables_s = 0.0
        self.packages: set[str] = set()
        self._checked: dict[tuple[Path, bool], DamagedError | None] = {}

    def add_all(self, options: RunOptions, tasks: Iterable[Planned]) -> list[tuple[PlannedCell, Planned]]:
        """Add every cell of these tasks; return each with its task."""
        with uncollected():
            cells = [(c, t) for t in tasks for c in plan_cells(options, self.numerics, t.data, t.candidates)]
            for cell, task in cells:
                self.add(cell, task.data)
        return cells

    def add(self, cell: PlannedCell, data: TaskData) -> None:
        self.plans[cell.key] = cell
        out = cell.measured.out
        if self._has_record(cell) and (self._told(cell.measured) or not out.exists()):
            self.finished.append(cell.key)
            return
        self.packages.update(cell.candidate.packages)
        wanted = not self._holds(cell.measured)
        needs = self._map(cell, data, wanted=wanted)
        if cell.refine is not None and (wanted or needs):
            needs = self._refine(cell, cell.refine, data, needs)
        self._job(f"measure-{cell.key.slug}", cell.measure, cell, needs)

    def _map(self, cell: PlannedCell, data: TaskData, *, wanted: bool) -> set[str]:
        """Add what is to do for the maps of a cell, where they are ``wanted``; return the job that makes them."""
        needs_map, needs = wanted and not self._holds(cell.maps), set[str]()
        for fit, name in zip(cell.fits.tasks, cell.fits.names, strict=True):
            # Where the maps are whole, what a fit has cost is all that is read of it.
            if not (
                self._is_whole(fit.out / FIT_SEAL, seal_alone=not needs_map)
                or self._offered(fit.out, FIT_SEAL, self.others.fits(fit.id))
            ):
                self._job(f"fit-{fit.id}", fit, cell, set(), name)
                needs.add(f"fit-{fit.id}")
        if not (needs_map or needs):
            return set()
        if self._job(job := f"map-{cell.mapped.slug}", cell.maps, cell, needs):
            self._count(data, models=len(cell.fits.models), pictures=cell.maps.restorations)
        return {job}

    def _refine(self, cell: PlannedCell, task: RefineTask, data: TaskData, needs: set[str]) -> set[str]:
        self._job(job := f"refine-{cell.key.slug}", task, cell, needs)
        self._count(data, models=len(cell.fits.models))
        return {job}

    def _count(self, data: TaskData, *, models: int, pictures: bool = False) -> None:
        """Count the bytes of maps that are to be made."""
        shown = data.test_voxels if pictures else 0  # most methods show one
        self.map_bytes += BYTES_PER_VALUE * (data.test_voxels + data.calibration_voxels * models + shown)

    def _told(self, task: MapTask | RefineTask) -> bool:
        """Return whether a folder says that it holds what a stage makes."""
        return self._is_whole(task.out / MAP_SEAL, seal_alone=True) and finished(task.out) == task.id

    def _holds(self, task: MapTask | RefineTask) -> bool:
        """Return whether a folder holds what a stage makes, as it was written, or another run's does."""
        here = self._told(task) and self._is_whole(task.out / MAP_SEAL)
        return here or self._offered(task.out, MAP_SEAL, self.others.maps(task.id))

    def _offered(self, out: Path, name: str, folders: Iterable[Path]) -> bool:
        """Return whether one of these folders of other runs is whole, and note that ``out`` is made from it."""
        seal = next((folder / name for folder in folders if self._is_whole(folder / name)), None)
        if seal is not None:
            self.taken[out] = seal
        return seal is not None

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
        for out, seal in self.taken.items():
            take_over(seal, out)
        for key, cell in self.plans.items():
            write_text(self.folder.cell_path(key), cell.measure.model_dump_json() + "\n", lasting=False)

    def _has_record(self, cell: PlannedCell) -> bool:
        if cell.key in self.replaced or cell.key not in self._recorded:
            return False
        if self._recorded[cell.key] == address(cell.ids):
            return True
        self.replaced[cell.key] = None
        return False

    def _job(self, name: str, task: AnyTask, cell: PlannedCell, needs: set[str], which: str = "") -> bool:
        """Add a job of a cell, and return whether it is new."""
        self.cells_of.setdefault(name, []).append(cell.key)
        if name in self.jobs:
            return False
        order = ("measure", "refine", "map", "fit").index(task.stage)
        rank = (order, int(cell.candidate.card.trivial), len(self.jobs))
        label = f"{task.stage:7s} {cell.key.method} · {cell.key.dataset} · seed {cell.key.seed}"
        label += f" · {which}" if which else ""
        on_gpu = task.numerics.device == "cuda" and task.stage != "measure"
        takes = Resources(cpus=task.numerics.threads, gpus=float(on_gpu))
        self.jobs[name] = Job(name, task, label, frozenset(needs), rank, takes)
        return True
