"""Which stages share a job of a queue, and what such a group takes of a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .contract import Job, Resources

if TYPE_CHECKING:
    from .queued import QueueSettings


def together(jobs: Sequence[Job]) -> Resources:
    """Return what a group takes: the most of its jobs, one after the other; None of what is not known of one."""
    memory = [job.resources.memory_mib for job in jobs]
    seconds = [job.resources.seconds for job in jobs]
    return Resources(
        cpus=max(job.resources.cpus for job in jobs),
        memory_mib=None if None in memory else max(filter(None, memory), default=None),
        gpus=max(job.resources.gpus for job in jobs),
        seconds=None if None in seconds else sum(filter(None, seconds)),
    )


def grouped(jobs: Iterable[Job], settings: QueueSettings) -> list[list[Job]]:
    """Return jobs in groups of about ``group_s`` seconds by their prediction; one that nobody can predict is alone."""
    groups: list[list[Job]] = []
    filled = float("inf")
    for job in jobs:
        known = settings.unknown_s if job.resources.seconds is None else job.resources.seconds
        takes = float("inf") if known is None else known
        if filled + takes > settings.group_s:
            groups.append([])
            filled = 0.0
        groups[-1].append(job)
        filled += takes
    return groups
