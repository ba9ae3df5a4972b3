"""Numbers that papers print, from ``published.yaml``: for ``bench show``, ``bench reproduce`` and pages of reports."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from ...common.errors import UasbenchError, did_you_mean
from ..protocols.catalogue import PROTOCOLS
from ..scoring.metrics import METRICS, NO_PROTOCOL
from . import registry
from .printed import COSTS, NOT_SIGNIFICANT, Printed, Stars, parts

FILE = Path(__file__).with_name("published.yaml")
_PLACE = ("row", "dataset", "protocol", "unit")
_Foreign = Mapping[str, Mapping[str, str]]


class PublishedError(UasbenchError):
    """Published numbers are asked for that nobody printed, or their file is wrong; then it says in which line."""


class PublishedRow(BaseModel):
    """One row (``method`` or ``method@variant``) of a published table on one data set: numbers by metric, as printed.

    The top of ``published.yaml`` explains the fields; ``how`` and ``caveat`` are never empty. Pages call the row by its
    name, where it has one. The method or the data set of a ``foreign`` row is none of ours. ``nearest`` has what of
    ours stands beside a foreign method, data set or metric, and ``called`` what these are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    row: str
    dataset: str
    printed: dict[str, str]
    name: str = ""
    by: str = ""
    protocol: str = ""
    unit: str = ""
    n: dict[str, int] = {}
    how: str = ""
    card: str = ""
    learned: str = ""
    threshold: str = ""
    caveat: str = ""
    stars: Stars | None = None
    foreign: bool = False
    nearest: dict[str, str | list[str]] = {}
    called: dict[str, str] = {}

    @property
    def shown_as(self) -> str:
        """The source, and which row of an experiment it is where there are several of a method."""
        label = self.row.partition("@")[2]
        return f"{self.source} (@{label})" if label else self.source

    @property
    def source(self) -> str:
        """The table, and who measured the numbers where it copied them."""
        return f"{self.by}, in {self.table}" if self.by else self.table

    @property
    def shown_by(self) -> str:
        """The method whose card shows it; empty where the method or the data set is none of ours."""
        return "" if self.foreign or self.dataset in self.called else self.card or self.row.partition("@")[0]

    def counterparts(self) -> Iterator[Printed]:
        """Yield each number that a run has the counterpart of, or where the table names it the nearest thing to it."""
        where: dict[str, Any] = {name: self.nearest.get(getattr(self, name), getattr(self, name)) for name in _PLACE}
        for metric, text in self.printed.items():
            value, spread, _, stars = parts(text)
            if self.stars is not None and self.row != self.stars.against:
                where |= {"stars": stars or NOT_SIGNIFICANT, "test": self.stars}
            of = "; ".join(self.called[name] for name in (self.row, self.dataset, metric) if name in self.called)
            for ours in _several(self.nearest.get(metric, metric)):
                if not self.foreign and (ours in METRICS or ours in COSTS):
                    yield Printed(metric=ours, value=value, std=spread, of=of, **where)


@dataclass(frozen=True)
class Published:
    """All printed rows, and the names of those that pages quote."""

    names: Mapping[str, str]
    rows: tuple[PublishedRow, ...]

    def of_card(self, method: str) -> list[tuple[str, str, str, str, str]]:
        """Return what the card of a method shows: source, data set, metric, number, comparability."""
        return [
            (row.shown_as, row.dataset, metric, text, row.how)
            for row in self.rows
            if row.shown_by == method
            for metric, text in row.printed.items()
        ]

    def caveats_of(self, method: str) -> list[tuple[str, str]]:
        """Return what the card of a method says of its numbers: source and caveat, each pair once."""
        return list(dict.fromkeys((row.source, row.caveat) for row in self.rows if row.shown_by == method))

    def of_table(self, table: str) -> list[PublishedRow]:
        """Return the rows of a published table.

        Raises:
            PublishedError: there is no such table.
        """
        found = [row for row in self.rows if row.table == table]
        if not found:
            known = "; ".join(dict.fromkeys(row.table for row in self.rows))
            raise PublishedError(f"no published table {table!r}; known: {known}")
        return found

    def of_page(self, dataset: str) -> list[PublishedRow]:
        """Return the rows that pages quote beside our Dice on a data set, in the order of their names."""
        order = list(self.names.values())
        quoted = [r for r in self.rows if r.dataset == dataset and r.name and r.learned and "dice" in r.printed]
        return sorted(quoted, key=lambda row: order.index(row.name))


@cache
def published() -> Published:
    """Return the numbers that ship with the benchmark."""
    return read(FILE)


def read(path: Path) -> Published:
    """Read and check a file of published numbers.

    Raises:
        PublishedError: unknown method, data set, metric, protocol or field, a row that does not say how or has no
            caveat, what is no percentage and no time, asterisks that nobody explains, a line of the wrong length, a
            number that stands twice, or facts about a row without any.
    """
    content = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    rows, seen = [], set[tuple[str, ...]]()
    for table in content["tables"]:
        if unused := table.get("rows", {}).keys() - {line[0] for line in table["numbers"]}:
            raise PublishedError(f"{path}, {table['source']}: no numbers of {', '.join(sorted(unused))}")
        for line in table["numbers"]:
            try:
                row = _row(table, line, content["names"], content["foreign"])
                _check(row, content["foreign"], seen)
            except ValueError as error:
                raise PublishedError(f"{path}, line {line.number}: {error}") from error
            rows.append(row)
    return Published(content["names"], tuple(rows))


class _Line(list[str]):
    """A list of texts that knows where it stands."""

    number = 0


class _Loader(yaml.BaseLoader):
    """Reads every scalar as text, so that a number keeps the digits that were printed."""


def _line(loader: _Loader, node: yaml.SequenceNode) -> _Line:
    line = _Line(loader.construct_sequence(node, deep=True))
    line.number = node.start_mark.line + 1
    return line


_Loader.add_constructor("tag:yaml.org,2002:seq", _line)


def _row(table: Mapping[str, Any], line: _Line, names: Mapping[str, str], foreign: _Foreign) -> PublishedRow:
    row, dataset, *texts = line
    if len(texts) != len(table["metrics"]):
        raise ValueError(f"{len(texts)} numbers for {len(table['metrics'])} metrics")
    facts = {key: value for key, value in table.items() if key not in ("source", "metrics", "rows", "numbers")}
    facts |= table.get("rows", {}).get(row, {})
    facts["caveat"] = "; ".join(filter(None, (facts.get("caveat"), facts.pop("also", None))))
    printed = dict(zip(table["metrics"], texts, strict=True))
    where = {"table": table["source"], "row": row, "dataset": dataset, "name": names.get(row, ""), "printed": printed}
    nearest = facts.get("nearest", {})
    known = {**foreign["methods"], **foreign["datasets"], **foreign["metrics"]}
    where["called"] = {name: known[name] for name in nearest if name in known}
    where["foreign"] = any(
        name not in nearest for name, kind in ((row, "methods"), (dataset, "datasets")) if name in foreign[kind]
    )
    if wrong := facts.keys() & where.keys():
        raise ValueError(f"a line of numbers says its {min(wrong)} itself")
    return PublishedRow(**facts, **where)


def _check(row: PublishedRow, foreign: _Foreign, seen: set[tuple[str, ...]]) -> None:
    methods = registry.runnable().names()
    _one_of("method", row.row.partition("@")[0], [*methods, *foreign["methods"]])
    _one_of("method", row.card or methods[0], methods)
    _one_of("data set", row.dataset, [*registry.datasets().names(), *foreign["datasets"]])
    _one_of("protocol", row.protocol or NO_PROTOCOL, PROTOCOLS)
    for name, text in (("how", row.how), ("caveat", row.caveat)):
        if not text:
            raise ValueError(f"neither {row.row} nor its table has a {name!r}: by what protocol, and what to mind")
    for name, ours in row.nearest.items():
        _one_of("foreign name", name, [n for kind in foreign.values() for n in kind])
        known = METRICS if name in foreign["metrics"] else [*methods, *registry.datasets().names()]
        for one in _several(ours) if name in foreign["metrics"] else [str(ours)]:
            _one_of("name of ours", one.partition("@")[0], list(known))
    for metric, text in row.printed.items():
        _one_of("metric", metric, [*METRICS, *COSTS, *foreign["metrics"]])
        value, _, seconds, stars = parts(text)
        if seconds != (metric in COSTS) or not (0 < value < 100 or seconds):
            raise ValueError(f"{text!r} is no {'time' if metric in COSTS else 'percentage'}")
        if stars and (row.stars is None or stars not in row.stars.levels):
            raise ValueError(f"{text!r}: the table does not say what {stars} means")
        key = (row.table, row.row, row.dataset, metric)
        if key in seen:
            raise ValueError(f"{', '.join(key)} stands twice")
        seen.add(key)


def _several(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def _one_of(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}{did_you_mean(name, known) or '; ' + ', '.join(known)}")
