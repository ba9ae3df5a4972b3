"""The table of ranks: who is first, how surely, and between which places a method could lie."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..benchmark.rank_stability import rank_stability
from ..benchmark.scores import Sample, Scores
from ..benchmark.scoring.metrics import decides, sign
from .columns import ORDER, RANKS, Facts, MethodOnData, flag_text, kind_marks, sort_rows
from .trivial import Group, group_of


def ranks(scores: Sequence[Scores], facts: Mapping[MethodOnData, Facts]) -> pd.DataFrame:
    """Return one row per competitor and group: its rank by the mean over the patients that all of them have.

    What carries a mark of :data:`.columns.KINDS`, such as a top line, takes part in no ranking.
    """
    groups: dict[Group, dict[str, Sample]] = defaultdict(dict)
    for one in sorted(scores, key=lambda one: one.key):
        competes = not kind_marks(facts[MethodOnData(*one.key[:3])].flags)
        if competes and decides(one.key.metric) and one.sample is not None and one.sample.by_patient:
            groups[group_of(one)][one.key.method] = one.sample
    rows = []
    for (dataset, train, protocol, metric, unit), samples in groups.items():
        where = {"dataset": dataset, "train": train, "protocol": protocol, "metric": metric, "unit": unit}
        common = sorted(set.intersection(*({*sample.by_patient} for sample in samples.values())))
        if not common:
            continue
        matrices = {name: _over(sample, common) for name, sample in samples.items()}
        found = rank_stability(matrices, sign(metric))
        for i, (method, matrix) in enumerate(matrices.items()):
            flags = facts[MethodOnData(method, dataset, train)].of_number(protocol, metric)
            rows.append({
                **where, "method": method, "n_patients": len(common), "n_methods": len(samples),
                "mean": float(matrix.mean()), "rank": found.rank[i], "rank_low": found.low[i],
                "rank_high": found.high[i], "p_rank1": found.first[i], "kendall_tau": found.kendall_tau,
                "flags": flag_text(flags),
            })  # fmt: skip
    return sort_rows(pd.DataFrame(rows, columns=RANKS), ORDER["ranks"])


def _over(sample: Sample, patients: Sequence[str]) -> np.ndarray:
    """Return the values of some patients, (seeds, patients); where a seed lacks one, the mean of its other seeds."""
    values = sample.values[:, [sample.patients.index(p) for p in patients]]
    values = values[~np.isnan(values).all(axis=1)]
    means = np.array([sample.by_patient[p] for p in patients])
    return np.where(np.isnan(values), means, values)
