"""What lies before training: the scans of a run decoded and standardised, what its methods train on as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...common.errors import UasbenchError
from ...datasets.healthy import HealthySet, Part
from ...methods.context import FitContext
from ...methods.method import Method
from .. import device as devices
from ..locations import cache_root
from ..planning.options import RunOptions
from ..planning.tasks import whole_tasks
from ..stages import drive
from .display import preparing, remarks

if TYPE_CHECKING:
    from rich.console import Console


def previews(options: RunOptions, console: Console | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Return, by method and data set, what :meth:`Method.preview` gives for the first seed.

    Raises:
        UasbenchError: no chosen method has a preview, or the data cannot be used.
    """
    with preparing(console) as progress:
        tasks = whole_tasks(options, devices.resolve_workers(options.workers or 1, "cpu")[0], progress)
    found: dict[str, dict[str, np.ndarray]] = {}
    for task in tasks:
        healthy = HealthySet([Part(case, z) for case, z in task.data.training()])
        for candidate in task.candidates:
            cls, config = candidate.spec.load()
            if cls.preview is Method.preview:
                continue
            method = drive.construct(cls, config, seed=options.seeds[0], device="cpu")
            found[f"{candidate.label}, {task.data.train}"] = method.preview(healthy, FitContext(seed=options.seeds[0]))
    if not found:
        raise UasbenchError(
            f"none of {options.methods} makes synthetic lesions to show; try draem, two-stage or normnet"
        )
    return found


def prepare_only(options: RunOptions, console: Console | None = None) -> list[str]:
    """Prepare the data of a run and say what lies where; nothing is trained."""
    workers, _ = devices.resolve_workers(options.workers, "cpu")
    with preparing(console) as progress:
        tasks = whole_tasks(options, workers, progress)
    lines = []
    for task in tasks:
        data = task.data
        views = len({c.view for c in task.candidates if c.view is not None})
        lines.append(f"{data.dataset}: {len(data.test)} cases; {data.train}: {len(data.healthy)} cases; {views} views")
        lines += remarks(data.warnings)
    return [*lines, f"store: {cache_root(options.cache) / 'store'}"]
