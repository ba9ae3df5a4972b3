"""The summary table: mean, spread and interval of every metric, with the marks that keep a reader honest."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..benchmark.protocols.catalogue import ORACLE, PROTOCOLS
from ..benchmark.runs.records import MethodInfo
from ..benchmark.scores import Scores
from ..benchmark.scoring.metrics import sign
from ..benchmark.statistics import Interval, bootstrap_mean, t_interval
from .columns import SUMMARY, Facts, MethodOnData, flag_text, sort_rows

_INTEGERS = ["n_cases", "n_seeds", "n_patients", "n_undefined"]


class _Row(NamedTuple):
    """A row in the making: its values, its flags so far, and what its marks are decided by."""

    values: dict[str, Any]
    flags: set[str]
    scores: Scores
    method: MethodInfo

    @property
    def size(self) -> int:
        return self.values["n_cases"] if self.values["n_patients"] is None else self.values["n_patients"]


def summary(scores: Sequence[Scores], facts: Mapping[MethodOnData, Facts]) -> pd.DataFrame:
    """Return one row per method, data, protocol, metric and unit.

    Units: ``patient`` (mean over patients of their means over seeds; standard deviation between patients; hierarchical
    bootstrap interval), ``seed`` (the same mean, but standard deviation and t-interval between seeds, as the liver
    paper prints it), ``pooled`` and ``slice`` (pooled by the scorer, then as ``seed``).
    """
    by_key = {(s.key, s.unit): s for s in scores}
    groups: dict[tuple[str, ...], list[_Row]] = defaultdict(list)
    for one in scores:
        known = facts[MethodOnData(*one.key[:3])]
        oracle = by_key.get((one.key._replace(protocol=ORACLE), one.unit))
        for unit in ("patient", "seed") if one.unit == "patient" else (one.unit,):
            groups[(*one.key[1:], unit)].append(_row(one, unit, known, oracle))
    for group in groups.values():
        _mark(group)
    rows = [row.values | {"flags": flag_text(row.flags)} for group in groups.values() for row in group]
    frame = pd.DataFrame(rows, columns=SUMMARY).astype(dict.fromkeys(_INTEGERS, "Int64"))
    return sort_rows(frame, ["dataset", "train", "protocol", "metric", "unit", "method"])


def _row(one: Scores, unit: str, known: Facts, oracle: Scores | None) -> _Row:
    if unit == "patient":
        values, interval = np.array(list(one.by_patient.values())), bootstrap_mean(one.values)
    else:
        values = np.array(list(one.by_seed().values()))
        interval = t_interval(values, noun="seed")
        if known.method.deterministic and values.size:
            interval = Interval(np.nan, np.nan, "deterministic method: one seed, no spread")
    row = {
        **one.key._asdict(), "unit": unit, "mean": float(values.mean()) if values.size else np.nan,
        "std": float(values.std(ddof=1)) if values.size > 1 else np.nan,
        "ci_low": interval.low, "ci_high": interval.high, "n_cases": one.n_cases, "n_seeds": len(one.used_seeds),
        "n_patients": len(one.by_patient) if one.unit == "patient" else None, "n_undefined": one.n_undefined,
        "oracle_gap": _oracle_gap(one, oracle, unit), "profile": known.profile,
        "reason": "; ".join(filter(None, [one.reason, interval.reason if values.size else ""])),
    }  # fmt: skip
    return _Row(row, known.of_number(one.key.protocol, one.key.metric), one, known.method)


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


def _mark(group: Sequence[_Row]) -> None:
    """Add the flags that need the other methods: best trivial baseline, not beating it, unequal sets."""
    size = max(row.size for row in group)
    seeds = max((row.values["n_seeds"] for row in group if not row.method.deterministic), default=0)
    for row in group:
        n_seeds = row.values["n_seeds"]
        if row.size < size:
            row.flags.add("unequal-n")
        if row.scores.ragged or (not row.method.deterministic and n_seeds < seeds):
            row.flags.add("missing-seeds")
        if n_seeds < row.method.min_seeds:
            row.flags.add("few-seeds")
    better = sign(group[0].scores.key.metric)
    # What is measured in whole slices is compared with nothing that is measured in the organ.
    group = [row for row in group if row.method.region == "roi"]
    trivial = [row for row in group if row.method.trivial and not np.isnan(row.values["mean"])]
    if not trivial or not better:
        return
    best = min(trivial, key=lambda row: (-better * row.values["mean"], row.values["method"]))
    best.flags.add("best-trivial")
    for row in group:
        if not row.method.trivial and better * row.values["mean"] <= better * best.values["mean"]:
            row.flags.add("below-best-trivial")
