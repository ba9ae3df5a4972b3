"""The numbers of a record by name, how far two of them may lie apart, and where they lie further."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..runs.records import Record
from ..scoring.metrics import METRICS

NUMBERS = ("thresholds", "per_case", "pooled", "error_bounds", "histogram")
OF_THE_MOMENT = ("environment", "created", "digest")
CHOSEN = ("smoothing_mm", "min_size_mm3", "quantile", "value", "trials", "patients", "tuned_on", "drawn", "study")
"""What a threshold consists of beside its value."""

Value = float | str
"""A number, or why there is none."""
Kind = Literal["share", "score", "amount", "detail"]
"""A metric in 0 … 1; a value of the map; a count, volume or length; what is compared to the last bit or not at all."""


_OF_HISTOGRAMS: dict[str, Kind] = {
    "low": "score", "high": "score", "healthy": "amount", "lesion": "amount", "dice": "share",
}  # fmt: skip


class Name(NamedTuple):
    """Which number of a record; ``of`` is a case, the unit that is pooled over, or a fold."""

    protocol: str
    metric: str
    of: str

    def __str__(self) -> str:
        return " ".join(filter(None, self))


class Number(NamedTuple):
    """A value of a record."""

    kind: Kind
    value: Value


@dataclass(frozen=True)
class Tolerance:
    """How far two numbers may lie apart; None is any distance.

    Attributes:
        share: of a metric in 0 … 1.
        score: of a threshold, as a share of the largest threshold of its cell.
        amount: of a count, volume or length, as a share of it where it is beyond 1.
    """

    name: str
    share: float = 0.0
    score: float = 0.0
    amount: float | None = 0.0

    @property
    def exact(self) -> bool:
        return self.share == self.score == self.amount == 0.0

    def __str__(self) -> str:
        if self.exact:
            return f"{self.name}: numbers have to be equal to the last bit"
        amounts = "are not compared" if self.amount is None else f"may differ by {self.amount:g} of themselves"
        return (
            f"{self.name}: metrics may differ by {self.share:g}, thresholds by {self.score:g} of the largest of their "
            f"cell; counts, volumes and lengths {amounts}"
        )


SAME = Tolerance("same source, packages and instructions")
MEASURED_AGAIN = Tolerance("same maps, other source, packages or instructions", 1e-6, 1e-6, 1e-6)
MAPPED_AGAIN = Tolerance("nothing trained, other source, packages, instructions or device", 1e-2, 1e-2, None)


def numbers(record: Record) -> dict[Name, Number]:
    """Return every number of a record by name."""
    found: dict[Name, Number] = {}
    for row in record.per_case:
        found[Name(row.protocol, row.metric, row.case)] = _number(row.metric, row.value, row.reason)
    for row in record.pooled:
        found[Name(row.protocol, row.metric, row.unit)] = _number(row.metric, row.value, row.reason)
    for name, bound in record.error_bounds.items():
        found[Name("", "error bound", name)] = Number("detail", bound)
    for one in record.thresholds:
        fold = "" if one.fold is None else f"fold {one.fold}"
        value = _reason(one.reason) if one.threshold is None else one.threshold
        found[Name(one.protocol, "threshold", fold)] = Number("score", value)
        for field in CHOSEN:
            found[Name(one.protocol, field, fold)] = Number("detail", str(getattr(one, field)))
    if (told := record.histogram) is not None:
        for part, kind in _OF_HISTOGRAMS.items():
            held = getattr(told, part)
            for i, value in enumerate(held if isinstance(held, list) else [held]):
                found[Name("", "histogram", f"{part} {i}")] = Number(kind, value)
    return found


def apart(record: Record, other: Record, tolerance: Tolerance) -> Iterator[tuple[Name, Value, Value]]:
    """Yield the numbers of both records that lie further apart than they may, each with its two values.

    Thresholds of maps that were smoothed in different ways are compared to the last bit or not at all.
    """
    scale = max((abs(t.threshold) for t in (*record.thresholds, *other.thresholds) if t.threshold), default=0.0)
    ours, theirs = numbers(record), numbers(other)
    for name, kind, a, b in common(record, other):
        way = name._replace(metric="smoothing_mm")
        unlike = kind == "detail" or ours.get(way) != theirs.get(way)
        if a != b and not (unlike and not tolerance.exact) and _far(kind, a, b, tolerance, scale):
            yield name, a, b


def _far(kind: Kind, a: Value, b: Value, tolerance: Tolerance, scale: float) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return True
    if kind == "amount":
        return tolerance.amount is not None and not abs(a - b) <= tolerance.amount * max(1.0, abs(a))
    return not abs(a - b) <= (tolerance.score * scale if kind == "score" else tolerance.share)


def common(record: Record, other: Record) -> Iterator[tuple[Name, Kind, Value, Value]]:
    """Yield the numbers that both records have, with their kind and their two values."""
    ours, theirs = numbers(record), numbers(other)
    for name, number in ours.items():
        if name in theirs:
            yield name, number.kind, number.value, theirs[name].value


def only_one(record: Record, other: Record) -> tuple[list[Name], list[Name]]:
    """Return the numbers that only the one, and only the other record has."""
    ours, theirs = numbers(record).keys(), numbers(other).keys()
    return sorted(ours - theirs), sorted(theirs - ours)


def rest(record: Record) -> dict[str, object]:
    """Return the parts of a record beside its numbers that its files decide, by name."""
    found = record.model_dump(mode="json", exclude={*NUMBERS, *OF_THE_MOMENT, "data", "cost"})
    found |= {f"data.{name}": value for name, value in record.data.model_dump(mode="json").items()}
    found |= {f"cost.{name}": value for name, value in record.cost.model_dump(mode="json").items()}
    del found["cost.measure_s"]
    return found


def _number(metric: str, value: float | None, reason: str | None) -> Number:
    unit = METRICS[metric].unit if metric in METRICS else "share"
    kind: Kind = unit if unit in ("share", "score") else "amount"
    return Number(kind, _reason(reason) if value is None else value)


def _reason(reason: str | None) -> str:
    return f"undefined ({reason})"
