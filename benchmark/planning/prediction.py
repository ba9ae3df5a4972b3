"""What the stages of a plan take, from measured rates, and how long that is with several workers at once."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ...common.package import import_target
from ...datasets.storing.prepared import PreparedCase
from ...methods.config import resolve
from .. import calibration
from ..catalogue.rates import Rate, Rates, Source
from ..executors.contract import Job, Listener, Place, Report, run_jobs
from ..refinement.sam import PUBLISHED
from ..runs.folder import RunFolder
from ..stages.fit import FitTask
from ..stages.map import MapTask
from ..stages.measure import MeasureTask
from ..stages.refine import RefineTask
from . import answers
from .fits import MOST_FOLDS
from .plan import Graph, PlannedCell
from .where import Where

_OF_AN_EPOCH = ("epoch_updates", "critic_updates")
PROBED_FROM_S = 600.0
"""A run of which less is predicted does not measure its machine first: that takes seconds, and shows soon enough."""


class Predictor:
    """Seconds of a core or a GPU by job, from the rates of its method.

    ``probe_s`` is what :func:`~..calibration.probe` takes here; without it, and on a GPU, this machine is taken to be
    as fast as that of the rates. Trainings grow with their updates, or with their slices where epochs are counted,
    mapping with its slices, that of trivial methods (which see no view) and measuring with the voxels of regions of
    interest, and masks of SAM as if something were marked in every slice. Settings that change what an update costs are
    not known.
    """

    def __init__(self, rates: Rates, device: str, probe_s: float | None = None) -> None:
        self.rates = rates
        self.device = "cpu" if device == "cpu" else "gpu"
        self.probe_s = probe_s
        self._seen: dict[Path, tuple[tuple[int, ...], int]] = {}

    def rate(self, cell: PlannedCell) -> Rate | None:
        """Return the rate of a cell's method, None where nobody has measured it."""
        spec, card = cell.candidate.spec, cell.candidate.card
        device = "cpu" if card.trivial else self.device
        return self.rates.find(card.name, spec.profile, spec.anatomy, device)

    def sources(self, cells: Iterable[PlannedCell]) -> dict[str, Source]:
        """Return the sources of the rates of cells and of what measuring them takes, by name."""
        rates = [self.rate(cell) for cell in cells]
        names = {name for rate in rates for name in (rate and rate.source, self._measured_by(rate)) if name}
        return {name: source for name, source in self.rates.sources.items() if name in names}

    def seconds(self, job: Job, cell: PlannedCell) -> float | None:
        """Return what a job takes alone on one core or one GPU, None where nobody knows."""
        rate, task = self.rate(cell), job.task
        if isinstance(task, MeasureTask):
            return self._measure(task, rate)
        if rate is None:
            return None
        source = self.rates.sources[rate.source]
        if isinstance(task, FitTask):
            work = self._fit(task, cell, rate, source.train_slices.get(rate.anatomy))
        elif isinstance(task, MapTask):
            seen = [case for model in task.models for case in (*model.cases, *task.healthy)]
            usual = source.slice_voxels.get(rate.anatomy)
            if usual and cell.candidate.card.trivial:
                work = rate.slice_s * self._voxels(seen) / usual
            else:
                work = rate.slice_s * self._slices(seen)
        else:
            assert isinstance(task, RefineTask)
            by_slice = source.refine_s.get(PUBLISHED.get(task.sha256, ""))
            if by_slice is None or self.device != rate.device:  # of a trivial method, whose rate is that of a CPU
                return None
            work = by_slice * self._slices(task.cases)
        return self._here(work + source.stage_s, source) if rate.device == "cpu" else work + source.stage_s

    def _measure(self, task: MeasureTask, rate: Rate | None) -> float | None:
        """Return the seconds of measuring, which hang on no method."""
        source = self.rates.sources.get(self._measured_by(rate) or "")
        if source is None or source.measure_s is None:
            return None
        return self._here(source.measure_s * self._voxels(task.cases) / 1e6 + source.stage_s, source)

    def _measured_by(self, rate: Rate | None) -> str | None:
        """Return the source that says what measuring takes: that of a rate, or the slowest one."""
        known = {name: s.measure_s for name, s in self.rates.sources.items() if s.measure_s is not None}
        if rate is not None and rate.source in known:
            return rate.source
        return max(known, key=lambda name: known[name], default=None)

    def _here(self, seconds: float, source: Source) -> float:
        """Return what takes so long on the machine of a source."""
        if self.probe_s is None or source.probe_s is None:
            return seconds
        return seconds * self.probe_s / source.probe_s

    def _fit(self, task: FitTask, cell: PlannedCell, rate: Rate, measured_on: int | None) -> float:
        """Return the seconds of one training; the rate is that of all of a cell with the settings of its profile."""
        members, usual = _usual(task.method.target, task.method.profile, task.method.anatomy)
        trainings = members * (MOST_FOLDS if cell.candidate.training == "cross-fit" else 1)
        mine, theirs, longer = updates_of(cell.candidate.config), updates_of(usual), 1.0
        if mine and theirs:
            longer = mine / theirs
        elif mine is None and measured_on:
            longer = sum(self._between(case, z) for case, z in task.parts) / measured_on
        return rate.fit_s / trainings * longer

    def _slices(self, cases: Iterable[PreparedCase]) -> int:
        return sum(self._between(case, None) for case in cases)

    def _between(self, case: PreparedCase, z: tuple[int, int] | None) -> int:
        return sum(z is None or z[0] <= found < z[1] for found in self._region(case)[0])

    def _voxels(self, cases: Iterable[PreparedCase]) -> int:
        return sum(self._region(case)[1] for case in cases)

    def _region(self, case: PreparedCase) -> tuple[tuple[int, ...], int]:
        """Return the slices and the number of voxels of a case's region of interest, which are read once."""
        if case.path not in self._seen:
            self._seen[case.path] = case.roi_slices(), case.roi_voxels()
        return self._seen[case.path]


def predict(graph: Graph, predictor: Predictor) -> None:
    """Write into the jobs of a graph how many seconds they take, as :class:`~..executors.contract.Resources`."""
    for name, job in graph.jobs.items():
        found = predictor.seconds(job, graph.plans[graph.cells_of[name][0]])
        if found is not None and not job.resources.gpus:
            found /= job.resources.cpus
        graph.jobs[name] = replace(job, resources=replace(job.resources, seconds=found))


def foresee(graph: Graph, place: Where, threads: int, rates: Rates, probed_from_s: float) -> Predictor:
    """Predict what the stages of a graph and its tables take, and return by what.

    Where the stages run on the cores of this machine and take ``probed_from_s`` or more, it is measured as well.

    Raises:
        CalibrationError: this machine could not be measured; what its stages take stands in the graph all the same.
    """
    predictor = Predictor(rates, place.numerics.device)
    sources = predictor.sources(graph.plans.values()).values()
    per_cell = max((source.tables_s for source in sources), default=0.0)
    graph.tables_s = per_cell * len(graph.plans) if graph.jobs else 0.0  # of what is done they are there
    predict(graph, predictor)
    here = place.numerics.device == "cpu" and not place.elsewhere and any(source.probe_s for source in sources)
    seconds = sum(job.resources.seconds or 0.0 for job in graph.jobs.values()) / place.workers
    if graph.jobs and here and seconds >= probed_from_s:
        predictor.probe_s = calibration.seconds(place.readers, threads)
        predict(graph, predictor)
    return predictor


def wall_s(jobs: Iterable[Job], workers: int, listener: Listener = lambda _: None) -> float:
    """Return the seconds from the start of the first job to the end of the last; what nobody knows takes no time."""
    clock = _Clock(Place(RunFolder("nowhere"), workers))
    run_jobs(clock, list(jobs), listener, float("inf"))
    return clock.now


class _Clock:
    """An executor in which nothing runs and time passes at once."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.now = 0.0
        self._running: list[tuple[float, str]] = []

    def room(self) -> int:
        return self.place.workers - len(self._running)

    def attach(self, jobs: object) -> tuple[str, ...]:
        return ()

    def submit(self, job: Job) -> None:
        heapq.heappush(self._running, (self.now + (job.resources.seconds or 0.0), job.id))

    def reports(self, timeout: float) -> list[Report]:
        self.now, name = heapq.heappop(self._running)
        return [Report(name, "done")]

    def stop(self, job: str) -> None:
        self._running = [(end, name) for end, name in self._running if name != job]
        heapq.heapify(self._running)

    def close(self) -> None:
        self._running.clear()


def updates_of(config: Mapping[str, Any]) -> int | None:
    """Return the updates of a training whose settings say them, over all its phases; None where epochs decide.

    >>> updates_of({"updates": 300, "encoder_updates": 200, "critic_updates": 1}), updates_of({"updates": None})
    (500, None)
    >>> updates_of({"epochs": 80, "epoch_updates": 10})
    800
    """
    counts = [value for key, value in config.items() if key.endswith("updates") and key not in _OF_AN_EPOCH]
    if counts and None not in counts:
        return sum(counts)
    each, epochs = config.get("epoch_updates", config.get("iterations")), config.get("epochs")
    return None if each is None or epochs is None else each * epochs


@cache
def _usual(target: str, profile: str, anatomy: str) -> tuple[int, dict[str, Any]]:
    """Return how many members a method has, and its settings, where nobody has changed them."""
    cls = import_target(target)
    config = resolve(cls.Config, profile, anatomy)
    return len(answers.members_of(cls(config)) or (0,)), answers.settings_of(config)[0]
