"""The summary table: mean, spread and interval of every metric, with the marks that keep a reader honest."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..benchmark.crossed import MeanInterval, mean_intervals
from ..benchmark.protocols.catalogue import ORACLE, ORACLE_POOLED, PROTOCOLS
from ..benchmark.scores import Sample, Scores
from ..benchmark.scoring.metrics import sign
from ..benchmark.statistics import MIN_FOR_INTERVAL, Interval, t_interval
from .columns import ORDER, SMALL_N, SUMMARY, Facts, MethodOnData, flag_text, sort_rows
from .trivial import CONFOUND, BestTrivial, Group, against, group_of

_INTEGERS = ["n_cases", "n_seeds", "n_patients", "n_undefined"]


class _Row(NamedTuple):
    """A row in the making: its values, its flags so far, and what its marks are decided by."""

    values: dict[str, Any]
    flags: set[str]
    scores: Scores
    facts: Facts

    @property
    def size(self) -> int:
        return self.values["n_cases"] if self.values["n_patients"] is None else self.values["n_patients"]


def summary(
    scores: Sequence[Scores], facts: Mapping[MethodOnData, Facts], baselines: Mapping[Group, BestTrivial]
) -> pd.DataFrame:
    """Return one row per method, data, protocol, metric and unit.

    Units: ``patient`` (mean over patients of their means over seeds; standard deviation between patients; interval for
    new patients and seeds), ``seed`` (the same mean, but standard deviation and t-interval between seeds, as the liver
    paper prints it), ``pooled`` and ``slice`` (pooled by the scorer; standard deviation between seeds, interval as of
    patients, none where one of them cannot be left out). ``baselines`` are the best trivial ones.
    """
    by_key = {(s.key, s.unit): s for s in scores}
    samples = [one.sample for one in scores if one.sample is not None]
    found = mean_intervals([np.array(list(s.by_patient.values())) for s in samples], [s.spread for s in samples])
    intervals = iter(found)
    groups: dict[Group, list[_Row]] = defaultdict(list)
    for one in scores:
        known = facts[MethodOnData(*one.key[:3])]
        bound = ORACLE if one.unit == "patient" else ORACLE_POOLED
        oracle = by_key.get((one.key._replace(protocol=bound), one.unit))
        interval = None if one.sample is None else next(intervals)
        for unit in ("patient", "seed") if one.unit == "patient" else (one.unit,):
            groups[(*one.key[1:], unit)].append(_row(one, unit, known, oracle, interval))
    best = against(scores, facts, {group: found.samples for group, found in baselines.items()})
    area = against(scores, facts, _areas(scores))
    for key, group in groups.items():
        _mark(group)
        for row in group:
            name = row.values["method"]
            if key in baselines and name == baselines[key].chosen:
                row.flags.add("best-trivial")
            if (key, name) in best:
                difference, p = best[key, name]
                row.values.update(diff_best_trivial=difference, p_best_trivial=p)
            if (key, name) in area:
                row.values["p_area_alone"] = area[key, name].p
            better = sign(row.values["metric"])
            for compared, flag in ((best, "below-best-trivial"), (area, "area-alone")):
                if (key, name) in compared and not compared[key, name].beaten(better):
                    row.flags.add(flag)
    rows = [row.values | {"flags": flag_text(row.flags)} for group in groups.values() for row in group]
    frame = pd.DataFrame(rows, columns=SUMMARY).astype(dict.fromkeys(_INTEGERS, "Int64"))
    return sort_rows(frame, ORDER["summary"])


def _areas(scores: Sequence[Scores]) -> dict[Group, dict[str, Sample]]:
    """Return what the area of the region of interest alone reaches in telling slices apart."""
    found = {group_of(one): one.sample for one in scores if one.key[0] == CONFOUND and one.key.metric == "slice_auroc"}
    return {group: {CONFOUND: sample} for group, sample in found.items() if sample is not None}


def _row(one: Scores, unit: str, known: Facts, oracle: Scores | None, interval: MeanInterval | None) -> _Row:
    flags = known.of_number(one.key.protocol, one.key.metric)
    values = np.array(list(one.by_patient.values() if unit == "patient" else one.by_seed().values()))
    bounds, why = Interval(np.nan, np.nan), ""
    if unit != "seed" and one.sample is not None and interval is not None:
        n = len(one.sample.by_patient)
        bounds = Interval(interval.low, interval.high)
        why = (
            f"{n} patient{'' if n == 1 else 's'}: an interval needs {MIN_FOR_INTERVAL}" if n < MIN_FOR_INTERVAL else ""
        )
        flags |= {flag for flag, held in (("small-n", n < SMALL_N), ("skewed", interval.skewed)) if held}
    elif unit != "seed" and one.rests_on and values.size:
        why = one.rests_on
    elif known.method.deterministic and values.size:
        why = "deterministic method: one seed, no spread"
    else:
        bounds = t_interval(values, noun="seed")
        why = bounds.reason
        if unit != "seed" and not np.isnan(bounds.low):
            flags.add("seeds-only")
    row = {
        **one.key._asdict(), "unit": unit, "mean": float(values.mean()) if values.size else np.nan,
        "std": float(values.std(ddof=1)) if values.size > 1 else np.nan,
        "ci_low": bounds.low, "ci_high": bounds.high, "n_cases": one.n_cases, "n_seeds": len(one.used_seeds),
        "n_patients": len(one.by_patient) if one.unit == "patient" else None, "n_undefined": one.n_undefined,
        "oracle_gap": _oracle_gap(one, oracle, unit), "profile": known.profile,
        "reason": "; ".join(filter(None, [one.reason, why if values.size else ""])),
    }  # fmt: skip
    return _Row(row, flags, one, known)


def _oracle_gap(one: Scores, oracle: Scores | None, unit: str) -> float:
    """Return oracle Dice − this protocol's Dice, over the patients (or seeds) that both have."""
    protocol = PROTOCOLS.get(one.key.protocol)
    if oracle is None or one.key.metric != "dice" or protocol is None or not protocol.has_gap:
        return np.nan
    if one.unit != "patient" and protocol.post_processes:
        return np.nan  # no oracle bounds a pooled value of post-processed maps
    if unit == "patient":
        return _mean_gap(oracle.by_patient, one.by_patient)
    common = one.complete & oracle.complete
    return _mean_gap(oracle.by_seed(common), one.by_seed(common))


def _mean_gap(best: Mapping[Any, float], mine: Mapping[Any, float]) -> float:
    gaps = [value - mine[name] for name, value in best.items() if name in mine]
    return float(np.mean(gaps)) if gaps else np.nan


def _mark(group: Sequence[_Row]) -> None:
    """Add the flags of unequal sets, which need the other methods."""
    size = max(row.size for row in group)
    seeds = max((row.values["n_seeds"] for row in group if not row.facts.method.deterministic), default=0)
    for row in group:
        n_seeds = row.values["n_seeds"]
        if row.size < size:
            row.flags.add("unequal-n")
        if row.scores.ragged or (not row.facts.method.deterministic and n_seeds < seeds):
            row.flags.add("missing-seeds")
        if row.facts.few_seeds(n_seeds):
            row.flags.add("few-seeds")
