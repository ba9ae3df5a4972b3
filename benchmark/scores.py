"""From records to one seed × patient matrix per method, protocol and metric: what every table is computed from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .crossed import SeedSpread, seed_spread
from .runs.records import CaseValue, PooledValue, Record
from .scoring.metrics import METRICS
from .statistics import FloatArray


class ScoreKey(NamedTuple):
    """Which method, on which data, under which protocol, by which metric."""

    method: str
    dataset: str
    train: str
    protocol: str
    metric: str


@dataclass(frozen=True)
class Sample:
    """What patients are resampled by: ``values`` (seeds, patients), NaN where undefined, whose mean is the score."""

    patients: tuple[str, ...]
    values: FloatArray

    @cached_property
    def by_patient(self) -> dict[str, float]:
        """The mean over seeds of every patient with a defined value."""
        defined = ~np.isnan(self.values)
        counts = defined.sum(axis=0)
        totals = np.where(defined, self.values, 0.0).sum(axis=0)
        return {p: float(t / n) for p, t, n in zip(self.patients, totals, counts, strict=True) if n}

    @cached_property
    def spread(self) -> SeedSpread:
        return seed_spread(self.values)


@dataclass(frozen=True)
class Scores:
    """One metric of one method under one protocol: ``values`` (seeds, patients), NaN where undefined, and why.

    A patient's value is the mean over its defined cases. Where the scorer pooled before the metric, the ``unit`` is
    ``pooled`` or ``slice`` and not ``patient``, and there is one column; ``sample`` then holds the jackknife's
    pseudo-values of patients, None where the records lack them, or where patients are not to be left out, for which
    ``rests_on`` gives the reason. ``n_cases`` have a value in some seed (of pooled values: are in the cell),
    ``n_undefined`` in none.
    """

    key: ScoreKey
    unit: str
    seeds: tuple[int, ...]
    patients: tuple[str, ...]
    values: FloatArray
    n_cases: int
    n_undefined: int
    reason: str
    sample: Sample | None
    rests_on: str = ""

    @cached_property
    def defined(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.values)

    @cached_property
    def by_patient(self) -> dict[str, float]:
        """The mean over seeds of every patient with a defined value."""
        return Sample(self.patients, self.values).by_patient

    @property
    def mean(self) -> float:
        """The mean over patients of their means over seeds; NaN without a value."""
        return float(np.mean(list(self.by_patient.values()))) if self.by_patient else np.nan

    @cached_property
    def used_seeds(self) -> tuple[int, ...]:
        return tuple(s for s, row in zip(self.seeds, self.defined, strict=True) if row.any())

    @cached_property
    def complete(self) -> frozenset[str]:
        used = self.defined[self.defined.any(axis=1)]
        return frozenset(p for i, p in enumerate(self.patients) if used.size and used[:, i].all())

    def by_seed(self, patients: frozenset[str] | None = None) -> dict[int, float]:
        """Return the mean over patients per seed; only complete patients count, so that every seed has the same."""
        chosen = self.complete if patients is None else patients & self.complete
        if not chosen:
            return {}
        columns = [i for i, p in enumerate(self.patients) if p in chosen]
        used = [i for i, s in enumerate(self.seeds) if s in self.used_seeds]
        means = self.values[np.ix_(used, columns)].mean(axis=1)
        return dict(zip(self.used_seeds, means.tolist(), strict=True))

    @property
    def ragged(self) -> bool:
        """Some patient has a value in one seed and none in another."""
        return bool((self.defined.any(axis=0) & ~self.defined.all(axis=0)).any())


def per_case_values(records: Sequence[Record]) -> pd.DataFrame:
    """Return every value per case in long form, NaN where undefined."""
    columns = [*ScoreKey._fields, "seed", "case", "patient", "value", "reason"]
    rows = [
        (*_key(r, v), r.cell.seed, v.case, v.patient, _number(v), v.reason or "") for r in records for v in r.per_case
    ]  # fmt: skip
    return pd.DataFrame.from_records(rows, columns=columns).astype({"value": np.float64, "seed": np.int64})


def collect(records: Sequence[Record]) -> list[Scores]:
    """Return the scores of all records, in the order of their keys whatever the order of the records."""
    return [*_patient_scores(records), *_pooled_scores(records)]


def _key(record: Record, value: CaseValue | PooledValue) -> ScoreKey:
    return ScoreKey(record.cell.method, record.cell.dataset, record.cell.train, value.protocol, value.metric)


def _number(value: CaseValue | PooledValue) -> float:
    return np.nan if value.value is None else value.value


def _patient_scores(records: Sequence[Record]) -> list[Scores]:
    found: dict[ScoreKey, list[tuple[int, CaseValue]]] = defaultdict(list)
    for record in records:
        for value in record.per_case:
            found[_key(record, value)].append((record.cell.seed, value))
    return [_of_patients(key, values) for key, values in sorted(found.items(), key=itemgetter(0))]


def _of_patients(key: ScoreKey, values: Sequence[tuple[int, CaseValue]]) -> Scores:
    cells: dict[tuple[int, str], list[float]] = defaultdict(list)
    for seed, value in values:
        known = cells[seed, value.patient]
        if value.value is not None:
            known.append(value.value)
    seeds, patients = (sorted(set(names)) for names in zip(*cells, strict=True))
    matrix = np.full((len(seeds), len(patients)), np.nan)
    for (seed, patient), known in cells.items():
        if known:
            matrix[seeds.index(seed), patients.index(patient)] = fmean(known)
    defined = {value.case for _, value in values if value.value is not None}
    n_undefined = len({value.case for _, value in values} - defined)
    reason = _reason({value.reason or "" for _, value in values if value.value is None})
    sample = Sample(tuple(patients), matrix)
    return Scores(key, "patient", tuple(seeds), sample.patients, matrix, len(defined), n_undefined, reason, sample)


def _reason(reasons: set[str]) -> str:
    return "; ".join(sorted(reasons - {""})[:3])


def _pooled_scores(records: Sequence[Record]) -> list[Scores]:
    series: dict[tuple[ScoreKey, str], dict[int, tuple[PooledValue, Record]]] = {}
    for record in records:
        for value in record.pooled:
            by_seed = series.setdefault((_key(record, value), value.unit), {})
            by_seed[record.cell.seed] = value, record
    found = []
    for (key, unit), by_seed in sorted(series.items()):
        seeds = tuple(sorted(by_seed))
        matrix = np.array([[_number(by_seed[seed][0])] for seed in seeds], dtype=np.float64)
        n_cases = max(len(record.data.cases) for _, record in by_seed.values())
        reason = _reason({value.reason or "" for value, _ in by_seed.values()})
        people = sorted(set[str]().union(*(record.data.patients.values() for _, record in by_seed.values())))
        values = [by_seed[seed][0] for seed in seeds]
        sample, rests_on = _pseudo_values(values, people), _rests_on(key.metric, values, people)
        found.append(Scores(key, unit, seeds, ("all",), matrix, n_cases, 0, reason, sample, rests_on))
    return found


def _rests_on(metric: str, seeds: Sequence[PooledValue], patients: Sequence[str]) -> str:
    """Say why no patient of a pooled value can be left out, whatever the records hold; empty where each can."""
    known = METRICS.get(metric)
    if known is not None and known.direction is None:
        return "no interval: it says what the data are like"
    if known is not None and known.needs == "healthy scans":
        return "no interval: of held-out healthy scans, not of tested patients"
    kept = [value.left_out for value in seeds if value.left_out]
    needed = [patient for patient in patients if any(patient not in left_out for left_out in kept)]
    if not needed:
        return ""
    more = f" or {len(needed) - 1} more" if len(needed) > 1 else ""
    return f"no interval: undefined without patient {needed[0]}{more}"


def _pseudo_values(seeds: Sequence[PooledValue], patients: Sequence[str]) -> Sample | None:
    """Return the pseudo-values of patients (Dorfman, Berbaum and Metz 1992), moved so that their mean is the value.

    None where some seed was kept without the values that leave a patient out, or one is undefined.
    """
    known = [value for value in seeds if value.value is not None]
    if len(patients) < 2 or not known or any(p not in value.left_out for value in known for p in patients):
        return None
    left_out = np.array([[value.left_out[p] for p in patients] for value in known])
    whole = np.array([[_number(value)] for value in known])
    return Sample(tuple(patients), whole - (len(patients) - 1) * (left_out - left_out.mean(axis=1, keepdims=True)))
