"""``bench status``: what a run has done, does and still has to do, from its folder alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...common.errors import brief, printable
from ...common.json_files import parsed
from ..executors.contract import Event, Job, Resources, outcome_in
from ..executors.queued import BATCH
from ..planning.time_left import TimeLeft
from ..runs.folder import RunFolder, RunFolderError
from ..stages.task import Task
from .display import duration
from .journal import FINISHED, STOPPED

ENDED = (FINISHED, STOPPED)
UNKNOWN = "unfinished"
STAGES = ("fit", "map", "refine", "measure")
ASKED_FOR = ("refine",)
"""Stages that a run has where it was asked for them."""
STATES = ("done", "running", "waiting", "failed")
SHOWN = 10


@dataclass
class Stage:
    """A stage of the command: one of :data:`STATES`, since when (s since 1970), per cent done, and what went wrong."""

    stage: str
    label: str
    state: str = "waiting"
    since: float = 0.0
    percent: int | None = None
    error: str = ""


@dataclass
class Status:
    """How a run stands.

    Attributes:
        state: ``running``, ``closing`` (tables, figures, report), ``stopped`` before its end, ``finished``, or
            ``unfinished`` where no journal says more.
        doing: what is done while it closes.
        cells: how many are done, failed and open.
        stages: those of the present or last command, by id; empty where it has written no journal.
        left_s: seconds to the end of the run, None where nobody knows.
        silent_s: seconds since the last line of the journal.
        process: pid and host of the command.
        queued: whether a command that was stopped has left jobs in a queue.
    """

    run: str
    state: str
    cells: dict[str, int]
    doing: str = ""
    since: float | None = None
    stages: dict[str, Stage] = field(default_factory=dict)
    workers: int | None = None
    left_s: float | None = None
    silent_s: float | None = None
    process: dict[str, Any] = field(default_factory=dict)
    queued: bool = False

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many stages of each kind are in which state."""
        found = Counter((s.stage, s.state) for s in self.stages.values())
        has = {stage.stage for stage in self.stages.values()}
        shown = [name for name in STAGES if name not in ASKED_FOR or name in has]
        return {name: {state: found[name, state] for state in STATES} for name in shown}

    def json(self) -> dict[str, Any]:
        """Return it as plain values."""
        plain = {name: value for name, value in vars(self).items() if name != "stages"}
        named = [vars(s) for s in self.stages.values() if s.state in ("running", "failed")]
        return {**plain, "stages": self.counts(), "named": named}


def status(folder: RunFolder, now: float) -> Status:
    """Return how a run stands at the time ``now``, in seconds since 1970; a journal's cut last line counts nothing.

    Raises:
        RunFolderError: the folder is no run, or its journal is damaged.
    """
    planned = set(folder.info().get("cells", []))
    done, failed = ({path.stem for path in part.glob("*.json")} for part in (folder.records_dir, folder.failures_dir))
    counts = {"done": len(done), "failed": len(failed - done), "open": len(planned - done - failed)}
    found = Status(str(folder.path), UNKNOWN if counts["open"] else FINISHED, counts)
    plan, *told = _lines(folder) or [{}]
    if isinstance(plan, dict) and "jobs" in plan:
        try:
            _follow(found, folder, plan, told, now)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise RunFolderError(
                f"{folder.progress} cannot be read ({brief(error)}); delete it, the next command writes it anew"
            ) from error
    return found


def _follow(found: Status, folder: RunFolder, plan: dict[str, Any], told: list[Any], now: float) -> None:
    """Fill in what a journal tells: the stages of the last command, and whether it goes on."""
    found.process, found.workers, found.since = plan["process"], plan["workers"], float(plan["at"])
    jobs = {row[0]: _job(row, plan["jobs"]) for row in plan["jobs"]}
    found.stages = {name: Stage(job.task.stage, job.label) for name, job in jobs.items()}
    left = TimeLeft(jobs.values(), plan["workers"], plan["gpus"], plan.get("tables_s", 0.0))
    last, state = found.since, "running"
    for what, about, at, value in told:
        if state in ENDED:  # what follows is of other commands, such as rescore
            break
        last = at
        if about in jobs:
            _apply(found.stages[about], what, at, value)
            left.note(Event(jobs[about], what, value, value if what == "done" else 0.0), at)
        else:
            state, found.doing = what, about
    alive = _alive(found.process)
    if state not in ENDED and alive is False:
        state = STOPPED
    if state in ENDED:
        for stage in found.stages.values():
            stage.state = "waiting" if stage.state == "running" else stage.state
        found.queued = state == STOPPED and _look_into_queue(folder, found.stages)
    elif state == "running":
        found.left_s = left.seconds(now)
    found.state, found.silent_s = state, max(0.0, now - last)


def _look_into_queue(folder: RunFolder, stages: Mapping[str, Stage]) -> bool:
    """Note what the files of stages say that a command has left in a queue when it died; say whether it left any."""
    files = {path.name: path for path in folder.tasks_dir.iterdir()} if folder.tasks_dir.is_dir() else {}
    if not any(name.endswith(BATCH) for name in files):
        return False
    for name, stage in stages.items():
        if stage.state != "waiting":
            continue
        result = files.get(f"{name}.result")
        if result is not None and (outcome := outcome_in(result, name)) is not None:
            stage.state, stage.error = outcome.kind, outcome.value or ""
        elif (state := files.get(f"{name}.state")) is not None:
            stage.state, stage.since = "running", state.stat().st_mtime
    return True


def lines(found: Status, now: float) -> list[str]:
    """Return the status as a person reads it."""
    where = f", pid {found.process['pid']} on {found.process['host']}" if found.process else ""
    cells = ", ".join(f"{count} {state}" for state, count in found.cells.items())
    told = [f"{found.run}: {found.state}{where}", f"cells: {cells}"]
    if found.state == "running" and found.since is not None:
        busy = sum(stage.state == "running" for stage in found.stages.values())
        told[0] += f"; for {duration(now - found.since)}"
        told[0] += "" if found.left_s is None else f", about {duration(found.left_s)} left"
        told.append(f"workers: {busy} of {found.workers} busy")
    elif found.state == UNKNOWN:
        told[0] += "; its command keeps no journal, so that nobody knows whether it goes on"
    elif found.state not in ENDED:
        told[0] += f"; {found.doing}"
    elif found.state == STOPPED:
        told.append("the same command continues where it was")
        if found.queued:
            told[-1] += ", and takes on what still runs of what it has left in the queue"
    if found.process and found.state not in ENDED and _alive(found.process) is None:
        told.append(f"it runs on another machine; last heard of {duration(found.silent_s or 0)} ago")
    if found.stages:
        told.append(f"{'stage':10s}" + "".join(f"{state:>9s}" for state in STATES))
        told += [f"{name:10s}" + "".join(f"{row[s]:9d}" for s in STATES) for name, row in found.counts().items()]
    for stage in _of(found, "running"):
        share = "" if stage.percent is None else f", {stage.percent} %"
        told.append(f"running  {stage.label}  ({duration(now - stage.since)}{share})")
    told += [f"failed   {stage.label}: {stage.error}" for stage in _of(found, "failed")[:SHOWN]]
    if more := len(_of(found, "failed")[SHOWN:]):
        told.append(f"         and {more} more; see {found.run}/tables/failures.csv")
    return [printable(line) for line in told]


def _of(found: Status, state: str) -> list[Stage]:
    return [stage for stage in found.stages.values() if stage.state == state]


def _lines(folder: RunFolder) -> list[Any]:
    found = []
    try:
        for line in folder.progress.read_text(encoding="utf-8", errors="replace").splitlines():
            found.append(parsed(line))
    except (FileNotFoundError, ValueError):
        pass
    return found


def _job(row: list[Any], rows: list[list[Any]]) -> Job:
    name, stage, label, seconds, gpus, *needs = row  # an earlier version has told no needs
    needed = frozenset(rows[place][0] for places in needs for place in places)
    return Job(name, Task(stage=stage), label, needed, resources=Resources(seconds=seconds, gpus=gpus))


def _apply(stage: Stage, what: str, at: float, value: Any) -> None:
    if what == "progress":
        stage.percent = value
        return
    stage.state = {"started": "running", "again": "waiting", "cancelled": "failed"}.get(what, what)
    stage.since, stage.percent = at, None
    if what in ("failed", "cancelled"):
        stage.error = str(value or "what it needed has failed")


def _alive(process: Mapping[str, Any]) -> bool | None:
    """Say whether a process still runs; None where it is on another machine."""
    import psutil

    if process.get("host") != os.uname().nodename:
        return None
    try:
        return abs(psutil.Process(process["pid"]).create_time() - process["born"]) < 1
    except psutil.Error:
        return False
