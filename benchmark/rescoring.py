"""Measures stored maps again: new protocols and metrics without a training step."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from . import ids
from .executors.job import Event, Job
from .executors.local import LocalExecutor, cpu_slots
from .options import STAGE_LIMIT_S
from .records import CellKey, Record, write_json
from .run_folder import RunFolder, RunFolderError
from .stage_map import finished
from .stage_measure import MeasureTask


def rescore(
    folder: RunFolder, workers: int, listener: Callable[[Event], None], on_record: Callable[[Record], None]
) -> tuple[int, dict[str, str]]:
    """Measure every finished cell with the present source.

    Returns:
        The cells measured and, by cell, why others were not.
    """
    jobs, problems = [], {}
    for record in folder.records():
        try:
            task = load_task(folder, record.cell)
        except RunFolderError as error:
            problems[record.cell.slug] = str(error)
            continue
        jobs.append(Job(f"measure-{record.cell.slug}", "measure", task, f"measure {record.cell.slug}"))
    done = 0

    def listen(event: Event) -> None:
        nonlocal done
        if event.kind == "done":
            done += 1
            on_record(folder.record(Path(event.job.task.record)))
        elif event.kind == "failed":
            problems[event.job.id.removeprefix("measure-")] = str(event.value)
        listener(event)

    limit = STAGE_LIMIT_S["paper"]
    executor = LocalExecutor(cpu_slots(workers), logs=folder.logs_dir, locks=folder.path / "locks", limit_s=limit)
    executor.run(jobs, listen)
    return done, problems


def load_task(folder: RunFolder, cell: CellKey) -> MeasureTask:
    """Return a cell's measuring plan with the address that the present source gives it.

    Raises:
        RunFolderError: the plan or the maps are gone.
    """
    path = folder.cell_path(cell)
    try:
        task = MeasureTask(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(f"{path}: {error}; run the same 'bench run' again") from error
    maps = Path(task.maps)
    if finished(maps) != task.ids["map"]:
        raise RunFolderError(f"{maps} no longer holds the maps of this record; run the same 'bench run' again")
    measured = ids.measure_id(
        maps=task.ids["map"],
        truth={case: ref["fingerprint"] for case, ref in task.truths.items()},
        patients={case["id"]: case["patient"] for case in task.cases},
        slice_score=task.slice_score,
        trials=task.trials,
        seed=task.cell["seed"],
    )
    fresh = replace(task, id=measured, ids={**task.ids, "measure": measured})
    write_json(path, asdict(fresh))
    return fresh
