"""How far a ranking can be trusted: all methods on resampled patients and seeds (after Wiesenfarth et al. 2021)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from .statistics import LEVEL, MIN_FOR_INTERVAL, FloatArray, replicate_means


class RankStability(NamedTuple):
    """One entry per method: rank by its mean (1 is best, ties share), interval of the rank, probability of rank 1.

    ``kendall_tau`` is the mean agreement of the rankings of replicates with that of all patients.
    """

    rank: FloatArray
    low: FloatArray
    high: FloatArray
    first: FloatArray
    kendall_tau: float


def rank_stability(values: Mapping[str, FloatArray], better: int) -> RankStability:
    """Rank methods by their (seeds, patients) matrices over the same patients, all defined.

    A replicate draws the patients once for all methods and the seeds of each method apart. Below three patients nothing
    but the rank is known. ``better`` is 1 where higher values are, −1 where lower ones are.
    """
    means = np.array([matrix.mean() for matrix in values.values()])
    rank = stats.rankdata(-better * np.round(means, 12))
    patients = next(iter(values.values())).shape[1]
    if patients < MIN_FOR_INTERVAL or len(values) < 2:
        unknown = np.full(len(values), np.nan)
        return RankStability(rank, unknown, unknown, unknown, np.nan)
    drawn = np.stack([replicate_means(matrix, f"seeds of {name}") for name, matrix in values.items()], axis=1)
    drawn = -better * np.round(drawn, 12)
    ranks = stats.rankdata(drawn, axis=1)
    best = drawn <= drawn.min(axis=1, keepdims=True)
    levels = 50 * (1 - LEVEL), 50 * (1 + LEVEL)
    low, high = (
        np.percentile(ranks, q, axis=0, method=how) for q, how in zip(levels, ("lower", "higher"), strict=True)
    )
    first = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return RankStability(rank, low, high, first, _agreement(ranks, rank))


def _agreement(ranks: FloatArray, rank: FloatArray) -> float:
    """Return the mean Kendall's tau of the rows of ``ranks`` with ``rank``, a method at a time: pairs are many."""
    total = 0.0
    for i in range(len(rank) - 1):
        total += float((np.sign(ranks[:, [i]] - ranks[:, i + 1 :]) * np.sign(rank[i] - rank[i + 1 :])).sum())
    return total / (len(ranks) * len(rank) * (len(rank) - 1) / 2)
