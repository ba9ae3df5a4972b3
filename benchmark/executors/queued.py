"""Runs jobs in a queue elsewhere: their files say what becomes of them, and the queue only which of them have gone.

Jobs go to the queue in batches of groups; the jobs of a group run one after the other (:mod:`..stages.batch`). Each
batch is written down before it is sent, so that a later submitter finds what an earlier one has left in the queue.
"""

import json
import os
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, Field

from ...common.atomic import write_text
from ...common.errors import UasbenchError, brief
from ...common.json_files import read_json
from ..stages import batch
from .contract import Job, Listing, Place, Report, checked_settings
from .grouping import grouped
from .peaks import Peaks, with_spare

QUEUED = 1 << 16
"""Jobs that are taken; those that the queue shall not have yet wait here."""
LARGEST_BATCH = 1000
ATTEMPTS, PAUSE_S = 5, 30.0
ENDING_S, PROGRESS_S = 180.0, 5.0
ANY_NODE = "a node"
BATCH = ".batch"
"""How the files of batches end that may still be in the queue."""


class QueueError(UasbenchError):
    """The queue cannot be used as asked; the message says why."""


class QueueSettings(BaseModel, extra="forbid"):
    """What ``--queue`` says of any queue.

    ``group_s`` is what a group of stages should take, by their predicted seconds; 0 puts each stage into a job of its
    own. ``unknown_s`` is what a stage takes of which nobody knows; without it, such a stage has a job of its
    own. ``gather_s`` is how long a stage waits for others to be grouped with, ``poll_s`` how often the queue is asked,
    ``grace_s`` how long files may take to appear here after their job has left the queue, and ``tries`` how often a
    stage is sent that the queue ends before it has a result.
    """

    group_s: float = Field(default=300.0, ge=0)
    unknown_s: float | None = Field(default=None, gt=0)
    gather_s: float = Field(default=2.0, ge=0)
    poll_s: float = Field(default=15.0, gt=0)
    grace_s: float = Field(default=30.0, ge=0)
    tries: int = Field(default=3, ge=1)


class Key(NamedTuple):
    """A group in the queue: its batch and its number there."""

    batch: str
    number: int

    @property
    def text(self) -> str:
        return f"{self.batch}-{self.number}"


@dataclass(frozen=True)
class Verdict:
    """What the queue says of a group: it waits, is there (waiting or running), or has ended, and why.

    ``again`` says which jobs run again that have no result: all, those that had not started, or none.
    """

    state: Literal["waiting", "there", "ended"]
    reason: str = "it left the queue without a result"
    again: Literal["all", "others", "none"] = "others"


ENDED = Verdict("ended")


@dataclass
class _Group:
    key: Key
    jobs: dict[str, Job]
    ended: tuple[float, Verdict] | None = None


class QueuedExecutor(ABC):
    """What executors of queues share; a subclass sends, asks and cancels. Jobs go on when their submitter is killed."""

    elsewhere: ClassVar = True
    settings_of: ClassVar[type[QueueSettings]] = QueueSettings

    def __init__(self, place: Place) -> None:
        self.place = place
        self.settings: Any = checked_settings(self.settings_of, place.settings)
        self._waiting: dict[str, tuple[Job, float]] = {}
        self._groups: dict[Key, _Group] = {}
        self._group_of: dict[str, _Group] = {}
        self._left: dict[str, Key] = {}
        self._started: set[str] = set()
        self._progress: dict[str, Any] = {}
        self._tries: dict[str, int] = {}
        self._said: list[Report] = []
        self._asked = self._read = time.monotonic()
        self._refused, self._not_before = 0, 0.0
        self._peaks = Peaks(None if place.cache is None else place.cache / "ram-peaks.json", "peak_ram_mib")
        self._files = Listing(place.folder.tasks_dir)

    @abstractmethod
    def send(self, name: str, groups: Sequence[Sequence[Job]], command: Sequence[str], tries: int) -> None:
        """Put a batch into the queue; ``command`` and the number of a group run that group.

        Its jobs take the same of a node, and were sent ``tries`` times before.

        Raises:
            QueueError: the queue does not take it.
        """

    @abstractmethod
    def ask(self, keys: Collection[Key]) -> Mapping[Key, Verdict] | None:
        """Return what the queue says of groups, nothing of those it does not know; None where it does not answer."""

    @abstractmethod
    def cancel(self, keys: Collection[Key]) -> None:
        """Have groups end; those that the queue does not know any more are left out."""

    def left_by(self, key: Key) -> Sequence[Path]:
        """Return the files beside its output that a group leaves."""
        return ()

    def room(self) -> int:
        return QUEUED - len(self._waiting) - len(self._group_of)

    def attach(self, jobs: Sequence[Job]) -> list[str]:
        wanted = {job.id: job for job in jobs}
        batches = {path: _plan_in(path) for path in self._batches()}
        keys = {Key(path.stem, n): ids for path, plan in batches.items() for n, ids in enumerate(plan["jobs"])}
        there = {key for key, verdict in self._answer(keys).items() if verdict.state != "ended"} if keys else set()
        stale = []
        for key in there:
            open_ = [wanted[name] for name in keys[key] if name in wanted and not self.place.outcome(name)]
            if not all(self._is_written(job) for job in open_):
                stale.append(key)
            elif open_:
                self._groups[key] = _Group(key, {})
                self._left.update({job.id: key for job in open_})
        self._end(stale)
        for path in batches:
            if not any(key.batch == path.stem for key in there):
                self._forget(path.stem)
        running = [name for name in self._left if self.place.state(name).exists()]
        for name in running:
            self.submit(wanted[name])
            self._started.add(name)
        return running

    def submit(self, job: Job) -> None:
        if (key := self._left.pop(job.id, None)) is not None:  # an earlier submitter has sent it
            self._join(self._groups[key], job)
        else:
            peak = self._peaks.of(job, ANY_NODE)
            if peak is not None and job.resources.memory_mib is None:
                job = replace(job, resources=replace(job.resources, memory_mib=with_spare(peak)))
            self._waiting[job.id] = (job, time.monotonic())

    def reports(self, timeout: float) -> list[Report]:
        self._send_waiting()
        self._look()
        if time.monotonic() - self._asked >= self.settings.poll_s:
            self._poll()
        if not self._said:
            time.sleep(timeout)
        found, self._said = self._said, []
        return found

    def stop(self, job: str) -> None:
        if self._waiting.pop(job, None) is None:
            group = self._group_of[job]
            self._end([group.key])
            self._look()
            others = [other for other in group.jobs.values() if other.id != job]
            if group.key in self._groups:
                self._drop(group)
            for other in others:
                self._again(other)
        self._said = [report for report in self._said if report.id != job]

    def close(self) -> None:
        self._waiting.clear()
        self._end([*self._groups])
        for group in [*self._groups.values()]:
            self._drop(group)

    def _join(self, group: _Group, job: Job) -> None:
        group.jobs[job.id] = job
        self._group_of[job.id] = group

    def _again(self, job: Job) -> None:
        self._group_of.pop(job.id, None)
        self._started.discard(job.id)
        self._waiting[job.id] = (job, time.monotonic())

    def _send_waiting(self) -> None:
        now = time.monotonic()
        busy = len(self._groups)
        free = self.place.workers - busy
        if not self._waiting or free <= 0 or now < self._not_before:
            return
        if busy and now - min(since for _, since in self._waiting.values()) < self.settings.gather_s:
            return
        kinds: dict[Any, list[Job]] = {}
        for job, _ in self._waiting.values():
            takes = job.resources
            kind = (takes.cpus, takes.memory_mib, bool(takes.gpus), self._tries.get(job.id, 0))
            kinds.setdefault(kind, []).append(job)
        for (*_, tries), jobs in sorted(kinds.items(), key=lambda item: min(job.rank for job in item[1])):
            ordered = sorted(jobs, key=lambda job: (job.rank, job.id))
            groups = grouped(ordered, self.settings)[: min(free, LARGEST_BATCH)]
            if groups and not self._send(groups, tries):
                return
            free -= len(groups)

    def _send(self, groups: list[list[Job]], tries: int) -> bool:
        name = f"bench-{uuid.uuid4().hex[:12]}"
        files = [[self.place.files(job) for job in group] for group in groups]
        ids = [[job.id for job in group] for group in groups]
        plan = {"preload": list(self.place.preload), "groups": files, "jobs": ids}
        path = self.place.own(f"{name}{BATCH}")
        write_text(path, json.dumps(plan))
        try:
            self.send(name, groups, [sys.executable, "-P", "-m", batch.__name__, os.fspath(path.absolute())], tries)
        except QueueError:
            self._forget(name)
            self._refused += 1
            self._not_before = time.monotonic() + PAUSE_S
            if not self._tries or (not self._groups and self._refused >= ATTEMPTS):
                raise
            return False  # it may be too busy, or have too many jobs of this user
        self._refused = 0
        for number, jobs in enumerate(groups):
            group = self._groups[key] = _Group(key := Key(name, number), {})
            for job in jobs:
                del self._waiting[job.id]
                self._tries[job.id] = tries + 1
                self._join(group, job)
        return True

    def _look(self) -> None:
        """Read from the files of jobs what has become of them."""
        names = self._files.names() if self._group_of else set[str]()
        now = time.monotonic()
        again = now - self._read >= min(self.settings.poll_s, PROGRESS_S)
        for name, group in list(self._group_of.items()):
            ended = f"{name}.result" in names
            if name not in self._started and (ended or f"{name}.state" in names):
                self._started.add(name)
                self._said.append(Report(name, "started"))
            if ended and (outcome := self.place.outcome(name)) is not None:
                self._said.append(outcome)
                if outcome.kind == "done":
                    self._peaks.learn(group.jobs[name], ANY_NODE)
                del self._group_of[name], group.jobs[name]
                if not group.jobs and group.key not in self._left.values():
                    self._drop(group)
            elif again and name in self._started:
                self._tell_progress(name)
        if again:
            self._read = now

    def _tell_progress(self, name: str) -> None:
        if (progress := self.place.progress(name)) not in (None, self._progress.get(name)):
            self._progress[name] = progress
            self._said.append(Report(name, "progress", progress))

    def _poll(self) -> None:
        """Learn which groups have left the queue; one that has no result after a while has failed, or runs again."""
        self._asked = time.monotonic()
        groups = [group for group in self._groups.values() if group.jobs]
        running = {name: job for group in groups for name, job in group.jobs.items() if name in self._started}
        answer = self.ask([group.key for group in groups]) if groups else None
        if answer is None:
            return
        for group in groups:
            verdict = answer.get(group.key, ENDED)
            if verdict.state != "ended":
                group.ended = None
                if verdict.state == "waiting":  # it was put back into the queue
                    for name in group.jobs.keys() & running.keys():
                        self.place.state(name).unlink(missing_ok=True)
                        self._started.discard(name)
                        self._said.append(Report(name, "again", "the queue has put it back"))
            elif group.ended is None:
                group.ended = (self._asked, verdict)
            elif self._asked - group.ended[0] >= self.settings.grace_s:
                self._settle(group, group.ended[1])
            elif verdict.reason != ENDED.reason:
                group.ended = (group.ended[0], verdict)

    def _settle(self, group: _Group, verdict: Verdict) -> None:
        """Take leave of a group that has ended before all its jobs had a result."""
        self._look()
        if group.key not in self._groups:
            return
        jobs, reason = list(group.jobs.values()), f"{verdict.reason}{self._last_line(group.key)}"
        self._drop(group)
        begun = {job.id for job in jobs} & self._started
        for job in jobs:
            may = verdict.again == "all" or (verdict.again == "others" and begun and job.id not in begun)
            if may and self._tries.get(job.id, 1) < self.settings.tries:
                self._again(job)
                if job.id in begun:
                    self._said.append(Report(job.id, "again", verdict.reason))
            else:
                self._said.append(Report(job.id, "failed", reason))

    def _end(self, keys: Collection[Key]) -> None:
        """Cancel groups and wait until they have left the queue."""
        until = time.monotonic() + ENDING_S
        while keys and time.monotonic() < until:
            self.cancel(keys)
            time.sleep(0.2)
            answer = self.ask(keys)
            if answer is not None:
                keys = [key for key in keys if answer.get(key, ENDED).state != "ended"]

    def _drop(self, group: _Group) -> None:
        for name in group.jobs:
            self._group_of.pop(name, None)
        self._left = {name: key for name, key in self._left.items() if key != group.key}
        del self._groups[group.key]
        if not any(key.batch == group.key.batch for key in self._groups):
            self._forget(group.key.batch)

    def _answer(self, keys: Collection[Key]) -> Mapping[Key, Verdict]:
        for _ in range(ATTEMPTS):
            if (answer := self.ask(keys)) is not None:
                return answer
            time.sleep(1)
        raise QueueError("the queue does not say what an earlier command has left in it; try again later")

    def _is_written(self, job: Job) -> bool:
        """Say whether what was sent under the name of a job is that job."""
        try:
            return self.place.task(job.id).read_text(encoding="utf-8") == job.text
        except OSError:
            return False

    def _batches(self) -> list[Path]:
        return sorted(self.place.folder.tasks_dir.glob(f"bench-*{BATCH}"))

    def output(self, key: Key) -> Path:
        """Return the file that the queue writes the output of a group to, beside the logs of its stages."""
        return self.place.own(f"{key.text}.out")

    def _last_line(self, key: Key) -> str:
        try:
            lines = self.output(key).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        said = [line.strip() for line in lines if line.strip()]
        return f"; its output ends with: {said[-1][:300]}" if said else ""

    def _forget(self, name: str) -> None:
        """Delete the files of a batch that has ended; it names them, so that a large folder is not listed."""
        path = self.place.own(f"{name}{BATCH}")
        keys = [Key(name, number) for number in range(len(_plan_in(path)["jobs"]))]
        for file in (file for key in keys for file in self.left_by(key)):
            file.unlink(missing_ok=True)
        for output in map(self.output, keys):
            with suppress(FileNotFoundError):
                if not output.stat().st_size:
                    output.unlink()
        path.unlink()


def _plan_in(path: Path) -> dict[str, Any]:
    try:
        plan = read_json(path)
        return {**plan, "jobs": [list(ids) for ids in plan["jobs"]]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise QueueError(
            f"{path} cannot be read ({brief(error)}); cancel the jobs named {path.stem} in the queue, and delete it"
        ) from error
