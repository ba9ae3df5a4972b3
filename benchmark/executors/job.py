"""A node of the run's graph, and what an executor reports about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..stages.task import Task


@dataclass
class Job:
    """One stage to run.

    Attributes:
        id: unique in the run; also names the job's lock and log.
        task: what the stage gets.
        label: for people.
        needs: ids of jobs that must be done first.
        rank: smaller starts earlier among the jobs that are ready.
    """

    id: str
    task: Task
    label: str
    needs: frozenset[str] = frozenset()
    rank: tuple[int, ...] = field(default=())


@dataclass(frozen=True)
class Event:
    """What happened to a job: started, progress (done, total), done, failed (message) or cancelled (failed need)."""

    job: Job
    kind: Literal["started", "progress", "done", "failed", "cancelled"]
    value: Any = None
    seconds: float = 0.0


Listener = Callable[[Event], None]
