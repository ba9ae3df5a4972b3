"""Measures stored maps again: new protocols and metrics without a training step."""

from collections.abc import Callable
from pathlib import Path

from ...common.atomic import discard
from ...common.sealed import DamagedError, check_files
from ...datasets.storing.entries import SEAL
from ..executors.contract import Event, Job, Place, find_executor, run_jobs
from ..planning import ids
from ..planning.options import STAGE_LIMIT_S, OptionError
from ..runs.certificate import REVOKED
from ..runs.folder import RunFolder, RunFolderError, hold
from ..runs.records import MAP_SEAL, CellKey, Record, write_json
from ..stages.map import finished
from ..stages.measure import MeasureTask

AGAIN = "run the same 'bench run' or 'bench import' again"


def rescore(
    folder: RunFolder, workers: int, listener: Callable[[Event], None], on_record: Callable[[Record], None]
) -> tuple[int, dict[str, str]]:
    """Measure every finished cell with the present source; the run may have moved since, the prepared data may not.

    Returns the number of cells measured and, by cell, why others were not.

    Raises:
        OptionError: fewer than one worker.
        RunFolderError: another bench works in the folder.
    """
    if workers < 1:
        raise OptionError(f"--workers {workers}: give at least 1")
    # Worker processes may have another working directory.
    folder = RunFolder(folder.path.absolute())
    with hold(folder):
        folder.update_info(**REVOKED)
        jobs, problems = _jobs(folder)
        done = 0

        def listen(event: Event) -> None:
            nonlocal done
            if event.kind == "done":
                done += 1
                on_record(folder.record(folder.records_dir / f"{event.job.id.removeprefix('measure-')}.json"))
            elif event.kind == "failed":
                problems[event.job.id.removeprefix("measure-")] = str(event.value)
            listener(event)

        run_jobs(find_executor("local")(Place(folder, workers)), jobs, listen, STAGE_LIMIT_S["paper"])
    return done, problems


def _jobs(folder: RunFolder) -> tuple[list[Job], dict[str, str]]:
    jobs, problems, found = [], {}, {}
    for path in sorted(folder.records_dir.glob("*.json")):
        try:
            task = load_task(folder, folder.record(path).cell)
            _put_away_damaged(task, found)
        except RunFolderError as error:
            problems[path.stem] = str(error)
            continue
        jobs.append(Job(f"measure-{path.stem}", task, f"measure {path.stem}"))
    return jobs, problems


def load_task(folder: RunFolder, cell: CellKey) -> MeasureTask:
    """Return a cell's measuring plan with paths in this folder and the address that the present source gives it.

    Raises:
        RunFolderError: the plan or the maps are gone, or the maps are others.
    """
    path = folder.cell_path(cell)
    try:
        task = MeasureTask.model_validate_json(path.read_text(encoding="utf-8"))
        fits = tuple(folder.fit_dir(fit) for fit in (task.ids.fits if task.fit_dirs else ()))
        fresh = ids.addressed(task.model_copy(update={"fit_dirs": fits, **folder.measuring(cell)}))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be used ({type(error).__name__}: {error}); {AGAIN}") from error
    if not (fresh.maps / MAP_SEAL).exists() or finished(fresh.maps) not in (fresh.ids.map, None):
        raise RunFolderError(f"{fresh.maps} no longer holds the maps of this record; {AGAIN}")
    write_json(path, fresh)
    return fresh


def _put_away_damaged(task: MeasureTask, found: dict[Path, DamagedError | None]) -> None:
    """Put away maps and prepared data that are damaged, so that the next 'bench run' makes them again.

    Raises:
        RunFolderError: something is damaged, or ``found`` to be so before.
    """
    entries = [case.path for case in (*task.cases, *(case for case, _ in task.healthy))]
    entries += [truth.path for truth in task.truths.values()]
    for seal in (task.maps / MAP_SEAL, *(path / SEAL for path in entries)):
        if seal not in found:
            found[seal] = None
            try:
                check_files(seal)
            except DamagedError as error:
                found[seal] = error
                if seal.name == MAP_SEAL:
                    seal.unlink(missing_ok=True)
                else:
                    discard(seal.parent)
        if (error := found[seal]) is not None:
            raise RunFolderError(f"{error.path} is missing or damaged ({error.why}); {AGAIN}")
