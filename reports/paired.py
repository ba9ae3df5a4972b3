"""Paired tests of every method against the references fixed beforehand."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..benchmark import equivalence, statistics
from ..benchmark.crossed import NO_SPREAD, Crossed, SeedSpread, against_all, crossed_tests
from ..benchmark.runs.records import Record
from ..benchmark.scores import Scores
from ..benchmark.scoring.metrics import METRICS, decides, sign
from ..benchmark.statistics import ALPHA, FloatArray, Interval, bootstrap_difference, holm, least_signed_rank
from .columns import GROUP, KINDS, ORDER, PAIRED_TESTS, Facts, MethodOnData, flag_text, kind_marks, sort_rows
from .trivial import BEST_TRIVIAL, BestTrivial, Group, paired_difference

SECOND_REFERENCE = "draem"
FAMILY = [*GROUP, "reference"]


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
    scores: Sequence[Scores],
    facts: Mapping[MethodOnData, Facts],
    references_of: Mapping[str, Sequence[str]],
    baselines: Mapping[Group, BestTrivial] | None = None,
) -> pd.DataFrame:
    """Return one row per method, reference, data, protocol, metric and unit.

    Unit ``patient`` pairs patients (values averaged over seeds); ``seed`` pairs the means of seeds with the same number
    over the patients common to both, as the liver paper does; ``pooled`` and ``slice`` pair pooled values by seed. A
    deterministic method has the same value at every seed. The crossed test is the main one: it takes patients and seeds
    as random, of pooled values by their pseudo-values. Holm's correction runs over the methods of one data set, train
    set, protocol, metric, unit and reference, over the supervised top lines apart, so that running one changes no other
    method's p. ``references_of`` holds the references of each data set; methods that learn are also compared with the
    best trivial one of ``baselines``.
    """
    groups: dict[Group, dict[str, Scores]] = defaultdict(dict)
    for one in scores:
        if sign(one.key.metric):
            groups[(*one.key[1:], one.unit)][one.key.method] = one
    pairs: list[_Pair] = []
    for group, by_method in groups.items():
        against = [
            (by_method[r], _facts_of(by_method[r], facts)) for r in references_of.get(group[0], ()) if r in by_method
        ]
        best = (baselines or {}).get(group)
        against += [] if best is None else [(best.scores, best.facts)]
        for base, base_facts in against:
            for method, one in by_method.items():
                known = _facts_of(one, facts), base_facts
                if method == base.key.method or known[0].method.region != known[1].method.region:
                    continue
                if base.key.method == BEST_TRIVIAL and known[0].method.trivial:
                    continue
                for tested in ("patient", "seed") if one.unit == "patient" else (one.unit,):
                    pair = _paired(one, base, tested, known)
                    if best is not None and base is best.scores and tested != "seed" and one.sample is not None:
                        own, others = one.sample, best.samples.values()
                        rivals = tuple((paired_difference(own, other), other.spread) for other in others)
                        pair = pair._replace(rivals=rivals)
                    pairs.append(pair)
    return _tested(pairs)


def _facts_of(one: Scores, facts: Mapping[MethodOnData, Facts]) -> Facts:
    return facts[MethodOnData(*one.key[:3])]


class _Pair(NamedTuple):
    """Two methods: the differences of their values, what each of those is of, and the columns that no test fills.

    ``crossed`` are differences of patients, with the seeds' spread of both; empty where nothing is known of patients.
    ``rivals`` are differences to every baseline, with its spread, where the reference is the best trivial one.
    """

    difference: FloatArray
    noun: str
    row: dict[str, object]
    flags: set[str]
    crossed: FloatArray
    spreads: tuple[SeedSpread, SeedSpread]
    rivals: tuple[tuple[FloatArray, SeedSpread], ...] = ()


def _paired(one: Scores, base: Scores, unit: str, known: tuple[Facts, Facts]) -> _Pair:
    mine: Mapping[Any, float]
    theirs: Mapping[Any, float]
    crossed, spreads = np.empty(0), (NO_SPREAD, NO_SPREAD)
    if unit != "seed" and one.sample is not None and base.sample is not None:
        crossed, spreads = paired_difference(one.sample, base.sample), (one.sample.spread, base.sample.spread)
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
    if any(facts.few_seeds(len(s.used_seeds)) for s, facts in zip((one, base), known, strict=True)):
        flags.add("few-seeds")
    row = {
        **one.key._asdict(), "unit": unit, "reference": base.key.method, "boot_low": boot.low,
        "boot_high": boot.high,
    }  # fmt: skip
    difference = np.array([mine[p] - theirs[p] for p in sorted(mine.keys() & theirs.keys())], dtype=np.float64)
    return _Pair(difference, noun, row, flags - {"trivial"}, crossed, spreads)


def _by_seed(one: Scores, base: Scores, known: tuple[Facts, Facts]) -> tuple[dict, dict]:
    """Return the values of both per seed; a deterministic method's single value holds for every seed of the other."""
    common = one.complete & base.complete
    mine, theirs = one.by_seed(common), base.by_seed(common)
    if known[1].method.deterministic and len(theirs) == 1:
        theirs = dict.fromkeys(mine, *theirs.values())
    elif known[0].method.deterministic and len(mine) == 1:
        mine = dict.fromkeys(theirs, *mine.values())
    return mine, theirs


def _tested(pairs: Sequence[_Pair]) -> pd.DataFrame:
    tests = statistics.paired_tests([pair.difference for pair in pairs], [pair.noun for pair in pairs])
    frame = pd.DataFrame(
        [pair.row | vars(test) for pair, test in zip(pairs, tests, strict=True)], columns=PAIRED_TESTS
    ).astype({"n": "Int64", "n_zero": "Int64"})
    crossed = _crossed(pairs)
    frame["p_crossed"], frame["df_crossed"] = crossed.p, crossed.freedom
    frame["crossed_low"], frame["crossed_high"] = crossed.low, crossed.high
    frame["p_false_claim"] = crossed.p / 2
    frame["detectable_crossed"] = [
        error * statistics.detectable_shift(round(freedom, 1)) if freedom >= 1 else np.nan
        for error, freedom in zip(crossed.error, crossed.freedom, strict=True)
    ]
    names = list(equivalence.Equivalence._fields)
    shares = [p.crossed if _is_share(p.row) else np.empty(0) for p in pairs]
    frame[[f"p_{name}" for name in names]] = np.array(equivalence.signed_rank(shares)).reshape(-1, len(names))
    kinds = pd.Series([kind_marks(p.flags) for p in pairs], dtype=object)
    family = [*(frame[key] for key in FAMILY), kinds]
    for raw, corrected in (("p_t", "p_holm"), ("p_wilcoxon", "p_holm_wilcoxon"), ("p_crossed", "p_holm_crossed")):
        frame[raw] = frame[raw].astype(np.float64)
        frame[corrected] = frame.groupby(family, sort=False)[raw].transform(lambda p: holm(p.to_numpy()))
    sizes = frame.groupby(family, sort=False)[["p_crossed", "p_t"]].transform("count")
    frame["n_family"] = sizes["p_crossed"].where(sizes["p_crossed"] > 0, sizes["p_t"])
    least = pd.Series(least_signed_rank(frame["n"] - frame["n_zero"]), frame.index).where(frame["p_wilcoxon"].notna())
    # No p after Holm falls when another p rises: each is lowest where all are.
    frame["least_p_holm_wilcoxon"] = least.groupby(family, sort=False).transform(lambda p: holm(p.to_numpy()))
    mute = frame["least_p_holm_wilcoxon"] > ALPHA
    frame["flags"] = [
        flag_text(pair.flags | ({"wilcoxon-mute"} if never else set())) for pair, never in zip(pairs, mute, strict=True)
    ]
    return sort_rows(frame, ORDER["paired_tests"])


def _crossed(pairs: Sequence[_Pair]) -> Crossed:
    found = crossed_tests([p.crossed for p in pairs], *([p.spreads[i] for p in pairs] for i in range(2)))
    places = [i for i, pair in enumerate(pairs) if pair.rivals]
    beating = against_all(
        [[difference for difference, _ in pairs[i].rivals] for i in places],
        [pairs[i].spreads[0] for i in places],
        [[spread for _, spread in pairs[i].rivals] for i in places],
        [sign(str(pairs[i].row["metric"])) for i in places],
    )
    for column, those in zip(found, beating, strict=True):
        column[places] = those
    return found


def _is_share(row: Mapping[str, object]) -> bool:
    """Tell whether values are shares of patients, of which a point more or less can be practically the same."""
    metric = str(row["metric"])
    return row["unit"] == "patient" and decides(metric) and METRICS[metric].unit == "share"
