"""Paired tests of every method against the references fixed beforehand."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..benchmark import statistics
from ..benchmark.runs.records import Record
from ..benchmark.scores import Scores
from ..benchmark.scoring.metrics import sign
from ..benchmark.statistics import FloatArray, Interval, bootstrap_difference, holm
from .columns import KINDS, PAIRED_TESTS, Facts, MethodOnData, flag_set, flag_text, kind_marks, sort_rows

SECOND_REFERENCE = "draem"
FAMILY = ["dataset", "train", "protocol", "metric", "unit", "reference"]


def run_references(records: Sequence[Record], info: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the references of every data set: those its card names, then ``draem`` where it was run.

    ``run.json`` holds them as ``{"references": {dataset: method or methods}}``. A reference without a finished cell is
    still returned, so that a report can say that it is missing.
    """
    references: dict[str, list[str]] = {}
    for dataset, method in sorted({(r.cell.dataset, r.cell.method) for r in records}):
        named = (info.get("references") or {}).get(dataset)
        found = references.setdefault(dataset, [named] if isinstance(named, str) else list(named or []))
        if method == SECOND_REFERENCE and method not in found:
            found.append(method)
    return references


def paired_tests(
    scores: Sequence[Scores], facts: Mapping[MethodOnData, Facts], references_of: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Return one row per method, reference, data, protocol, metric and unit.

    Unit ``patient`` pairs patients (values averaged over seeds); ``seed`` pairs the means of seeds with the same number
    over the patients common to both, as the liver paper does; ``pooled`` and ``slice`` pair pooled values by seed. A
    deterministic method has the same value at every seed. Holm's correction runs over the methods of one data set,
    train set, protocol, metric, unit and reference, over the supervised top lines apart, so that running one changes no
    other method's p; ``p_holm`` corrects ``p_t``. The interval is Student's; ``boot_low`` and ``boot_high`` are the
    hierarchical bootstrap's. ``references_of`` holds the references of each data set.
    """
    groups: dict[tuple[str, ...], dict[str, Scores]] = defaultdict(dict)
    for one in scores:
        if sign(one.key.metric):
            groups[(*one.key[1:], one.unit)][one.key.method] = one
    pairs = []
    for (dataset, *_, unit), by_method in groups.items():
        for reference in references_of.get(dataset, ()):
            base = by_method.get(reference)
            if base is None:
                continue
            for method, one in by_method.items():
                known = facts[MethodOnData(*one.key[:3])], facts[MethodOnData(*base.key[:3])]
                if method != reference and known[0].method.region == known[1].method.region:
                    for tested in ("patient", "seed") if unit == "patient" else (unit,):
                        pairs.append(_paired(one, base, tested, known))
    tests = statistics.paired_tests([pair.difference for pair in pairs], [pair.noun for pair in pairs])
    rows = [pair.row | vars(test) for pair, test in zip(pairs, tests, strict=True)]
    frame = pd.DataFrame(rows, columns=PAIRED_TESTS).astype({"n": "Int64", "n_zero": "Int64"})
    family = [*(frame[key] for key in FAMILY), frame["flags"].map(lambda flags: kind_marks(flag_set(flags)))]
    for raw, corrected in (("p_t", "p_holm"), ("p_wilcoxon", "p_holm_wilcoxon")):
        frame[raw] = frame[raw].astype(np.float64)
        frame[corrected] = frame.groupby(family, sort=False)[raw].transform(lambda p: holm(p.to_numpy()))
    return sort_rows(frame, ["dataset", "train", "protocol", "metric", "unit", "reference", "method"])


class _Pair(NamedTuple):
    """Two methods: the differences of their values, what each of those is of, and the columns that no test fills."""

    difference: FloatArray
    noun: str
    row: dict[str, object]


def _paired(one: Scores, base: Scores, unit: str, known: tuple[Facts, Facts]) -> _Pair:
    mine: Mapping[Any, float]
    theirs: Mapping[Any, float]
    if unit == "patient":
        noun, mine, theirs = "patient", one.by_patient, base.by_patient
        common = [p for p in one.patients if p in set(base.patients)]
        boot = bootstrap_difference(*(s.values[:, [s.patients.index(p) for p in common]] for s in (one, base)))
    else:
        noun, boot = "seed", Interval(np.nan, np.nan)
        mine, theirs = _by_seed(one, base, known)
    flags = known[0].of_number(one.key.protocol, one.key.metric) | (known[1].flags - KINDS.keys())
    if mine.keys() != theirs.keys():
        flags.add("unequal-n")
    if one.ragged or base.ragged:
        flags.add("missing-seeds")
    row = {
        **one.key._asdict(), "unit": unit, "reference": base.key.method, "boot_low": boot.low,
        "boot_high": boot.high, "flags": flag_text(flags - {"trivial"}),
    }  # fmt: skip
    return _Pair(
        np.array([mine[p] - theirs[p] for p in sorted(mine.keys() & theirs.keys())], dtype=np.float64), noun, row
    )


def _by_seed(one: Scores, base: Scores, known: tuple[Facts, Facts]) -> tuple[dict, dict]:
    """Return the values of both per seed; a deterministic method's single value holds for every seed of the other."""
    common = one.complete & base.complete
    mine, theirs = one.by_seed(common), base.by_seed(common)
    if known[1].method.deterministic and len(theirs) == 1:
        theirs = dict.fromkeys(mine, *theirs.values())
    elif known[0].method.deterministic and len(mine) == 1:
        mine = dict.fromkeys(theirs, *mine.values())
    return mine, theirs
