"""What the stages of a plan take, from measured rates, and how long that is with several workers at once."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from ...common.package import import_target
from ...datasets.storing.prepared import PreparedCase
from ...methods.config import resolve
from ..catalogue.rates import Rate, Rates
from ..executors.contract import Event, Job, Listener, Place, Report, run_jobs
from ..refinement.sam import PUBLISHED
from ..runs.folder import RunFolder
from ..stages.fit import FitTask
from ..stages.map import MapTask
from ..stages.refine import RefineTask
from . import answers
from .fits import MOST_FOLDS
from .plan import Graph, PlannedCell

_OF_AN_EPOCH = ("epoch_updates", "critic_updates")
BELIEVED_S = 30.0
"""What is left is corrected by what has ended so far, little by little: short stages are mostly the harness's time."""


class Predictor:
    """Seconds of a core or a GPU by job, from the rates of its method.

    ``probe_s`` is what :func:`~..calibration.probe` takes here; without it, and on a GPU, this machine is taken to be
    as fast as that of the rates. Trainings grow with their updates, or with their slices where epochs are counted;
    mapping and measuring with their slices, and masks of SAM as if something were marked in every slice. Settings that
    change what an update costs are not known.
    """

    def __init__(self, rates: Rates, device: str, probe_s: float | None = None) -> None:
        self.rates = rates
        self.device = "cpu" if device == "cpu" else "gpu"
        self.probe_s = probe_s
        self._seen: dict[Path, tuple[int, ...]] = {}

    def rate(self, cell: PlannedCell) -> Rate | None:
        """Return the rate of a cell's method, None where nobody has measured it."""
        spec, card = cell.candidate.spec, cell.candidate.card
        device = "cpu" if card.trivial else self.device
        return self.rates.find(card.name, spec.profile, spec.anatomy, device)

    def seconds(self, job: Job, cell: PlannedCell) -> float | None:
        """Return what a job takes alone on one core or one GPU, None where nobody knows."""
        rate = self.rate(cell)
        if rate is None:
            return None
        source, task = self.rates.sources[rate.source], job.task
        if isinstance(task, FitTask):
            work = self._fit(task, cell, rate, source.train_slices.get(rate.anatomy))
        elif isinstance(task, MapTask):
            tested = [case for model in task.models for case in model.cases]
            work = rate.slice_s * (self._slices(tested) + len(task.models) * self._slices(task.healthy))
        elif isinstance(task, RefineTask):
            by_slice = source.refine_s.get(PUBLISHED.get(task.sha256, ""))
            if by_slice is None or self.device != rate.device:  # of a trivial method, whose rate is that of a CPU
                return None
            work = by_slice * self._slices(task.cases)
        elif rate.profile not in source.measure_s:
            return None
        else:
            work = source.measure_s[rate.profile] * self._slices(cell.measure.cases)
        speed = 1.0
        if rate.device == "cpu" and self.probe_s is not None and source.probe_s is not None:
            speed = self.probe_s / source.probe_s
        return speed * (work + source.stage_s)

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
        if case.path not in self._seen:
            self._seen[case.path] = case.roi_slices()
        return sum(z is None or z[0] <= found < z[1] for found in self._seen[case.path])


def predict(graph: Graph, predictor: Predictor) -> None:
    """Write into the jobs of a graph how many seconds they take, as :class:`~..executors.contract.Resources`."""
    for name, job in graph.jobs.items():
        found = predictor.seconds(job, graph.plans[graph.cells_of[name][0]])
        if found is not None and not job.resources.gpus:
            found /= job.resources.cpus
        graph.jobs[name] = replace(job, resources=replace(job.resources, seconds=found))


def wall_s(jobs: Iterable[Job], workers: int, listener: Listener = lambda _: None) -> float:
    """Return the seconds from the start of the first job to the end of the last; what nobody knows takes no time."""
    clock = _Clock(Place(RunFolder("nowhere"), workers))
    run_jobs(clock, list(jobs), listener, float("inf"))
    return clock.now


class TimeLeft:
    """Seconds to the end of a run, from what its jobs were predicted to take and what those that ended have taken.

    A job that nobody can predict takes what those of its stage have taken so far, or what the others are predicted to.
    Where stages are packed on GPUs, those with one share ``gpus``, and the others have ``workers``.
    """

    def __init__(self, jobs: Iterable[Job], workers: int, gpus: int | None = None) -> None:
        self._open: dict[str, Job] = {}
        self._workers = workers
        self._gpus = gpus
        self._started: dict[str, float] = {}
        self._predicted = [0.0, 0.0]  # without and with a GPU that is shared
        self._known = self._with_gpu = 0
        self._unknown: Counter[tuple[bool, str]] = Counter()
        for job in jobs:
            self._open[job.id] = job
            self._count(job, 1)
        self._took: dict[str, list[float]] = defaultdict(list)
        self._expected = self._observed = BELIEVED_S

    def note(self, event: Event, now: float) -> None:
        """Take account of an event; ``now`` are the seconds of any clock."""
        if event.kind == "started":
            self._started[event.job.id] = now
        elif event.kind == "again":
            self._started.pop(event.job.id, None)
        elif event.kind != "progress":
            self._count(self._open.pop(event.job.id), -1)
            self._started.pop(event.job.id, None)
            if event.kind == "done":
                self._took[event.job.task.stage].append(event.seconds)
                if event.job.resources.seconds is not None:
                    self._expected += event.job.resources.seconds
                    self._observed += event.seconds

    def seconds(self, now: float) -> float:
        """Return the seconds that are left; only what runs is looked at one by one."""
        factor = self._observed / self._expected
        usual = factor * sum(self._predicted) / self._known if self._known else 0.0

        def unpredicted(stage: str) -> float:
            return fmean(self._took[stage]) if self._took[stage] else usual

        left = [factor * seconds for seconds in self._predicted]
        for (shared, stage), count in self._unknown.items():
            left[shared] += count * unpredicted(stage)
        for name, since in self._started.items():
            job = self._open[name]
            predicted = job.resources.seconds
            takes = unpredicted(job.task.stage) if predicted is None else factor * predicted
            left[self._shares(job)] -= min(takes, now - since)
        waits = (len(self._open) - self._with_gpu, self._with_gpu)
        at_once = (self._workers, self._gpus or 1)
        parts = zip(left, at_once, waits, strict=True)
        return max(max(0.0, part) / min(most, max(1, count)) for part, most, count in parts)

    def _shares(self, job: Job) -> bool:
        return self._gpus is not None and job.resources.gpus > 0

    def _count(self, job: Job, by: int) -> None:
        shared, seconds = self._shares(job), job.resources.seconds
        self._with_gpu += by * shared
        if seconds is None:
            self._unknown[shared, job.task.stage] += by
        else:
            self._predicted[shared] += by * seconds
            self._known += by


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
