"""``bench data prepare``: the scans of a run, decoded and standardised beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import device as devices
from ..locations import cache_root
from ..planning.options import RunOptions
from ..planning.tasks import planned_tasks
from .display import preparing

if TYPE_CHECKING:
    from rich.console import Console


def prepare_only(options: RunOptions, console: Console | None = None) -> list[str]:
    """Prepare the data of a run and say what lies where; nothing is trained."""
    workers = options.workers or max(1, devices.default_workers("cpu"))
    with preparing(console) as progress:
        tasks = planned_tasks(options, workers, progress)
    lines = []
    for task in tasks:
        data = task.data
        views = len({c.view for c in task.candidates if c.view is not None})
        lines.append(f"{data.dataset}: {len(data.test)} cases; {data.train}: {len(data.healthy)} cases; {views} views")
        lines += [f"  note: {warning}" for warning in data.warnings]
    return [*lines, f"store: {cache_root(options.cache) / 'store'}"]
