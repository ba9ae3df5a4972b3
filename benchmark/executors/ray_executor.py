"""Runs jobs as tasks of Ray, on a cluster that is there or on one of this machine."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...common.errors import brief, summary
from ..stages.apart import death
from ..stages.worker import STATE_EVERY_S
from .contract import Job, Listing, Place, Report
from .ray_cluster import RayCluster, RayError, RaySettings
from .ray_task import GRACE_S, run_stage, surroundings

TRIES = 3
STARTING_S = 0.05
CANCEL_S = 3 * GRACE_S
PATIENCE_S = 300.0
LOOK_EVERY_S = 5.0


@dataclass
class _Task:
    job: Job
    ref: Any
    tries: int
    asked: dict[str, float]
    started: bool = False
    fits_at: float = 0.0
    """When a node was last seen that could take it."""
    progress: tuple[int, int] | None = None


class RayExecutor:
    """One task of Ray per job, in a process forked where Ray runs it; jobs end with their submitter.

    A job whose process of Ray or whose node dies runs again, at most ``TRIES`` times in all; one that fails by itself
    does not.

    Raises:
        RayError: as :class:`.RayCluster`, or stages should be packed on GPUs.
    """

    settings_of = RaySettings

    def __init__(self, place: Place) -> None:
        if place.packed:
            raise RayError("--workers pack: stages are packed on GPUs with --executor local alone; give a number")
        self.place = place
        self.cluster = RayCluster(place)
        self._ray = self.cluster.ray
        self._run: Any = self._ray.remote(max_retries=0, max_calls=0)(run_stage)
        self._modules = [f"{__name__.rpartition('.executors')[0]}.stages.preload", *place.preload]
        self._tasks: dict[str, _Task] = {}
        self._looked = self._asked = 0.0
        self._logs = Listing(place.folder.logs_dir)

    def room(self) -> int:
        return self.place.workers - len(self._tasks)

    def attach(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        return ()  # Ray ends the tasks of a submitter that is gone

    def submit(self, job: Job, tries: int = 1) -> None:
        self.place.log(job.id).unlink(missing_ok=True)
        asked = self.cluster.takes(job.resources)
        run = self._run.options(name=job.id, **asked)
        ref = run.remote(self.place.files(job), surroundings(os.environ), asked["num_gpus"] > 0, self._modules)
        self._tasks[job.id] = _Task(job, ref, tries, asked, fits_at=time.monotonic())

    def reports(self, timeout: float) -> list[Report]:
        found: list[Report] = []
        ended = self._ended(timeout)
        for name in self._just_started(ended):
            self._tasks[name].started = True
            found.append(Report(name, "started"))
        found += self._progress()
        for name in ended:
            task = self._tasks.pop(name)
            found.append(self._outcome(task))
            if found[-1].kind == "again":
                self.submit(task.job, task.tries + 1)
        return found + self._hopeless()

    def stop(self, job: str) -> None:
        self._cancel([self._tasks.pop(job).ref])

    def close(self) -> None:
        try:
            self._cancel([task.ref for task in self._tasks.values()])
        finally:
            self.cluster.close()

    def _ended(self, timeout: float) -> list[str]:
        """Return the jobs whose tasks have ended; wait for one, less where one may start meanwhile."""
        names = {task.ref: name for name, task in self._tasks.items()}
        if not names:
            time.sleep(timeout)
            return []
        if not all(task.started for task in self._tasks.values()):
            timeout = min(timeout, STARTING_S)
        self._ray.wait([*names], timeout=timeout, fetch_local=False)
        return [names[ref] for ref in self._ray.wait([*names], num_returns=len(names), timeout=0, fetch_local=False)[0]]

    def _just_started(self, ended: Sequence[str]) -> list[str]:
        """Return the jobs whose logs have come: a task opens it when it starts the stage."""
        waiting = [name for name, task in self._tasks.items() if not task.started]
        if not waiting:
            return []
        logs = self._logs.names()
        return [name for name in waiting if name in ended or self.place.log(name).name in logs]

    def _progress(self) -> Iterator[Report]:
        """Yield how far the stages are that run, as often as they say it."""
        if (now := time.monotonic()) - self._asked < STATE_EVERY_S:
            return
        self._asked = now
        for name, task in self._tasks.items():
            if task.started and (progress := self.place.progress(name)) not in (None, task.progress):
                task.progress = progress
                yield Report(name, "progress", progress)

    def _outcome(self, task: _Task) -> Report:
        name = task.job.id
        try:
            status, text = self._ray.get(task.ref)
        except self._ray.exceptions.RayTaskError as error:
            return Report(name, "failed", summary(error.cause))
        except self._ray.exceptions.RayError as error:
            message = f"Ray lost the stage: {type(error).__name__}: {brief(error).partition('. ')[0]}"
            if task.tries == TRIES:
                return Report(name, "failed", f"{message} ({TRIES} times)")
            return Report(name, "again", message)
        error = death(status) if text is None else json.loads(text)["error"]
        return Report(name, "done") if error is None else Report(name, "failed", error)

    def _hopeless(self) -> list[Report]:
        """Give up jobs that no node of the cluster could take for some time: Ray would wait for ever."""
        now = time.monotonic()
        waiting = [task for task in self._tasks.values() if not task.started]
        if not waiting or now - self._looked < LOOK_EVERY_S:
            return []
        self._looked = now
        found = []
        for task in waiting:
            if self.cluster.fits(task.asked):
                task.fits_at = now
            elif now - task.fits_at > PATIENCE_S:
                self.stop(task.job.id)
                wanted = ", ".join(f"{part} {most:g}" for part, most in task.asked.items())
                found.append(Report(task.job.id, "failed", f"no node of the Ray cluster has {wanted}"))
        return found

    def _cancel(self, refs: list[Any]) -> None:
        """End tasks and wait until they have; one that does not come back loses its process."""
        for force in (False, True):
            if refs:
                for ref in refs:
                    self._ray.cancel(ref, force=force)
                refs = self._ray.wait(refs, num_returns=len(refs), timeout=CANCEL_S, fetch_local=False)[1]
