"""A node of the run's graph, and what an executor reports about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["fit", "map", "measure"]


@dataclass
class Job:
    """One stage to run.

    Attributes:
        id: unique in the run; also names the job's lock and log.
        kind: which stage it is.
        task: what the stage gets.
        label: for people.
        needs: ids of jobs that must be done first.
        rank: smaller starts earlier among the jobs that are ready.
        module: whose ``run(task, report)`` does it; default the stage's own module.
    """

    id: str
    kind: Kind
    task: Any
    label: str
    needs: frozenset[str] = frozenset()
    rank: tuple[int, ...] = field(default=())
    module: str = ""

    def __post_init__(self) -> None:
        self.module = self.module or f"{__name__.rpartition('.executors')[0]}.stages.{self.kind}"


@dataclass(frozen=True)
class Event:
    """What happened to a job: started, progress (done, total), done, failed (message) or cancelled (failed need)."""

    job: Job
    kind: Literal["started", "progress", "done", "failed", "cancelled"]
    value: Any = None
    seconds: float = 0.0


Listener = Callable[[Event], None]
