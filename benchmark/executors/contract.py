"""What an executor is asked for, and what the engine does itself; docs/plugins.md tells how to write one.

The executor starts single stages from the JSON form of their tasks, says what becomes of them, and stops them. The
engine (:func:`run_jobs`) submits a stage once what it needs is done, cancels what needed a failed one and
nothing else, stops stages at the limit, and closes the executor however the run ends. The stage itself leaves alone
what is finished, and :func:`~uasbench.benchmark.stages.worker.work_file` holds its lock, so that no stage runs twice
at once and a later submitter adopts whatever an earlier one has finished.
"""

import heapq
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from ...common.atomic import write_text
from ...common.errors import UasbenchError, brief, did_you_mean
from ...common.json_files import read_json
from ..catalogue import registry
from ..node_kind import NODE_KIND
from ..runs.folder import RunFolder
from ..stages import worker
from ..stages.task import Task

TICK_S = 0.25
LISTING_S, LISTING_RARER = 0.01, 20
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Resources:
    """What a stage takes: CPU threads, memory in MiB, share of one GPU, seconds; None where nothing is predicted."""

    cpus: int = 1
    memory_mib: float | None = None
    gpus: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Job:
    """One stage to run.

    Attributes:
        id: unique in the run; also names the job's lock, log and files.
        task: what the stage gets; :attr:`text` is all that a worker needs.
        label: for people.
        needs: ids of jobs that must be done first.
        rank: smaller starts earlier among the jobs that are ready.
        node_kind: file with the kind of node that it may run on, see :mod:`~uasbench.benchmark.node_kind`; None is any.
    """

    id: str
    task: Task
    label: str
    needs: frozenset[str] = frozenset()
    rank: tuple[int, ...] = field(default=())
    resources: Resources = Resources()
    node_kind: Path | None = None

    @property
    def text(self) -> str:
        text = self.task.model_dump_json()
        return (
            text if self.node_kind is None else json.dumps({**json.loads(text), NODE_KIND: os.fspath(self.node_kind)})
        )


@dataclass(frozen=True)
class Event:
    """What happened to a job.

    It started, made progress (done, total), is done (kWh that it took of a GPU, None where nobody knows), failed
    (message), was cancelled (failed need), or ended through no fault of its own and will run again (message).
    """

    job: Job
    kind: Literal["started", "progress", "done", "failed", "cancelled", "again"]
    value: Any = None
    seconds: float = 0.0


Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Report:
    """What an executor says about a job: started, progress (done, total), done or failed (a message of one line).

    The value of ``done`` is the energy in kWh that it took of a GPU, None where nobody knows. An executor that starts a
    job once more, after a failure that is not the job's own, says ``again`` with the message of it.
    """

    id: str
    kind: Literal["started", "progress", "done", "failed", "again"]
    value: Any = None


@dataclass(frozen=True)
class Place:
    """Where an executor works and how much it may do at once.

    Attributes:
        folder: the run, whose files every worker sees under the same path.
        workers: stages at once.
        device: ``cpu`` or ``cuda``.
        limit_s: seconds after which the engine stops a stage.
        preload: modules that a warm server of workers may import beforehand.
        packed: as many stages on each GPU as fit there; ``workers`` are then those without a GPU.
        cache: folder for what is learned about stages.
        settings: what ``--queue`` says, for the executor to check.
    """

    folder: RunFolder
    workers: int
    device: str = "cpu"
    limit_s: float = float("inf")
    preload: tuple[str, ...] = ()
    packed: bool = False
    cache: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def log(self, job: str) -> Path:
        """Return the file that a job's output goes to."""
        return self._own(self.folder.logs_dir / f"{job}.log")

    def lock(self, job: str) -> Path:
        """Return the file that a worker locks while it runs the job."""
        return self._own(self.folder.locks_dir / job)

    def command(self, job: Job) -> list[str]:
        """Write the job's task down and return the command that runs it on any host that sees the run folder."""
        self.files(job)
        return self.again(job.id)

    def again(self, job: str) -> list[str]:
        """Return the command of a job whose task is written down already; what came of it before is forgotten."""
        return [sys.executable, "-P", "-m", worker.__name__, *self._files(job)]

    def files(self, job: Job) -> list[str]:
        """Write the job's task down and return the files of a worker: the task, its result, its log and its lock."""
        write_text(self.task(job.id), job.text)
        return self._files(job.id)

    def _files(self, job: str) -> list[str]:
        for left in (self._result(job), self.state(job)):
            left.unlink(missing_ok=True)
        files = (self.task(job), self._result(job), self.log(job), self.lock(job))
        return [os.fspath(file.absolute()) for file in files]

    def task(self, job: str) -> Path:
        """Return the file that a job's task is written to."""
        return self._own(self.folder.tasks_dir / f"{job}.json")

    def state(self, job: str) -> Path:
        """Return the file that tells of a job that it has started, and its progress."""
        return worker.state_of(self._result(job))

    def progress(self, job: str) -> tuple[int, int] | None:
        """Return how far a job is whose files :meth:`files` has named (done, total), None where it has not said so."""
        try:
            done, total = read_json(self.state(job))["progress"]
        except (OSError, ValueError, TypeError):
            return None
        return done, total

    def outcome(self, job: str) -> Report | None:
        """Return how a job ended that :meth:`command` ran, None where it has left no result (yet)."""
        return outcome_in(self._result(job), job)

    def _result(self, job: str) -> Path:
        return self._own(self.folder.tasks_dir / f"{job}.result")

    def own(self, name: str) -> Path:
        """Return a file of the executor itself beside those of the jobs, which ``bench clean`` may delete."""
        return self._own(self.folder.tasks_dir / name)

    def _own(self, path: Path) -> Path:
        self.folder.ledger.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def outcome_in(result: Path, job: str) -> Report | None:
    """Return what the file with the result of a job says, None where there is none (yet)."""
    try:
        error = read_json(result)["error"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        return Report(job, "failed", f"{result} cannot be read ({brief(error)}); run the same command again")
    return Report(job, "done") if error is None else Report(job, "failed", error)


class Listing:
    """The names of the files in a folder: a list asks a network file system anew, unlike a look at each.

    One of a hundred thousand files is read so seldom that it takes a twentieth of the time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names, self._next = set[str](), 0.0

    def names(self) -> set[str]:
        """Return the names, those of a large folder as they were a while ago."""
        if (began := time.monotonic()) >= self._next:
            self._names = {entry.name for entry in os.scandir(self.folder)}
            took = time.monotonic() - began
            self._next = began if took < LISTING_S else began + LISTING_RARER * took
        return self._names


class Executor(Protocol):
    """Runs stages somewhere; ``uasbench.benchmark.conformance.executors`` checks one.

    It promises: a job runs from :attr:`Job.text` alone, with nothing pickled; its output goes to :meth:`Place.log`; it
    holds :meth:`Place.lock` while it runs and does not see ``UASBENCH_DATA`` (a job that :meth:`Place.command` or
    ``stages.worker.work`` runs keeps these promises by itself); a job that dies, however it dies, is reported as
    failed; after :meth:`stop` and :meth:`close` no process of it is left; and when the submitter is killed, a job
    either ends too or goes on and is found by :meth:`attach`.

    ``elsewhere = True`` says that stages run on other machines than the submitter, and ``settings_of`` names the model
    (pydantic) of :attr:`Place.settings`; an executor without them has neither.
    """

    def __init__(self, place: Place) -> None: ...

    def room(self) -> int:
        """Return how many further jobs may be submitted now."""
        ...

    def attach(self, jobs: Sequence[Job]) -> Collection[str]:
        """Return the ids of those jobs that an earlier submitter left running, and report on them from now on."""
        ...

    def submit(self, job: Job) -> None:
        """Start a job, or queue it; its needs are done."""

    def reports(self, timeout: float) -> list[Report]:
        """Return what has happened since the last call, in order; wait at most ``timeout`` seconds for it."""
        ...

    def stop(self, job: str) -> None:
        """End a job and wait until it has ended; nothing more is reported about it."""

    def close(self) -> None:
        """End every job that still runs; called once, last, also after an interrupt."""


PARTS = tuple(name for name in vars(Executor) if name.isalpha())


class SettingsError(UasbenchError):
    """A setting of an executor is unknown, missing or has a value that cannot be used."""


def checked_settings(model: type[M] | None, values: Mapping[str, Any]) -> M | None:
    """Build the settings of an executor from what ``--queue`` says; None where it has none.

    Raises:
        SettingsError: as it says.
    """
    if model is None:
        if values:
            raise SettingsError(f"--queue {min(values)}: this executor has no settings; --executor names another")
        return None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            known = list(model.model_fields)
            why = f"there is no such setting{did_you_mean(name, known) or '; there are ' + ', '.join(known)}"
            raise SettingsError(f"--queue {name}: {why}") from error
        if first["type"] == "missing":
            raise SettingsError(f"--queue {name}=…: this executor needs it; see docs/cluster.md") from error
        raise SettingsError(f"--queue {name}: {first['msg']}") from error


def find_executor(name: str) -> type[Executor]:
    """Return the registered executor of this name (group ``uasbench.executors``).

    Raises:
        RegistryError: unknown name, or not an executor; the message says which there are.
    """
    found = registry.executors().get(name)
    if missing := [part for part in PARTS if not callable(getattr(found, part, None))]:
        raise registry.RegistryError(f"executor {name!r} has no {', '.join(missing)}; see docs/plugins.md")
    return found


def run_jobs(executor: Executor, jobs: Sequence[Job], listener: Listener, limit_s: float) -> None:
    """Run all jobs, reporting to ``listener``; a failed job cancels what needs it and nothing else.

    A job that takes longer than ``limit_s`` is stopped and failed.

    Raises:
        ValueError: jobs need one that is not there.
        KeyboardInterrupt: raised again after the running jobs were stopped.
    """
    waiting = {job.id: job for job in sorted(jobs, key=lambda job: job.rank)}
    places = {name: place for place, name in enumerate(waiting)}
    wants: dict[str, list[Job]] = defaultdict(list)  # what needs a job
    for job in waiting.values():
        for need in job.needs:
            wants[need].append(job)
    missing = {job.id: len(job.needs) for job in waiting.values()}
    ready = [(places[name], name) for name, count in missing.items() if not count]
    running: dict[str, Job] = {}
    started: dict[str, float] = {}

    def start(job: Job) -> None:
        started[job.id] = time.monotonic()
        listener(Event(job, "started"))

    def end(job: Job, error: str | None, kwh: float | None = None) -> None:
        del running[job.id]
        seconds = time.monotonic() - started.pop(job.id, time.monotonic())
        if error is None:
            for other in wants[job.id]:
                missing[other.id] -= 1
                if not missing[other.id]:
                    heapq.heappush(ready, (places[other.id], other.id))
            listener(Event(job, "done", kwh, seconds))
            return
        listener(Event(job, "failed", error, seconds))
        lost = [job.id]
        while lost:
            for other in wants[lost.pop()]:
                if waiting.pop(other.id, None) is not None:
                    lost.append(other.id)
                    listener(Event(other, "cancelled", job))

    try:
        for name in executor.attach(list(waiting.values())):
            running[name] = waiting.pop(name)
            start(running[name])
        while waiting or running:
            room = executor.room()
            while ready and room > 0:
                name = heapq.heappop(ready)[1]
                if name in waiting:  # and not one that an earlier submitter left running
                    running[name] = waiting.pop(name)
                    executor.submit(running[name])
                    room -= 1
            if waiting and not running:
                raise ValueError(f"{', '.join(waiting)} need jobs that are not there, or the executor takes none")
            for report in executor.reports(TICK_S):
                job = running[report.id]
                if report.kind == "started":
                    start(job)
                elif report.kind == "again":
                    started.pop(job.id, None)
                    listener(Event(job, "again", report.value))
                elif report.kind == "progress":
                    listener(Event(job, "progress", report.value))
                elif report.kind == "done":
                    end(job, None, report.value)
                else:
                    end(job, report.value)
            now = time.monotonic()
            for name in [name for name, at in started.items() if now - at > limit_s]:
                executor.stop(name)
                end(running[name], f"stopped after {limit_s:.0f} s, the stage limit; raise it with --stage-limit")
    finally:
        executor.close()
