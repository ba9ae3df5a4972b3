"""Drops what bench made in a run folder and no cell of it refers to."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ...common.atomic import open_no_link, remove, resumable, unfinished
from ...common.errors import brief, several
from ...common.json_files import read_json
from ..runs.folder import RunFolder, RunFolderError, hold
from ..runs.ledger import delete, size
from ..runs.records import StageIds
from ..shelves.shelf import heads
from ..stages.map import finished


def clean(
    folder: RunFolder, *, maps: bool = False, dry_run: bool = False, show: Callable[[str], None] = lambda _: None
) -> int:
    """Delete unreferenced fits and maps, replaced records, leftovers of killed processes and logs of finished stages.

    Only what the run's ledger names goes, and half-written files, whose names say which process made them; other files
    in the same places stay and are named. What a record or the plan of a cell names is kept, so that an interrupted run
    continues where it stood. With ``maps`` those of finished cells go too: their records stay, but they cannot be
    measured again. ``show`` gets a line for each before anything is deleted; with ``dry_run`` nothing is. Returns the
    bytes freed.

    Raises:
        RunFolderError: another bench or a worker of one works in the folder, a record or plan cannot be read, or a part
            of the folder is a link: what lies behind it may be somebody else's.
    """
    with hold(folder):
        _refuse_links(folder)
        _refuse_live_workers(folder)
        listed = folder.ledger.paths()
        resumed = {resumable(folder.fits_dir / fit) for fit in _fits(folder)}
        halves = [path for part in _parts(folder) for path in unfinished(part, elsewhere=True) if path not in resumed]
        doomed, foreign = {}, []
        for path in _unreferenced(folder, maps):
            if files := folder.ledger.owned(path, listed):
                doomed[path] = files
            foreign += _foreign(path, {*files, *halves})
        sizes = {path: size(files) for path, files in doomed.items()} | {path: _size(path) for path in halves}
        for path, bytes_ in sizes.items():
            show(f"{bytes_ / 2**20:10.1f} MiB  {path.relative_to(folder.path)}")
        if foreign:
            some = several([str(path.relative_to(folder.path)) for path in foreign])
            show(f"left alone, because the ledger of this run does not name it: {some}")
        if not dry_run:
            for path in halves:
                remove(path)
            for files in doomed.values():
                delete(files)
            for part in (folder.stale_dir, folder.locks_dir, folder.tasks_dir):
                if part.is_dir() and not any(part.iterdir()):
                    part.rmdir()
        return sum(sizes.values())


def _unreferenced(folder: RunFolder, maps: bool) -> Iterator[Path]:
    records = {head.cell.slug: head.ids for head in heads(folder)}
    known = {*folder.info().get("cells", []), *records, *(path.stem for path in folder.cells_dir.glob("*.json"))}
    fits = _fits(folder)
    yield from (p for p in _children(folder.fits_dir) if p.name not in fits)
    for path in _children(folder.maps_dir):
        measured = path.name in records and finished(path) in (None, records[path.name].map)
        if path.name not in known or (maps and measured):
            yield path
    failed = {Path(failure.log).name for failure in folder.failures()}
    yield from (p for p in _children(folder.logs_dir) if p.name not in failed)
    for part in (folder.stale_dir, folder.locks_dir, folder.tasks_dir):
        yield from _children(part)


def _fits(folder: RunFolder) -> set[str]:
    """Return the trainings that a record or the plan of a cell names."""
    plans = map(_planned, sorted(folder.cells_dir.glob("*.json")))
    return {fit for ids in (*(head.ids for head in heads(folder)), *plans) for fit in ids.fits}


def _planned(path: Path) -> StageIds:
    try:
        return StageIds(**read_json(path)["ids"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFolderError(f"{path} cannot be used ({brief(error)}); run the same 'bench run' again") from error


def _children(path: Path) -> list[Path]:
    halves = set(unfinished(path, elsewhere=True))
    return [p for p in sorted(path.iterdir()) if p not in halves] if path.is_dir() else []


def _foreign(path: Path, going: set[Path]) -> list[Path]:
    """Return what stays of a path: all of it where it is not bench's, else what was put into it later."""
    if path not in going:
        return [path]
    inside = path.rglob("*") if path.is_dir() else ()
    return [p for p in inside if p not in going and (p.is_symlink() or not p.is_dir())]


def _parts(folder: RunFolder) -> Iterator[Path]:
    yield folder.path
    yield from folder.parts
    yield from (p for p in _children(folder.maps_dir) if p.is_dir() and not p.is_symlink())


def _refuse_links(folder: RunFolder) -> None:
    if links := sorted(p.name for p in folder.path.iterdir() if p.is_symlink()):
        held = ", ".join(links)
        raise RunFolderError(f"{folder.path}: {held} is a link, and nothing is deleted behind one; clean it by hand")


def _refuse_live_workers(folder: RunFolder) -> None:
    """Workers outlive a killed bench by a moment."""
    listed = folder.ledger.paths()
    for path in _children(folder.locks_dir):
        if path not in listed or path.is_symlink() or path.is_dir():
            continue
        with open_no_link(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"{path} is held by a worker of a bench that was killed; try again later"
                ) from None


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.lstat().st_size for p in path.rglob("*") if p.is_symlink() or not p.is_dir())
    return os.lstat(path).st_size
