"""Drops what no cell of a run refers to."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..runs.folder import RunFolder, RunFolderError, hold
from ..runs.records import StageIds
from ..stages.map import finished


def clean(folder: RunFolder, *, maps: bool = False) -> int:
    """Delete unreferenced fits and maps, replaced records, leftovers of killed workers and logs of finished stages.

    What a record or the plan of a cell names is kept, so that an interrupted run continues where it stood. With
    ``maps`` those of finished cells go too: their records stay, but they cannot be measured again. Returns bytes freed.

    Raises:
        RunFolderError: another bench or a worker of one works in the folder, a record or plan cannot be read, or a part
            of the folder is a link: what lies behind it may be somebody else's.
    """
    with hold(folder):
        _refuse_links(folder)
        _refuse_live_workers(folder)
        doomed = dict.fromkeys(_doomed(folder, maps))
        return sum(_delete(path) for path in doomed if os.path.lexists(path))


def _doomed(folder: RunFolder, maps: bool) -> Iterator[Path]:
    records = {record.cell.slug: record.ids for record in folder.records()}
    plans = {path.stem: _planned(path) for path in sorted(folder.cells_dir.glob("*.json"))}
    fits = {fit for ids in (*records.values(), *plans.values()) for fit in ids.fits}
    known = {*folder.info().get("cells", []), *records, *plans}
    for pattern in (".*.tmp", ".*.partial-*"):
        yield from folder.path.rglob(pattern)
    yield from (p for p in (folder.stale_dir, folder.locks_dir, folder.tasks_dir) if p.is_dir())
    yield from (p for p in _children(folder.fits_dir) if p.name not in fits)
    for path in _children(folder.maps_dir):
        measured = path.name in records and finished(path) in (None, records[path.name].map)
        if path.name not in known or (maps and measured):
            yield path
    failed = {Path(failure.log).name for failure in folder.failures()}
    yield from (p for p in _children(folder.logs_dir) if p.name not in failed)


def _planned(path: Path) -> StageIds:
    try:
        return StageIds(**json.loads(path.read_text(encoding="utf-8"))["ids"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFolderError(f"{path} cannot be used ({error}); run the same 'bench run' again") from error


def _children(path: Path) -> list[Path]:
    return [p for p in sorted(path.iterdir()) if not p.name.startswith(".")] if path.is_dir() else []


def _refuse_links(folder: RunFolder) -> None:
    if links := sorted(p.name for p in folder.path.iterdir() if p.is_symlink()):
        held = ", ".join(links)
        raise RunFolderError(f"{folder.path}: {held} is a link, and nothing is deleted behind one; clean it by hand")


def _refuse_live_workers(folder: RunFolder) -> None:
    """Workers outlive a killed bench by a moment."""
    for path in _children(folder.locks_dir):
        with path.open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"{path} is held by a worker of a bench that was killed; try again later"
                ) from None


def _delete(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        size = path.lstat().st_size
        path.unlink()
        return size
    size = sum(p.lstat().st_size for p in path.rglob("*") if p.is_symlink() or not p.is_dir())
    shutil.rmtree(path)
    return size
