"""The numbers of a record by name, how far two of them may lie apart, and where they lie further."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..runs.records import Record

NUMBERS = ("thresholds", "per_case", "pooled", "error_bounds")
OF_THE_MOMENT = ("environment", "created", "digest")


class Name(NamedTuple):
    """Which number of a record; ``of`` is a case, the unit that is pooled over, or a fold."""

    protocol: str
    metric: str
    of: str

    def __str__(self) -> str:
        return " ".join(filter(None, self))


@dataclass(frozen=True)
class Tolerance:
    """How far two numbers may lie apart.

    Attributes:
        metric: of a metric, a bound or the value that a study reached; a share of numbers beyond 1.
        threshold: of a threshold, as a share of the largest threshold of its cell.
    """

    name: str
    metric: float = 0.0
    threshold: float = 0.0

    @property
    def exact(self) -> bool:
        return self.metric == self.threshold == 0.0


EXACT = Tolerance("equal to the last bit")
MEASURED_AGAIN = Tolerance("measured by another version or processor from the same maps", metric=1e-6, threshold=1e-6)

Value = float | str | None
"""A number, the reason why there is none, or a number that is absent by choice."""
CHOSEN = ("smoothing_mm", "min_size_mm3", "quantile", "trials", "reason", "patients", "tuned_on", "drawn", "study")


def values(record: Record) -> dict[Name, Value]:
    """Return every metric of a record by name; an undefined one is its reason."""
    found: dict[Name, Value] = {}
    for row in record.per_case:
        found[Name(row.protocol, row.metric, row.case)] = _value(row.value, row.reason)
    for row in record.pooled:
        found[Name(row.protocol, row.metric, row.unit)] = _value(row.value, row.reason)
    for name, bound in record.error_bounds.items():
        found[Name("", "error bound", name)] = bound
    for threshold in record.thresholds:
        found[Name(threshold.protocol, "tuned value", _fold(threshold.fold))] = threshold.value
    return found


def thresholds(record: Record) -> dict[Name, Value]:
    """Return every threshold of a record by name; an undefined one is its reason."""
    return {Name(t.protocol, "threshold", _fold(t.fold)): _value(t.threshold, t.reason) for t in record.thresholds}


def choices(record: Record) -> dict[Name, Value]:
    """Return what else a threshold consists of, as text: post-processing, patients, trials."""
    return {
        Name(t.protocol, field, _fold(t.fold)): str(getattr(t, field)) for t in record.thresholds for field in CHOSEN
    }


def apart(record: Record, other: Record, tolerance: Tolerance) -> Iterator[tuple[Name, Value, Value]]:
    """Yield the numbers of both records that lie further apart than they may, each with its two values.

    What a threshold consists of beside its value is compared where no difference is tolerated.
    """
    scale = max((abs(t.threshold) for t in (*record.thresholds, *other.thresholds) if t.threshold), default=0.0)
    for name, a, b in _common(values, record, other):
        size = max(1.0, abs(a)) if isinstance(a, float) else 1.0
        if _far(a, b, tolerance.metric * size):
            yield name, a, b
    for name, a, b in _common(thresholds, record, other):
        if _far(a, b, tolerance.threshold * scale):
            yield name, a, b
    if tolerance.exact:
        yield from ((name, a, b) for name, a, b in _common(choices, record, other) if a != b)


def other_names(record: Record, other: Record) -> tuple[list[Name], list[Name]]:
    """Return the metrics that only the one, and only the other record has."""
    ours, theirs = values(record).keys(), values(other).keys()
    return sorted(ours - theirs), sorted(theirs - ours)


def rest(record: Record) -> dict[str, object]:
    """Return the parts of a record beside its numbers that its files decide, by name."""
    found = record.model_dump(mode="json", exclude={*NUMBERS, *OF_THE_MOMENT, "data", "cost"})
    found |= {f"data.{name}": value for name, value in record.data.model_dump(mode="json").items()}
    found |= {f"cost.{name}": value for name, value in record.cost.model_dump(mode="json").items()}
    del found["cost.measure_s"]
    return found


def _common(
    listed: Callable[[Record], dict[Name, Value]], record: Record, other: Record
) -> Iterator[tuple[Name, Value, Value]]:
    ours, theirs = listed(record), listed(other)
    yield from ((name, ours[name], theirs[name]) for name in sorted(ours.keys() & theirs.keys()))


def _far(a: Value, b: Value, limit: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a != b and not abs(a - b) <= limit
    return a != b


def _value(value: float | None, reason: str | None) -> Value:
    return f"undefined ({reason})" if value is None else value


def _fold(fold: int | None) -> str:
    return "" if fold is None else f"fold {fold}"
