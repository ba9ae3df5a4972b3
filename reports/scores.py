"""From records to one seed × patient matrix per method, protocol and metric: what every table is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from ..benchmark.records import CaseValue, PooledValue, Record
from .columns import ORACLES


class Key(NamedTuple):
    """Which method, on which data, under which protocol, by which metric."""

    method: str
    dataset: str
    train: str
    protocol: str
    metric: str


class Cell(NamedTuple):
    """Which method on which data, over all seeds."""

    method: str
    dataset: str
    train: str


@dataclass(frozen=True)
class Facts:
    """What the tables say about a method beside its numbers."""

    title: str
    family: str
    deterministic: bool
    trivial: bool
    profile: str
    flags: frozenset[str]


@dataclass(frozen=True)
class Scores:
    """One metric of one method under one protocol.

    Attributes:
        unit: ``patient``, or ``pooled`` or ``slice`` where the scorer pooled before the metric.
        matrix: rows seeds, columns patients (a single column where pooled); NaN where undefined. A patient's value is
            the mean over the defined cases of that patient.
        n_cases: cases with a defined value in some seed; for pooled values the cases of the cell.
        n_undefined: cases without a value in any seed.
        reason: why values are undefined.
    """

    key: Key
    unit: str
    matrix: pd.DataFrame
    n_cases: int
    n_undefined: int
    reason: str

    @property
    def n_seeds(self) -> int:
        """Seeds with any defined value."""
        return int(self.matrix.notna().any(axis=1).sum())

    def by_patient(self) -> pd.Series:
        """Return the mean over seeds per patient, defined values only."""
        return self.matrix.mean(axis=0).dropna()

    def complete(self) -> list[str]:
        """Return the patients that are defined in every seed (seeds without any value aside)."""
        return list(self.matrix.dropna(axis=0, how="all").dropna(axis=1, how="any").columns)

    def by_seed(self, patients: Iterable[str] | None = None) -> pd.Series:
        """Return the mean over patients per seed; only complete patients count, so that every seed has the same."""
        wanted = self.complete() if patients is None else list(patients)
        return self.matrix[wanted].mean(axis=1).dropna()

    @property
    def ragged(self) -> bool:
        """Some patient has a value in one seed and none in another."""
        some = self.matrix.notna()
        return bool((some.any(axis=0) & ~some.all(axis=0)).any())


def facts(records: Sequence[Record]) -> dict[Cell, Facts]:
    """Return the facts of every method; a flag counts when any of its records has it."""
    found: dict[Cell, Facts] = {}
    for record in records:
        cell = Cell(record.cell.method, record.cell.dataset, record.cell.train)
        flags = set(found[cell].flags) if cell in found else set()
        flags |= record_flags(record)
        info = record.method
        found[cell] = Facts(
            info.title, info.family, info.deterministic, info.trivial, record.profile, frozenset(flags)
        )  # fmt: skip
    return found


def record_flags(record: Record) -> set[str]:
    """Return the flags that hold for every number of a record."""
    flags = set()
    if record.data.phantom is not None:
        flags.add("phantom")
    if record.profile == "smoke":
        flags.add("smoke")
    if record.method.uses == "unlabelled-test":
        flags.add("transductive")
    if record.method.uses == "labels" or record.method.supervision == "full":
        flags.add("topline")
    if record.method.trivial:
        flags.add("trivial")
    return flags


def protocol_flags(protocol: str) -> set[str]:
    """Return the flags that a protocol brings with it."""
    return {"oracle"} if protocol in ORACLES else set()


def per_case_values(records: Sequence[Record]) -> pd.DataFrame:
    """Return every value per case in long form, NaN where undefined."""
    columns = [*Key._fields, "seed", "case", "patient", "value", "reason"]
    rows = [
        (*_key(r, v), r.cell.seed, v.case, v.patient, _number(v), v.reason or "") for r in records for v in r.per_case
    ]  # fmt: skip
    return pd.DataFrame.from_records(rows, columns=columns).astype({"value": np.float64, "seed": np.int64})


def collect(records: Sequence[Record]) -> list[Scores]:
    """Return the scores of all records, in the order of their keys whatever the order of the records."""
    return [*_patient_scores(per_case_values(records)), *_pooled_scores(records)]


def _key(record: Record, value: CaseValue | PooledValue) -> Key:
    return Key(record.cell.method, record.cell.dataset, record.cell.train, value.protocol, value.metric)


def _number(value: CaseValue | PooledValue) -> float:
    return np.nan if value.value is None else value.value


def _patient_scores(values: pd.DataFrame) -> list[Scores]:
    key = list(Key._fields)
    means = values.groupby([*key, "seed", "patient"], sort=True, as_index=False)["value"].mean()
    cases = dict(iter(values.groupby(key, sort=False)))
    found = []
    for name, group in means.groupby(key, sort=True):
        matrix = group.pivot(index="seed", columns="patient", values="value")
        every = cases[name]
        known = every["value"].notna().to_numpy()
        n_all, n_known = every["case"].nunique(), every.loc[known, "case"].nunique()
        reason = _reason(set(every.loc[~known, "reason"]))
        scored = Key(*cast(tuple[str, ...], name))
        found.append(Scores(scored, "patient", matrix, n_known, n_all - n_known, reason))
    return found


def _reason(reasons: set[str]) -> str:
    return "; ".join(sorted(reasons - {""})[:3])


def _pooled_scores(records: Sequence[Record]) -> list[Scores]:
    series: dict[tuple[Key, str], dict[int, float]] = {}
    cases: dict[tuple[Key, str], int] = {}
    reasons: dict[tuple[Key, str], set[str]] = {}
    for record in records:
        for value in record.pooled:
            name = (_key(record, value), value.unit)
            series.setdefault(name, {})[record.cell.seed] = _number(value)
            cases[name] = max(cases.get(name, 0), len(record.data.cases))
            reasons.setdefault(name, set()).add(value.reason or "")
    found = []
    for (key, unit), by_seed in sorted(series.items()):
        matrix = pd.DataFrame({"all": pd.Series(by_seed, dtype=np.float64).sort_index()})
        found.append(Scores(key, unit, matrix, cases[key, unit], 0, _reason(reasons[key, unit])))
    return found
