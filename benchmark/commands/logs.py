"""``bench logs``: what the stages of a cell have printed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from ...common.errors import UasbenchError
from ...common.json_files import read_json
from ..refinement.prompts import base_of
from ..runs.folder import RunFolder
from ..runs.records import StageIds


class LogError(UasbenchError):
    """No cell, or more than one, has that name."""


def cells(folder: RunFolder) -> list[str]:
    """Return the cells of a run, as its records and logs are named."""
    parts = (folder.records_dir, folder.failures_dir, folder.cells_dir)
    found = {path.stem for part in parts for path in part.glob("*.json")}
    return sorted(found | {name for name in folder.info().get("cells", []) if "/" not in name})


def cell_named(folder: RunFolder, name: str) -> str:
    """Return the cell that is meant by its name, the start of it or a wildcard.

    Raises:
        LogError: none or several are.
    """
    known = cells(folder)
    if name in known:
        return name
    found = [cell for cell in known if fnmatchcase(cell, name)]
    found = (
        found or [cell for cell in known if cell.startswith(f"{name}__")] or [c for c in known if c.startswith(name)]
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise LogError(f"{name!r} names {len(found)} cells: {', '.join(found[:8])}{', …' if found[8:] else ''}")
    starts = {cell.partition("__")[0]: cell for cell in known}
    near = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(name, starts, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise LogError(f"{folder.path} has no cell {name!r}{hint} 'bench logs {folder.path}' lists them")


def logs(folder: RunFolder, cell: str) -> list[tuple[str, Path]]:
    """Return the stages of a cell, in the order in which they run, each with its log, which may not exist (yet)."""
    fits: list[str] = []
    try:
        plan = read_json(folder.cells_dir / f"{cell}.json")
        fits = StageIds(**plan["ids"]).fits
    except (OSError, ValueError, TypeError, KeyError):  # no plan: the maps came from another program
        pass
    label, ends, rest = cell.partition("__")
    base = base_of(label)
    made = [f"map-{cell}"] if base is None else [f"map-{base}{ends}{rest}", f"refine-{cell}"]
    jobs = [*(f"fit-{fit}" for fit in fits), *made, f"measure-{cell}"]
    return [(job.partition("-")[0], folder.logs_dir / f"{job}.log") for job in jobs]


def shown(path: Path, most: int) -> Iterator[str]:
    """Yield the last ``most`` lines of a log (0: all); of a line that was written over its last state."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        yield "(no log: it has not run, or 'bench clean' took it)"
        return
    found = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    found = found[:-1] if found[-1] == "" else found
    if not found:
        yield "(it printed nothing)"
    if most and found[most:]:
        yield f"({len(found) - most} earlier lines; --lines 0 shows all)"
    yield from found[-most:] if most else found
