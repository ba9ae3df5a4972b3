"""From the values of many records in long form, a column for each field, to :class:`.scores.Scores`."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .runs.records import Record
from .scores import Sample, ScoreKey, Scores
from .scoring.metrics import METRICS
from .statistics import FloatArray

COLUMNS = {
    "per_case": ("record", "protocol", "metric", "case", "patient", "value", "reason"),
    "pooled": ("record", "protocol", "metric", "unit", "value", "reason"),
    "left_out": ("record", "protocol", "metric", "unit", "patient", "value"),
}

NUMBERS = {"record": np.int64, "value": np.float64}


@dataclass(frozen=True)
class LongForm:
    """The values of ``records``: the columns of a frame are :data:`COLUMNS`, texts are categories.

    ``record`` counts the records, which need not hold the values themselves; NaN is undefined, with its reason.
    ``left_out`` are the pooled values without a patient.
    """

    records: Sequence[Record]
    per_case: pd.DataFrame
    pooled: pd.DataFrame
    left_out: pd.DataFrame


def long_form(records: Sequence[Record]) -> LongForm:
    """Return the values of records in long form."""
    per_case = ((i, v.protocol, v.metric, v.case, v.patient, v.value, v.reason or "")
                for i, r in enumerate(records) for v in r.per_case)  # fmt: skip
    pooled = ((i, v.protocol, v.metric, v.unit, v.value, v.reason or "")
              for i, r in enumerate(records) for v in r.pooled)  # fmt: skip
    left_out = ((i, v.protocol, v.metric, v.unit, patient, value)
                for i, r in enumerate(records) for v in r.pooled for patient, value in v.left_out.items())  # fmt: skip
    return LongForm(records, framed("per_case", per_case), framed("pooled", pooled), framed("left_out", left_out))


def framed(form: str, rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    """Return rows as a frame, texts as categories."""
    columns = dict(zip(COLUMNS[form], zip(*rows, strict=True), strict=False))
    return pd.DataFrame({name: _column(name, columns.get(name, ())) for name in COLUMNS[form]})


def _column(name: str, values: Sequence[Any]) -> np.ndarray | pd.Categorical:
    if name in NUMBERS:
        return np.array(values, NUMBERS[name])
    codes, known = pd.factorize(np.array(values, object), sort=True)  # many times as fast as through a frame of texts
    return pd.Categorical.from_codes(codes, pd.Index(list(known)))


def per_case_values(values: LongForm) -> pd.DataFrame:
    """Return every value per case with the cell that it is of."""
    frame, cells = values.per_case, [r.cell for r in values.records]
    record = frame["record"].to_numpy()
    for name in ("method", "dataset", "train", "seed"):
        frame = frame.assign(**{name: np.array([getattr(cell, name) for cell in cells], dtype=object)[record]})
    texts = {name: frame[name].astype(str) for name in ("protocol", "metric", "case", "patient", "reason")}
    return frame.assign(**texts, seed=frame["seed"].astype(np.int64)).drop(columns="record")


def collect(records: Sequence[Record]) -> list[Scores]:
    """Return the scores of records, in the order of their keys whatever the order of the records."""
    return scores_of(long_form(records))


def scores_of(values: LongForm) -> list[Scores]:
    """Return the scores of values in long form, in the order of their keys."""
    return [*_patient_scores(values), *_pooled_scores(values)]


def in_order(scores: Iterable[Scores]) -> list[Scores]:
    """Return scores of several parts of a run in the order of :func:`scores_of`."""
    return sorted(scores, key=lambda one: (one.unit != "patient", one.key, one.unit))


class _Group(NamedTuple):
    """The rows of one key of a frame: column → codes, numbers or NaN, and the names that the codes stand for."""

    key: ScoreKey
    unit: str
    seeds: np.ndarray
    columns: Mapping[str, np.ndarray]
    names: Mapping[str, np.ndarray]

    def texts(self, name: str, chosen: np.ndarray | slice = slice(None)) -> list[str]:
        """Return the different texts of a column, sorted."""
        return self.names[name][_distinct(self.columns[name][chosen])].tolist()


def _distinct(codes: np.ndarray) -> np.ndarray:
    """Return the different ones of small numbers, sorted."""
    return np.flatnonzero(np.bincount(codes))


def _groups(frame: pd.DataFrame, records: Sequence[Record]) -> Iterator[_Group]:
    """Divide a frame by key and unit, in their order."""
    where = sorted({(r.cell.method, r.cell.dataset, r.cell.train) for r in records})
    number = {triple: i for i, triple in enumerate(where)}
    place = np.array([number[r.cell.method, r.cell.dataset, r.cell.train] for r in records], np.int64)
    seed = np.array([r.cell.seed for r in records], np.int64)
    columns: dict[str, np.ndarray] = {}
    names: dict[str, np.ndarray] = {}
    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            known = np.array(column.cat.categories, dtype=object)
            order = np.argsort(known, kind="stable")
            rank = np.empty(len(known), np.int32)
            rank[order] = np.arange(len(known), dtype=np.int32)
            columns[str(name)], names[str(name)] = rank[column.cat.codes], known[order]
        else:
            columns[str(name)] = column.to_numpy()
    by = [place[columns["record"]], columns["protocol"], columns["metric"]]
    by += [columns["unit"]] if "unit" in columns else []
    order = np.lexsort(by[::-1])
    if not len(order):
        return
    by, columns = [one[order] for one in by], {name: one[order] for name, one in columns.items()}
    seeds = seed[columns["record"]]
    starts = np.flatnonzero(np.any([np.diff(one, prepend=-1) != 0 for one in by], axis=0))
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = slice(start, stop)
        texts = (names[name][columns[name][start]] for name in ("protocol", "metric"))
        unit = str(names["unit"][columns["unit"][start]]) if "unit" in columns else "patient"
        own = {name: one[rows] for name, one in columns.items()}
        yield _Group(ScoreKey(*where[by[0][start]], *texts), unit, seeds[rows], own, names)


def _matrix(rows: np.ndarray, columns: np.ndarray, values: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Return the means of the defined values of every row and column, NaN where there is none."""
    known = ~np.isnan(values)
    flat, values, size = (rows * shape[1] + columns)[known], values[known], shape[0] * shape[1]
    total, count = np.bincount(flat, values, size), np.bincount(flat, minlength=size)
    for i in np.flatnonzero(count > 2):  # a sum of two is as exact as it can be, one of more depends on their order
        total[i] = math.fsum(values[flat == i])
    return np.divide(total, count, out=np.full(size, np.nan), where=count > 0).reshape(shape)


def _patient_scores(values: LongForm) -> Iterator[Scores]:
    for group in _groups(values.per_case, values.records):
        own, value = group.columns, group.columns["value"]
        seeds, row = np.unique(group.seeds, return_inverse=True)
        people = _distinct(own["patient"])
        column, known = np.searchsorted(people, own["patient"]), ~np.isnan(value)
        defined = len(_distinct(own["case"][known]))
        n_undefined = len(_distinct(own["case"])) - defined
        sample = Sample(tuple(group.names["patient"][people]), _matrix(row, column, value, (len(seeds), len(people))))
        reason = _reason(group.texts("reason", ~known))
        yield Scores(
            group.key, "patient", tuple(seeds.tolist()), sample.patients, sample.values, defined, n_undefined, reason,
            sample,
        )  # fmt: skip


def _reason(reasons: Sequence[str]) -> str:
    return "; ".join([reason for reason in reasons if reason][:3])


def _pooled_scores(values: LongForm) -> Iterator[Scores]:
    left_out = {(group.key, group.unit): group for group in _groups(values.left_out, values.records)}
    for group in _groups(values.pooled, values.records):
        records = (values.records[i] for i in _distinct(group.columns["record"]).tolist())
        data = {id(record.data): record.data for record in records}.values()  # which many records have in common
        people = sorted(set[str]().union(*(one.patients.values() for one in data)))
        seeds, row = np.unique(group.seeds, return_inverse=True)
        matrix = np.full((len(seeds), 1), np.nan)
        matrix[row, 0] = group.columns["value"]
        without = _without_each(left_out.get((group.key, group.unit)), seeds, people)
        yield Scores(
            group.key, group.unit, tuple(seeds.tolist()), ("all",), matrix,
            max(len(one.cases) for one in data), 0, _reason(group.texts("reason")),
            _pseudo_values(matrix, without, people), _rests_on(group.key.metric, without, people),
        )  # fmt: skip


def _without_each(group: _Group | None, seeds: np.ndarray, people: Sequence[str]) -> FloatArray:
    """Return the pooled values without each patient, (seeds, patients), NaN where undefined or not kept."""
    if group is None:
        return np.full((len(seeds), len(people)), np.nan)
    number = {name: i for i, name in enumerate(people)}
    column = np.array([number.get(name, -1) for name in group.names["patient"]])[group.columns["patient"]]
    known = column >= 0
    row, value = np.searchsorted(seeds, group.seeds[known]), group.columns["value"][known]
    return _matrix(row, column[known], value, (len(seeds), len(people)))


def _rests_on(metric: str, without: FloatArray, patients: Sequence[str]) -> str:
    """Say why no patient of a pooled value can be left out, whatever the records hold; empty where each can."""
    known = METRICS.get(metric)
    if known is not None and known.direction is None:
        return "no interval: it says what the data are like"
    if known is not None and known.needs == "healthy scans":
        return "no interval: of held-out healthy scans, not of tested patients"
    kept = without[~np.isnan(without).all(axis=1)]
    needed = np.flatnonzero(np.isnan(kept).any(axis=0))
    if not len(needed):
        return ""
    more = f" or {len(needed) - 1} more" if len(needed) > 1 else ""
    return f"no interval: undefined without patient {patients[needed[0]]}{more}"


def _pseudo_values(whole: FloatArray, without: FloatArray, patients: Sequence[str]) -> Sample | None:
    """Return the pseudo-values of patients (Dorfman, Berbaum and Metz 1992), moved so that their mean is the value.

    None where some seed was kept without the values that leave a patient out, or one is undefined.
    """
    known = ~np.isnan(whole[:, 0])
    whole, left_out = whole[known], without[known]
    if len(patients) < 2 or not known.any() or np.isnan(left_out).any():
        return None
    return Sample(tuple(patients), whole - (len(patients) - 1) * (left_out - left_out.mean(axis=1, keepdims=True)))
