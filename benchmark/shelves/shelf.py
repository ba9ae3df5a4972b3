"""The records of a wide run in columns on disk: each is read once, and none is held as a whole.

The index says which part (:mod:`.part`) has a record as it is now; of a record that was made again the old rows
stay and are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...common.garbage import uncollected
from ...common.sealed import DamagedError, read_sealed, write_sealed
from ..runs.folder import RecordError, RunFolder, hold, in_order, rank
from ..runs.records import Record
from .part import FORMS, Form, Head, Part, Shared, made

if TYPE_CHECKING:
    import pandas as pd

    from ..long_form import LongForm

WIDE = 2000
"""Records above which a run is read from its shelf."""
PART = 500
AT_ONCE = 2000
"""Records whose values of a metric are held at once, or as many as the row has that goes beyond."""
VERSION = 1
LOCK = "shelf.lock"


def briefs(folder: RunFolder) -> Sequence[Record]:
    """Return the records of a run without values; those of a wide one from its shelf.

    Raises:
        RecordError: one is damaged.
    """
    if not wide(folder):
        shared = Shared()
        with uncollected():
            return in_order([shared.brief(folder.record(path)) for path in _lying(folder)])
    shelf = Shelf(folder)
    for error in shelf.update():
        raise error
    return shelf.briefs


def heads(folder: RunFolder) -> Iterator[Head]:
    """Yield what the records of a run are of and were made from; those of a wide one from its shelf.

    Raises:
        RecordError: one is damaged.
    """
    if wide(folder):
        shelf = Shelf(folder)
        for error in shelf.update():
            raise error
        yield from shelf.heads()
    else:
        yield from (Head.of(folder.record(path)) for path in _lying(folder))


def wide(folder: RunFolder) -> bool:
    """Whether a run has so many records that they are not held at once."""
    return sum(1 for _ in _lying(folder)) > WIDE


class _Place(NamedTuple):
    """Size and time of a record's file as it was read, the part that has it, and which record of that part it is."""

    size: int
    changed_ns: int
    part: int
    number: int


class _Shelved(NamedTuple):
    """What is on a shelf.

    ``briefs`` are in the order of :meth:`RunFolder.records`; ``positions`` says by part where in them its records are,
    -1 of those that are no longer what was read.
    """

    briefs: list[Record]
    parts: dict[int, Part]
    positions: dict[int, np.ndarray]


class Shelf:
    """The columns of the records of a run, below its folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.path = folder, folder.shelf_dir

    def update(self, tell: Callable[[str], None] = lambda _: None) -> list[RecordError]:
        """Read the records that are new or were made again; return what is wrong with those that cannot be read.

        Raises:
            RunFolderError: another process does the same.
            DiskError: the columns cannot be written.
        """
        with hold(self.folder, LOCK, "reads the records of"):
            places, files = self._index(), {path.name: path.stat() for path in _lying(self.folder)}
            stats = {name: (found.st_size, found.st_mtime_ns) for name, found in files.items()}
            kept = {name: place for name, place in places.items() if stats.get(name) == place[:2]}
            new, damaged = sorted(stats.keys() - kept.keys()), []
            if not new and len(kept) == len(places):
                return []
            first = 1 + max((place.part for place in places.values()), default=-1)
            groups = {first + i: new[start : start + PART] for i, start in enumerate(range(0, len(new), PART))}
            for number, wrong in made(self.folder, groups):
                damaged += wrong.values()
                good = [name for name in groups[number] if name not in wrong]
                kept |= {name: _Place(*stats[name], number, i) for i, name in enumerate(good)}
                tell(f"reading records ({len(kept)} of {len(stats)})")
            write_sealed(self.path / "index.json", {"version": VERSION, "records": kept})
            self.__dict__.pop("_shelved", None)
        return damaged

    def _index(self) -> dict[str, _Place]:
        try:
            index = read_sealed(self.path / "index.json")
        except DamagedError:
            return {}
        return {k: _Place(*v) for k, v in index["records"].items()} if index.get("version") == VERSION else {}

    def heads(self) -> Iterator[Head]:
        """Yield the head of every record, in no order."""
        shared = Shared()
        for part, numbers in self._numbers().items():
            yield from Part(self.path, part).heads(numbers, shared)

    def _numbers(self) -> dict[int, list[int]]:
        """Return by part which of its records are as they were read."""
        numbers: dict[int, list[int]] = {}
        for place in self._index().values():
            numbers.setdefault(place.part, []).append(place.number)
        return {part: sorted(numbers[part]) for part in sorted(numbers)}

    @cached_property
    def _shelved(self) -> _Shelved:
        numbers = self._numbers()
        parts = {number: Part(self.path, number) for number in numbers}
        shared, found = Shared(), []
        with uncollected():
            for number, part in parts.items():
                records = part.briefs(shared)
                found += [(records[i], number, i) for i in numbers[number]]
        found.sort(key=lambda one: rank(one[0]))
        positions = {number: np.full(part.count, -1) for number, part in parts.items()}
        for position, (_, number, i) in enumerate(found):
            positions[number][i] = position
        return _Shelved([record for record, _, _ in found], parts, positions)

    @property
    def briefs(self) -> list[Record]:
        """Every record without values, sorted as those of :meth:`RunFolder.records`."""
        return self._shelved.briefs

    def values(self) -> Iterator[Iterator[LongForm]]:
        """Yield the values of one metric after the other, each divided so that all seeds of a row stand together."""
        for metric in sorted({metric for part in self._shelved.parts.values() for metric in part.metrics}):
            yield (self._values(metric, *span) for span in self._spans)

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        """First and last but one position of the records whose values are held at once."""
        rows = [(record.cell.dataset, record.cell.train, record.cell.method) for record in self.briefs]
        starts = [i for i, row in enumerate(rows) if i == 0 or row != rows[i - 1]]
        found: list[tuple[int, int]] = []
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            first = found.pop()[0] if found and start - found[-1][0] < AT_ONCE else start
            found.append((first, stop))
        return found

    def _values(self, metric: str, start: int, stop: int) -> LongForm:
        from ..long_form import LongForm

        return LongForm(self.briefs[start:stop], *(self._frame(form, metric, start, stop) for form in FORMS))

    def _frame(self, form: Form, metric: str, start: int, stop: int) -> pd.DataFrame:
        import pyarrow as pa

        from ..long_form import framed

        tables = []
        for number, part in self._shelved.parts.items():
            positions = self._shelved.positions[number] - start
            wanted = (positions >= 0) & (positions < stop - start)
            if wanted.any() and (table := part.values(form, metric)) is not None:
                record = table["record"].to_numpy()
                table = table.set_column(table.column_names.index("record"), "record", pa.array(positions[record]))
                tables.append(table if wanted.all() else table.filter(pa.array(wanted[record])))
        return pa.concat_tables(tables).unify_dictionaries().to_pandas() if tables else framed(form, ())


def _lying(folder: RunFolder) -> Iterator[Path]:
    if folder.records_dir.is_dir():
        with os.scandir(folder.records_dir) as entries:
            yield from (Path(entry.path) for entry in entries if entry.name.endswith(".json"))
