"""Failed and missing cells: which there are, and what the tables count for them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from ..benchmark.runs.records import Failure, MethodInfo, Record
from ..benchmark.scores import Sample, ScoreKey, Scores
from ..benchmark.scoring.metrics import METRICS, sign
from ..benchmark.statistics import FloatArray
from .columns import Facts, MethodOnData
from .trivial import Group, group_of

Policy = Literal["exclude", "worst"]
"""``exclude`` leaves failed and missing cells out, ``worst`` counts the worst value of the metric for every patient."""
POLICY = "failures_count_as"
"""Field of ``run.json`` that keeps the policy of the tables in the folder, where it is not ``exclude``."""
Missing = Mapping[MethodOnData, tuple[int, ...]]


def policy_of(info: Mapping[str, Any]) -> Policy:
    """Return the policy that the tables of a run were written with."""
    return "worst" if info.get(POLICY) == "worst" else "exclude"


def missing_cells(records: Sequence[Record], failures: Sequence[Failure], info: Mapping[str, Any]) -> Missing:
    """Return the seeds of every method that were planned or failed and have no record."""
    recorded = {record.cell.slug for record in records}
    seeds: dict[MethodOnData, set[int]] = defaultdict(set)
    for failure in failures:
        if failure.cell.slug not in recorded:
            seeds[MethodOnData(failure.cell.method, failure.cell.dataset, failure.cell.train)].add(failure.cell.seed)
    labels = {cell.slug.rpartition("__s")[0]: MethodOnData(cell.method, cell.dataset, cell.train)
              for cell in (*(r.cell for r in records), *(f.cell for f in failures))}  # fmt: skip
    for slug in set(info.get("cells") or ()) - recorded:
        stem, _, seed = str(slug).rpartition("__s")
        parts = stem.rsplit("__", 2)
        if seed.isdecimal() and len(parts) == len(MethodOnData._fields):
            seeds[labels.get(stem, MethodOnData(*parts))].add(int(seed))
    return {where: tuple(sorted(found)) for where, found in sorted(seeds.items())}


def facts_of_missing(known: Mapping[MethodOnData, Facts], missing: Missing) -> dict[MethodOnData, Facts]:
    """Return the facts with the flag of methods that lack cells; of those without any record little is known."""
    found = dict(known)
    for where in missing:
        info = MethodInfo(
            name=where.method.partition("@")[0], title=where.method, family="", supervision="none", uses="healthy",
            deterministic=False, trivial=False,
        )  # fmt: skip
        kin = [facts for other, facts in known.items() if other[1:] == where[1:]]
        if where in known:
            own = known[where]
        elif kin:
            own = Facts(info, kin[0].profile, kin[0].flags & {"phantom", "planted", "smoke", "quick"})
        else:
            continue
        found[where] = own._replace(flags=own.flags | {"failed-cells"})
    return found


def told(missing: Missing, policy: Policy, dataset: str = "", train: str = "") -> str:
    """Say what a table does with the failed and missing cells of its data, of all without a name; empty without any."""
    own = [
        f"{where.method}{'' if dataset else f' on {where.dataset} after {where.train}'} "
        f"(seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))})"
        for where, seeds in missing.items() if not dataset or where[1:] == (dataset, train)
    ]  # fmt: skip
    if not own:
        return ""
    how = "are left out" if policy == "exclude" else "count as the worst value of the metric for every patient"
    return f"Failures: {policy}. Cells that failed or are missing {how}: {'; '.join(own)}."


class _Worst(NamedTuple):
    """The worst value of a group by patient, and the scores that it was read from."""

    values: dict[str, float]
    like: Scores


def with_worst(scores: Sequence[Scores], missing: Missing) -> list[Scores]:
    """Return the scores with the worst value in place of cells that have none.

    That is 0, or 1, for a share; for errors without a limit the largest of any method, patient by patient.
    """
    groups: dict[Group, list[Scores]] = defaultdict(list)
    for one in scores:
        groups[group_of(one)].append(one)
    filled: list[Scores] = []
    for group, members in groups.items():
        lacking = {where.method: seeds for where, seeds in missing.items() if where[1:] == group[:2]}
        worst = _worst(members)
        if worst is not None and lacking:
            have = {one.key.method: one for one in members}
            members = [_filled(have.get(m), m, seeds, worst) for m, seeds in lacking.items()] + [
                one for one in members if one.key.method not in lacking
            ]
        filled += members
    return sorted(filled, key=lambda one: (one.unit != "patient", one.key, one.unit))


def _worst(members: Sequence[Scores]) -> _Worst | None:
    better, metric = sign(members[0].key.metric), METRICS.get(members[0].key.metric)
    if not better or metric is None:
        return None
    like = max(members, key=lambda one: len(one.by_patient))
    by_patient: dict[str, list[float]] = defaultdict(list)
    for one in members:
        for patient, value in one.by_patient.items():
            by_patient[patient].append(value)
    limit = {(1, "share"): 0.0, (-1, "share"): 1.0}.get((better, metric.unit))
    worst = {p: limit if limit is not None else max(-better * v for v in vs) * -better for p, vs in by_patient.items()}
    return _Worst(worst, like)


def _filled(one: Scores | None, method: str, seeds: tuple[int, ...], worst: _Worst) -> Scores:
    like = worst.like if one is None else one
    key: ScoreKey = like.key._replace(method=method)
    known = np.array([worst.values.get(p, np.nan) if p in like.by_patient else np.nan for p in like.patients])
    rows = np.tile(known, (len(seeds), 1))
    order = np.argsort([*(() if one is None else one.seeds), *seeds], kind="stable")

    def joined(own: FloatArray | None, more: FloatArray) -> FloatArray:
        return more[order] if own is None else np.concatenate([own, more])[order]

    values = joined(None if one is None else one.values, rows)
    if like.unit == "patient":
        sample = Sample(like.patients, values)
    else:
        own = like.sample
        level = next(iter(worst.values.values()), np.nan)
        more = None if own is None else np.full((len(seeds), len(own.patients)), level)
        # Seeds without a value have no row in a sample of pseudo-values.
        sample = None if own is None or more is None else Sample(
            own.patients, more if one is None else np.concatenate([own.values, more])
        )  # fmt: skip
    every = tuple(sorted([*(() if one is None else one.seeds), *seeds]))
    return replace(like, key=key, seeds=every, values=values, sample=sample)
