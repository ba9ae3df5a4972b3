"""What the methods of a run train on, as pictures; nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...common.errors import UasbenchError
from ...datasets.healthy import HealthySet, Part
from ...methods.context import FitContext
from ...methods.method import Method
from ..planning.options import RunOptions
from ..planning.tasks import planned_tasks
from ..stages import drive
from .display import preparing

if TYPE_CHECKING:
    from rich.console import Console

Pictures = dict[str, np.ndarray]


class PreviewError(UasbenchError):
    """There is nothing to show."""


def previews(options: RunOptions, console: Console | None = None) -> dict[str, Pictures]:
    """Return, by method and data set, what :meth:`Method.preview` gives for the first seed.

    Raises:
        UasbenchError: no chosen method has a preview, or the data cannot be used.
    """
    with preparing(console) as progress:
        tasks = planned_tasks(options, options.workers or 1, progress)
    found: dict[str, Pictures] = {}
    for task in tasks:
        healthy = HealthySet([Part(case, z) for case, z in task.data.training()])
        for candidate in task.candidates:
            cls, config = candidate.spec.load()
            if cls.preview is Method.preview:
                continue
            method = drive.construct(cls, config, seed=options.seeds[0], device="cpu")
            found[f"{candidate.label}, {task.data.train}"] = method.preview(healthy, FitContext(seed=options.seeds[0]))
    if not found:
        raise PreviewError(
            f"none of {options.methods} makes synthetic lesions to show; try draem, two-stage or normnet"
        )
    return found
