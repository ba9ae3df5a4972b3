"""The tables of a run as they have to be, beside those that lie in its folder."""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from ..benchmark.runs.folder import RunFolder
from ..benchmark.runs.records import Record
from ..benchmark.shelves.shelf import wide
from ..benchmark.verification.findings import Part
from .build import table_texts
from .failing import policy_of
from .tables import Tables

KEYS = ("dataset", "train", "method", "reference", "seed", "case", "protocol", "metric", "unit", "stage")
"""Columns that say which row of a table this is."""


def compare_tables(folder: RunFolder, records: Sequence[Record], part: Part) -> None:
    """Compare every file in ``tables/`` byte for byte with what follows from records, and name what differs.

    Raises:
        RunFolderError: ``run.json`` or a failure cannot be read.
    """
    order = sorted(records, key=lambda r: (r.cell.dataset, r.cell.train, r.cell.method, r.cell.seed))
    info = folder.info()
    tables = Tables(order, folder.failures(), folder.skipped(), info, policy_of(info))
    wanted = table_texts(tables, many=wide(folder))
    there = {path.name for path in folder.tables_dir.iterdir()} if folder.tables_dir.is_dir() else set()
    if not there:
        part.unverified.append("tables/: there are none; 'bench report' writes them")
        return
    for name, text in wanted.items():
        part.count("tables")
        if name not in there:
            part.differs(f"tables/{name}", "", "is missing")
            continue
        written = (folder.tables_dir / name).read_bytes()
        if written != text.encode():
            for where, old, new in _differences(name, written.decode(errors="replace"), text):
                part.differs(f"tables/{name}{where}", old, new)
    part.unverified += [f"tables/{name}: is no table of this run" for name in sorted(there - wanted.keys())]


def _differences(name: str, written: str, wanted: str) -> Iterator[tuple[str, str, str]]:
    """Yield where two texts differ, with what is written and what it has to be."""
    differ = (_cells if name.endswith(".csv") else _lines)(written, wanted)
    found = False
    for one in differ:
        found = True
        yield one
    if not found:
        yield "", "", "its bytes differ (line ends, quotes or encoding)"


def _cells(written: str, wanted: str) -> Iterator[tuple[str, str, str]]:
    old, new = (list(csv.reader(io.StringIO(text))) for text in (written, wanted))
    if old[:1] != new[:1] or len(old) != len(new):
        yield from _lines(written, wanted)
        return
    columns = new[0]
    keys = [columns.index(key) for key in KEYS if key in columns]
    for row, (a, b) in enumerate(zip(old, new, strict=True), 1):
        named = " ".join(b[key] for key in keys)
        for i, (x, y) in enumerate(zip_longest(a, b, fillvalue="")):
            if x != y:
                yield (
                    f", line {row} ({named}), {columns[i] if i < len(columns) else f'column {i + 1}'}",
                    x or "empty",
                    y,
                )


def _lines(written: str, wanted: str) -> Iterator[tuple[str, str, str]]:
    pairs = zip_longest(written.splitlines(), wanted.splitlines(), fillvalue="no such line")
    for row, (a, b) in enumerate(pairs, 1):
        if a != b:
            yield f", line {row}", *_around(a, b)


def _around(a: str, b: str, most: int = 40) -> tuple[str, str]:
    """Return the parts of two lines in which they differ, with a little before them."""
    same = next((i for i, (x, y) in enumerate(zip_longest(a, b)) if x != y), 0)
    start = max(0, same - most // 4)
    return a[start : start + most], b[start : start + most]
