"""Drops what no cell of a run refers to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from .run_folder import RunFolder


def clean(folder: RunFolder, *, maps: bool = False) -> int:
    """Delete unreferenced fits and maps, leftovers of killed workers and logs of finished stages.

    Args:
        folder: the run.
        maps: also drop the maps of finished cells; their records stay, but they cannot be measured again.

    Returns:
        Bytes freed.
    """
    records = folder.records()
    fits = {record.ids.fit for record in records}
    slugs = {record.cell.slug for record in records}
    planned = set(folder.info().get("cells", []))
    unfinished = planned - slugs
    doomed = list(_leftovers(folder))
    if not unfinished:
        doomed += [p for p in _children(folder.fits_dir) if p.name not in fits]
    doomed += [p for p in _children(folder.maps_dir) if p.name not in planned]
    if maps:
        doomed += [p for p in _children(folder.maps_dir) if p.name in slugs]
    failed = {Path(failure.log).name for failure in folder.failures()}
    doomed += [p for p in _children(folder.logs_dir) if p.name not in failed]
    return sum(_delete(path) for path in dict.fromkeys(doomed))


def _children(path: Path) -> list[Path]:
    return [p for p in sorted(path.iterdir()) if not p.name.startswith(".")] if path.is_dir() else []


def _leftovers(folder: RunFolder) -> Iterator[Path]:
    for parent in (folder.fits_dir, folder.maps_dir, folder.records_dir, folder.path):
        if parent.is_dir():
            yield from parent.glob(".*.tmp")
    locks = folder.path / "locks"
    if locks.is_dir():
        yield locks


def _delete(path: Path) -> int:
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size
