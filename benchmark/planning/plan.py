"""The plan of a run: cells, their stages' addresses, and the graph of jobs that is still to do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from ...common.errors import UasbenchError
from ..executors.contract import Job, Resources
from ..runs.folder import RunFolder, RunFolderError
from ..runs.records import CellKey, StageIds, write_json
from ..stages.fit import FitTask
from ..stages.map import MapTask, Model, finished
from ..stages.measure import MeasureTask
from ..stages.task import Numerics, Task
from . import ids
from .fits import PlannedFit, PlannedFits, planned_fits
from .options import RunOptions
from .selection import Candidate
from .task_data import TaskData

BYTES_PER_VALUE = 4
RESERVE = 512 * 2**20
DETERMINISTIC_SEED = 0


class PlanError(UasbenchError):
    """The run cannot be done as asked."""


@dataclass(frozen=True)
class PlannedCell:
    """One path through the graph."""

    key: CellKey
    candidate: Candidate
    ids: StageIds
    fits: PlannedFits


def plan_cells(
    options: RunOptions, numerics: Numerics, data: TaskData, candidates: Sequence[Candidate]
) -> list[PlannedCell]:
    """Return the cells of one task; a deterministic method gets seed 0 only."""
    cells = []
    for candidate in candidates:
        seeds = [DETERMINISTIC_SEED] if candidate.card.deterministic else options.seeds
        for seed in seeds:
            key = CellKey(method=candidate.label, dataset=data.dataset, train=data.train, seed=seed)
            fits = planned_fits(numerics, data, candidate, seed)
            cells.append(PlannedCell(key, candidate, _ids(options, data, candidate, seed, fits), fits))
    return cells


def _ids(options: RunOptions, data: TaskData, candidate: Candidate, seed: int, planned: PlannedFits) -> StageIds:
    fits = [fit.id for fit in planned.fits]
    members = fits if len(fits) > 1 or candidate.members is not None else []
    fit = ids.digest(members) if members else fits[0]
    maps = ids.map_id(
        fit=fit,
        target=candidate.spec.target,
        config=candidate.score_config,
        cases=[(case.id, case.fingerprint) for case in data.test],
        healthy=[(case.fingerprint, z) for case, z in data.calibrating()],
    )
    measured = ids.measure_id(
        maps=maps,
        truths=data.truths,
        cases=data.test,
        slice_score=candidate.card.slice_score,
        trials=options.study_trials,
        seed=seed,
    )
    return StageIds(fit=fit, map=maps, measure=measured, members=members)


class Graph:
    """The jobs of a run that are not finished yet, and which cells each of them serves."""

    def __init__(self, options: RunOptions, numerics: Numerics, folder: RunFolder) -> None:
        self.options = options
        self.numerics = numerics
        self.folder = folder
        self.jobs: dict[str, Job] = {}
        self.cells_of: dict[str, list[CellKey]] = {}
        self.finished: list[CellKey] = []
        self.replaced: list[CellKey] = []
        self.map_bytes = 0
        self.packages: set[str] = set()

    def add(self, cell: PlannedCell, data: TaskData) -> None:
        """Add what a cell still needs."""
        measure = measure_task(self.options, self.numerics, self.folder, cell, data)
        write_json(self.folder.cell_path(cell.key), measure)
        if self._has_record(cell):
            self.finished.append(cell.key)
            self.folder.failure_path(cell.key).unlink(missing_ok=True)
            return
        self.packages.update(cell.candidate.packages)
        slug = cell.key.slug
        needs_map = finished(self.folder.map_dir(cell.key)) != cell.ids.map
        if needs_map:
            needs = set[str]()
            for fit in cell.fits.fits:
                if not (self.folder.fit_dir(fit.id) / "fit.json").exists():
                    self._job(f"fit-{fit.id}", self._fit(cell, fit), cell, set(), fit.name)
                    needs.add(f"fit-{fit.id}")
            self._job(f"map-{slug}", self._map(cell, data), cell, needs)
            calibration = data.calibration_voxels * len(cell.fits.models)
            self.map_bytes += BYTES_PER_VALUE * (data.test_voxels + calibration)
        needs = {f"map-{slug}"} if needs_map else set[str]()
        self._job(f"measure-{slug}", measure, cell, needs)

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

    def _has_record(self, cell: PlannedCell) -> bool:
        path = self.folder.record_path(cell.key)
        if not path.exists():
            return False
        try:
            same = self.folder.record(path).ids == cell.ids
        except RunFolderError:
            same = False
        if not same:
            self.replaced.append(cell.key)
            self.folder.retire(path)
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

    def _fit(self, cell: PlannedCell, fit: PlannedFit) -> FitTask:
        return FitTask(
            id=fit.id,
            method=cell.candidate.spec,
            seed=fit.seed,
            numerics=self.numerics,
            parts=tuple(fit.parts),
            unlabelled=tuple(fit.unlabelled),
            labelled=tuple(fit.labelled),
            out=self.folder.fit_dir(fit.id),
        )

    def _map(self, cell: PlannedCell, data: TaskData) -> MapTask:
        models = [
            Model(
                fits=tuple(self.folder.fit_dir(cell.ids.fits[i]) for i in positions),
                cases=tuple(case for case in data.test if cell.fits.model_of(case) == number),
            )
            for number, positions in enumerate(cell.fits.models)
        ]
        return MapTask(
            id=cell.ids.map,
            method=cell.candidate.spec,
            models=tuple(models),
            healthy=tuple(case for case, _ in data.calibrating()),
            seed=cell.key.seed,
            numerics=self.numerics,
            out=self.folder.map_dir(cell.key),
        )


def measure_task(
    options: RunOptions, numerics: Numerics, folder: RunFolder, cell: PlannedCell, data: TaskData
) -> MeasureTask:
    """Return what the measure stage gets for a cell."""
    return MeasureTask(
        cell=cell.key,
        method=cell.candidate.info(data.anatomy),
        profile=options.profile,
        config=cell.candidate.config,
        ids=cell.ids,
        data=data.info(),
        cases=tuple(data.test),
        truths=data.truths,
        healthy=tuple(data.calibrating()),
        maps=folder.map_dir(cell.key),
        fit_dirs=tuple(folder.fit_dir(fit) for fit in cell.ids.fits),
        record=folder.record_path(cell.key),
        study=folder.tuning_dir / f"{cell.key.slug}.log",
        slice_score=cell.candidate.card.slice_score,
        trials=options.study_trials,
        numerics=numerics,
        models=len(cell.fits.models),
        labels=None if cell.fits.labels is None else cell.fits.labels.use(),
    )
