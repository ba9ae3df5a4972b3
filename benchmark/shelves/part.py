"""A part of a shelf: the briefs of some records, which are records without values, and their values as Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from ...common import errors
from ...common.atomic import new_file
from ...common.garbage import uncollected
from ...common.sealed import DamagedError, read_sealed, write_sealed
from ...datasets.readers import Lost, Readers
from ...datasets.storing.entries import digest
from ..runs.folder import RecordError, RunFolder, RunFolderError
from ..runs.records import CellKey, DataInfo, Record, StageIds, Threshold

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Form = Literal["per_case", "pooled", "left_out"]
FORMS: tuple[Form, ...] = get_args(Form)
AT_ONCE = 50
"""Records that are held as a whole while a part is made."""


class Part:
    """One part, below the folder of the shelf."""

    def __init__(self, shelf: Path, number: int) -> None:
        self.path, self.number = shelf, number

    def _read(self) -> dict[str, Any]:
        try:
            about = read_sealed(self.path / f"{self.number}.json")
        except DamagedError as error:
            raise self._damaged(error.path, error.why) from error
        self._outline = (len(about["records"]), about["groups"])
        return about

    @cached_property
    def _outline(self) -> tuple[int, dict[Form, dict[str, int]]]:
        """How many records it has, and the row groups of its metrics; all that is kept of the file."""
        self._read()
        return self._outline

    def _damaged(self, path: Path, why: str) -> RunFolderError:
        return RunFolderError(f"{path} is damaged ({why}); delete {self.path}, which is made again from the records")

    @property
    def count(self) -> int:
        """How many records it has."""
        return self._outline[0]

    @property
    def metrics(self) -> set[str]:
        """Metrics of which it has values."""
        return {metric for groups in self._outline[1].values() for metric in groups}

    def briefs(self, shared: Shared) -> list[Record]:
        """Return its records without values."""
        about = self._read()
        return [shared.record(content, about["data"]) for content in about["records"]]

    def heads(self, numbers: Iterable[int], shared: Shared) -> Iterator[Head]:
        """Yield the heads of the records of these numbers."""
        about = self._read()
        for content in (about["records"][number] for number in numbers):
            cell, ids = CellKey.model_validate(content["cell"]), StageIds.model_validate(content["ids"])
            yield Head(cell, ids, content["digest"], shared.data(content["data"], about["data"]))

    def values(self, form: Form, metric: str) -> pa.Table | None:
        """Return the rows of a metric, None where there are none; ``record`` counts the records of the part."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if (group := self._outline[1][form].get(metric)) is None:
            return None
        try:
            return pq.ParquetFile(self.file(form), page_checksum_verification=True).read_row_group(group)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(self.file(form), errors.brief(error)) from error

    def file(self, form: Form) -> Path:
        return self.path / f"{self.number}.{form}.parquet"


class Head(NamedTuple):
    """What a record is of, and was made from."""

    cell: CellKey
    ids: StageIds
    digest: str | None
    data: DataInfo

    @classmethod
    def of(cls, record: Record) -> Head:
        return cls(record.cell, record.ids, record.digest, record.data)


class Shared:
    """Parts that many records have in common, each held once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def _one(self, kind: str, text: str, value: Any) -> Any:
        return self._known.setdefault((kind, text), value)

    def data(self, name: str, contents: Mapping[str, Any]) -> DataInfo:
        """Return the data of this digest."""
        if ("data", name) not in self._known:
            self._known["data", name] = DataInfo.model_validate(contents[name])
        return self._known["data", name]

    def brief(self, record: Record) -> Record:
        """Return what :func:`brief` leaves of a record."""
        small = brief(record)
        small.data = self._one("data", record.data.model_dump_json(), record.data)
        return small

    def record(self, content: Mapping[str, Any], data: Mapping[str, Any]) -> Record:
        """Return a brief as a record."""
        record = Record.model_validate({**content, "data": self.data(content["data"], data)})
        for field in ("config", "environment", "provenance", "thresholds", "method"):
            setattr(record, field, self._one(field, repr(content[field]), getattr(record, field)))
        return record


def brief(record: Record) -> Record:
    """Return a record without values, curves and histograms.

    Of its thresholds the protocols stay, and what share of healthy scores lies below them.
    """
    thresholds = {(t.protocol, t.quantile): Threshold(protocol=t.protocol, threshold=None, quantile=t.quantile)
                  for t in record.thresholds}  # fmt: skip
    return record.model_copy(update={
        "per_case": [], "pooled": [], "froc": {}, "histogram": None, "thresholds": list(thresholds.values()),
        "convergence": [fit.model_copy(update={"points": []}) for fit in record.convergence],
    })  # fmt: skip


def without_values(record: Record) -> dict[str, Any]:
    """Return what :func:`brief` leaves of a record as plain values, its data by digest."""
    data = digest(record.data.model_dump(mode="json"))
    return brief(record).model_dump(mode="json", exclude={"data"}) | {"data": data}


def made(folder: RunFolder, groups: Mapping[int, Sequence[str]]) -> Iterator[tuple[int, dict[str, RecordError]]]:
    """Make parts of the records of these names, several on all cores; return for each what was wrong with its records.

    Raises:
        RunFolderError: a part could not be made.
        DiskError: it could not be written.
    """
    if len(groups) == 1:
        yield from ((number, _make(folder.path, (number, names))) for number, names in groups.items())
        return
    with Readers(len(os.sched_getaffinity(0))) as readers:
        for (number, _), wrong in readers.work(partial(_make, folder.path), groups.items()):
            if isinstance(wrong, Lost):
                raise RunFolderError(f"the records of {folder.path} cannot be put into columns: {wrong.reason}")
            yield number, wrong


@uncollected()
def _make(run: Path, item: tuple[int, Sequence[str]]) -> dict[str, RecordError]:
    import pyarrow as pa

    from ..long_form import long_form

    (number, names), folder = item, RunFolder(run)
    part = Part(folder.shelf_dir, number)
    wrong: dict[str, RecordError] = {}
    found: list[dict[str, Any]] = []
    data: dict[str, Any] = {}
    tables: dict[Form, list[pa.Table]] = {form: [] for form in FORMS}
    for start in range(0, len(names), AT_ONCE):
        records = []
        for name in names[start : start + AT_ONCE]:
            try:
                records.append(folder.record(folder.records_dir / name))
            except RecordError as error:
                wrong[name] = error
        values = long_form(records)
        for form in FORMS:
            frame = getattr(values, form)
            frame = frame.assign(record=frame["record"] + len(found))
            tables[form].append(pa.Table.from_pandas(frame, _schema(frame), preserve_index=False))
        small = [without_values(record) for record in records]
        data |= {one["data"]: record.data.model_dump(mode="json") for one, record in zip(small, records, strict=True)}
        found += small
    groups = {form: _write(part.file(form), pa.concat_tables(tables[form])) for form in FORMS}
    write_sealed(part.path / f"{number}.json", {"records": found, "data": data, "groups": groups}, None)
    return wrong


def _schema(frame: pd.DataFrame) -> pa.Schema:
    """Return the types of a frame's columns, those of an empty one included."""
    import pyarrow as pa

    text, numbers = pa.dictionary(pa.int32(), pa.string()), {"record": pa.int64(), "value": pa.float64()}
    return pa.schema([(name, numbers.get(name, text)) for name in frame.columns])


def _write(path: Path, table: pa.Table) -> dict[str, int]:
    """Write a row group for each metric, and return their numbers."""
    import numpy as np
    import pyarrow.parquet as pq

    table = table.unify_dictionaries().combine_chunks()
    metrics = table["metric"].combine_chunks()
    codes = metrics.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    table, starts = table.take(order), np.searchsorted(codes[order], np.arange(len(metrics.dictionary) + 1))
    groups: dict[str, int] = {}
    with new_file(path) as unfinished, pq.ParquetWriter(unfinished, table.schema, write_page_checksum=True) as writer:
        for metric, start, stop in zip(metrics.dictionary.to_pylist(), starts, starts[1:], strict=False):
            groups[metric] = len(groups)
            writer.write_table(table.slice(start, stop - start), stop - start)
    return groups
