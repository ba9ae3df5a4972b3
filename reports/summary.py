"""The summary table: mean, spread and interval of every metric, with the marks that keep a reader honest."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..benchmark.protocols.catalogue import ORACLE, PROTOCOLS
from ..benchmark.scores import Scores
from ..benchmark.scoring.metrics import sign
from ..benchmark.statistics import FloatArray, Interval, bootstrap_mean, t_interval
from .columns import SUMMARY, flag_text, sort_rows
from .facts import Facts, MethodOnData, number_flags

_INTEGERS = ["n_cases", "n_seeds", "n_patients", "n_undefined"]


@dataclass
class _Row:
    scores: Scores
    unit: str
    facts: Facts
    values: FloatArray
    interval: Interval
    oracle_gap: float
    flags: set[str]

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if self.values.size else np.nan

    @property
    def n_seeds(self) -> int:
        return len(self.scores.used_seeds)

    @property
    def n_patients(self) -> int | None:
        return len(self.scores.by_patient) if self.scores.unit == "patient" else None

    @property
    def size(self) -> int:
        return self.scores.n_cases if self.n_patients is None else self.n_patients

    def as_dict(self) -> dict[str, object]:
        std = float(self.values.std(ddof=1)) if self.values.size > 1 else np.nan
        reason = "; ".join(filter(None, [self.scores.reason, self.interval.reason if self.values.size else ""]))
        return {
            **self.scores.key._asdict(), "unit": self.unit, "mean": self.mean, "std": std,
            "ci_low": self.interval.low, "ci_high": self.interval.high, "n_cases": self.scores.n_cases,
            "n_seeds": self.n_seeds, "n_patients": self.n_patients, "n_undefined": self.scores.n_undefined,
            "oracle_gap": self.oracle_gap, "profile": self.facts.profile, "flags": flag_text(self.flags),
            "reason": reason,
        }  # fmt: skip


def summary(scores: Sequence[Scores], facts: Mapping[MethodOnData, Facts]) -> pd.DataFrame:
    """Return one row per method, data, protocol, metric and unit.

    Units: ``patient`` (mean over patients of their means over seeds; standard deviation between patients; hierarchical
    bootstrap interval), ``seed`` (the same mean, but standard deviation and t-interval between seeds, as the liver
    paper prints it), ``pooled`` and ``slice`` (pooled by the scorer, then as ``seed``).
    """
    by_key = {(s.key, s.unit): s for s in scores}
    rows = []
    for one in scores:
        known = facts[MethodOnData(*one.key[:3])]
        oracle = by_key.get((one.key._replace(protocol=ORACLE), one.unit))
        for unit in ("patient", "seed") if one.unit == "patient" else (one.unit,):
            rows.append(_row(one, unit, known, oracle))
    _mark(rows)
    frame = pd.DataFrame([row.as_dict() for row in rows], columns=SUMMARY).astype(dict.fromkeys(_INTEGERS, "Int64"))
    return sort_rows(frame, ["dataset", "train", "protocol", "metric", "unit", "method"])


def _row(one: Scores, unit: str, known: Facts, oracle: Scores | None) -> _Row:
    if unit == "patient":
        values, interval = np.array(list(one.by_patient.values())), bootstrap_mean(one.values)
    else:
        values = np.array(list(one.by_seed().values()))
        interval = t_interval(values, noun="seed")
        if known.method.deterministic and values.size:
            interval = Interval(np.nan, np.nan, "deterministic method: one seed, no spread")
    flags = number_flags(known, one.key.protocol, one.key.metric)
    return _Row(one, unit, known, values, interval, _oracle_gap(one, oracle, unit), flags)


def _oracle_gap(one: Scores, oracle: Scores | None, unit: str) -> float:
    """Return oracle Dice − this protocol's Dice, over the patients (or seeds) that both have."""
    protocol = PROTOCOLS.get(one.key.protocol)
    if oracle is None or one.key.metric != "dice" or protocol is None or not protocol.has_gap:
        return np.nan
    if unit == "patient":
        return _mean_gap(oracle.by_patient, one.by_patient)
    common = one.complete & oracle.complete
    return _mean_gap(oracle.by_seed(common), one.by_seed(common))


def _mean_gap(best: Mapping[Any, float], mine: Mapping[Any, float]) -> float:
    gaps = [value - mine[name] for name, value in best.items() if name in mine]
    return float(np.mean(gaps)) if gaps else np.nan


def _mark(rows: Sequence[_Row]) -> None:
    """Add the flags that need the other methods: best trivial baseline, not beating it, unequal sets."""
    groups: dict[tuple[str, ...], list[_Row]] = defaultdict(list)
    for row in rows:
        groups[(*row.scores.key[1:], row.unit)].append(row)
    for group in groups.values():
        size = max(row.size for row in group)
        seeds = max((row.n_seeds for row in group if not row.facts.method.deterministic), default=0)
        for row in group:
            if row.size < size:
                row.flags.add("unequal-n")
            if row.scores.ragged or (not row.facts.method.deterministic and row.n_seeds < seeds):
                row.flags.add("missing-seeds")
            if row.n_seeds < row.facts.method.min_seeds:
                row.flags.add("few-seeds")
        better = sign(group[0].scores.key.metric)
        trivial = [row for row in group if row.facts.method.trivial and not np.isnan(row.mean)]
        if not trivial or not better:
            continue
        best = min(trivial, key=lambda row: (-better * row.mean, row.scores.key.method))
        best.flags.add("best-trivial")
        for row in group:
            if not row.facts.method.trivial and better * row.mean <= better * best.mean:
                row.flags.add("below-best-trivial")
