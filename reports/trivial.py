"""What a method that learns has to beat: the best trivial baseline, chosen on other patients than it is compared on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..benchmark.crossed import against_all
from ..benchmark.runs.records import MethodInfo
from ..benchmark.scores import Sample, Scores
from ..benchmark.scoring.metrics import decides, sign
from ..benchmark.statistics import ALPHA, FloatArray, holm
from .columns import Facts, MethodOnData, kind_marks

BEST_TRIVIAL = "best-trivial"
"""Stands for the baseline in the column ``reference``."""
CONFOUND = "roi-area"
Group = tuple[str, ...]
"""Data set, train set, protocol, metric and unit."""


class BestTrivial(NamedTuple):
    """The best trivial baseline of a group.

    ``scores`` and their ``sample`` hold the value of the baseline that is best on all other patients, patient by
    patient; ``chosen`` is the baseline that this is for most of them. ``samples`` are those of all baselines.
    """

    scores: Scores
    sample: Sample
    samples: Mapping[str, Sample]
    chosen: str

    @property
    def facts(self) -> Facts:
        return Facts(
            MethodInfo(
                name=BEST_TRIVIAL, title="Best trivial baseline", family="trivial", supervision="none", uses="healthy",
                deterministic=len(self.scores.seeds) == 1, trivial=True,
            ),
            "",
            frozenset(),
        )  # fmt: skip


def group_of(one: Scores) -> Group:
    """Return what scores are compared within."""
    return (*one.key[1:], one.unit)


def best_trivials(scores: Sequence[Scores], facts: Mapping[MethodOnData, Facts]) -> dict[Group, BestTrivial]:
    """Return the best trivial baseline of every group whose metric decides anything and that can be cross-fitted.

    Nothing that is measured in whole slices takes part.
    """
    groups: dict[Group, dict[str, Scores]] = defaultdict(dict)
    for one in scores:
        method = facts[MethodOnData(*one.key[:3])].method
        if decides(one.key.metric) and method.trivial and method.region == "roi" and one.sample is not None:
            groups[group_of(one)][one.key.method] = one
    found = {group: cross_fitted(baselines) for group, baselines in groups.items()}
    return {group: best for group, best in found.items() if best is not None}


def cross_fitted(baselines: Mapping[str, Scores]) -> BestTrivial | None:
    """Return the best of the baselines of one group; None where no patient has another one to choose by."""
    samples = {name: one.sample for name, one in sorted(baselines.items()) if one.sample is not None}
    better = sign(next(iter(baselines.values())).key.metric)
    patients = sorted(set[str]().union(*(sample.by_patient for sample in samples.values())))
    chosen = {p: best for p in patients if (best := _best_without(p, samples, better)) is not None}
    if not chosen:
        return None
    names = sorted(chosen.values())
    often = max(dict.fromkeys(names), key=names.count)
    seeds = max(len(samples[name].values) for name in names)
    columns = [_column(samples[name], patient, seeds) for patient, name in chosen.items()]
    one, sample = baselines[often], Sample(tuple(chosen), np.stack(columns, axis=1))
    if one.unit == "patient":
        values, own = sample.values, sample.patients
    else:
        values, own = sample.values.mean(axis=1, keepdims=True), ("all",)
    key = one.key._replace(method=BEST_TRIVIAL)
    scores = Scores(key, one.unit, tuple(range(seeds)), own, values, one.n_cases, 0, "", sample)
    return BestTrivial(scores, sample, samples, often)


def _best_without(patient: str, samples: Mapping[str, Sample], better: int) -> str | None:
    """Return the baseline with the best mean over the other patients, of those with a value of this one."""
    means = {}
    for name, sample in samples.items():
        others = [value for other, value in sample.by_patient.items() if other != patient]
        if others and patient in sample.by_patient:
            means[name] = float(np.mean(others))
    return max(means, key=lambda name: better * means[name]) if means else None


def _column(sample: Sample, patient: str, seeds: int) -> FloatArray:
    """Return a patient's value for every seed; a baseline with fewer seeds has its mean at each."""
    values = sample.values[:, sample.patients.index(patient)]
    return values if len(values) == seeds else np.full(seeds, sample.by_patient[patient])


class Against(NamedTuple):
    """A method less the baseline that it beats least: mean difference, and p after Holm over the methods that learn."""

    difference: float
    p: float

    def beaten(self, better: int) -> bool:
        """Tell whether the method is shown to be better."""
        return bool(better * self.difference > 0 and self.p <= ALPHA)


def against(
    scores: Sequence[Scores], facts: Mapping[MethodOnData, Facts], baselines: Mapping[Group, Mapping[str, Sample]]
) -> dict[tuple[Group, str], Against]:
    """Return how every method that learns stands to all the baselines of its group."""
    compared: list[tuple[Scores, Sample, list[Sample], str]] = []
    for one in scores:
        known, base = facts[MethodOnData(*one.key[:3])], baselines.get(group_of(one))
        if base is not None and one.sample is not None and not known.method.trivial and known.method.region == "roi":
            compared.append((one, one.sample, list(base.values()), kind_marks(known.flags)))
    tests = against_all(
        [[paired_difference(mine, other) for other in base] for _, mine, base, _ in compared],
        [mine.spread for _, mine, _, _ in compared],
        [[other.spread for other in base] for _, _, base, _ in compared],
        [sign(one.key.metric) for one, *_ in compared],
    )
    families: dict[tuple[Group, str], list[int]] = defaultdict(list)
    for i, (one, *_, kind) in enumerate(compared):
        families[group_of(one), kind].append(i)
    corrected = np.full(len(compared), np.nan)
    for members in families.values():
        corrected[members] = holm(tests.p[members])
    return {
        (group_of(one), one.key.method): Against(float(mean), float(p))
        for (one, *_), mean, p in zip(compared, tests.mean, corrected, strict=True)
    }


def paired_difference(one: Sample, other: Sample) -> FloatArray:
    """Return the differences of the patients that both have, in the order of their names."""
    common = sorted(one.by_patient.keys() & other.by_patient.keys())
    return np.array([one.by_patient[p] - other.by_patient[p] for p in common], dtype=np.float64)
