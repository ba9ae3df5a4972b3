"""Paired tests, effect sizes, intervals and ranks over patients or seeds; SciPy does the tests.

Arrays may hold NaN for undefined values: pairs with one are dropped, and ``n`` says how many remain.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from ..common.seeds import derive

MIN_PAIRS = 2
MIN_FOR_INTERVAL = 3
LEVEL = 0.95
ALPHA = 0.05
REPLICATES = 2000
POWER = 0.8
TOGETHER = 64
MOST_TIED = 13

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Bounds of a two-sided interval; NaN with the reason where there are too few values."""

    low: float
    high: float
    reason: str = ""


@dataclass(frozen=True)
class PairedTest:
    """Differences ``method − reference`` over ``n`` pairs (patients or seeds) with both values defined.

    ``n_zero`` of them do not differ. p values are two-sided and not corrected; ``ci_low`` and ``ci_high`` bound the
    95 % t-interval of the mean difference; ``d_z`` is Cohen's, that mean over the standard deviation of the
    differences. A paired t-test finds a true mean difference of ``detectable`` with power 0.8 at α = 0.05, given ``n``
    and the spread seen. ``reason`` says why a number is missing.
    """

    n: int
    n_zero: int = 0
    mean_diff: float = np.nan
    t: float = np.nan
    p_t: float = np.nan
    p_wilcoxon: float = np.nan
    d_z: float = np.nan
    ci_low: float = np.nan
    ci_high: float = np.nan
    detectable: float = np.nan
    reason: str = ""


def paired_test(method: ArrayLike, reference: ArrayLike, *, noun: str = "patient") -> PairedTest:
    """Compare two aligned vectors by the paired t-test and the Wilcoxon signed-rank test, two-sided.

    Wilcoxon drops pairs without a difference (SciPy's ``zero_method="wilcox"``). Where no pair differs both tests give
    p = 1; where every pair differs by the same amount the t-test is undefined and the reason says so. ``noun`` is what
    a pair is, for the reasons.
    """
    difference = np.asarray(method, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    return paired_tests([difference], [noun])[0]


def paired_tests(differences: Sequence[FloatArray], nouns: Sequence[str]) -> list[PairedTest]:
    """Return what :func:`paired_test` says of every vector of differences; those of one length are tested together."""
    # Means over seeds carry rounding noise, which would turn equal differences and zeros into ranks.
    clean = [np.round(difference[~np.isnan(difference)], 12) for difference in differences]
    signed_rank, student = _signed_rank([d[d != 0] for d in clean]), _student(clean)
    return [
        _told(difference, noun, float(p), t)
        for difference, noun, p, t in zip(clean, nouns, signed_rank, student, strict=True)
    ]


def _told(difference: FloatArray, noun: str, p_wilcoxon: float, student: tuple[float, float] | None) -> PairedTest:
    n = int(difference.size)
    if n == 0:
        return PairedTest(n=0, reason=f"no {noun} with both values defined")
    mean = float(difference.mean())
    if n < MIN_PAIRS:
        return PairedTest(n=n, mean_diff=mean, reason=f"{n} {noun}: a paired test needs {MIN_PAIRS}")
    n_zero = int(np.count_nonzero(difference == 0))
    if n_zero == n:
        return PairedTest(n, n_zero, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, f"no {noun} differs")
    if student is None:
        reason = f"every {noun} differs by the same amount: no spread for a t-test"
        return PairedTest(n=n, n_zero=n_zero, mean_diff=mean, p_wilcoxon=p_wilcoxon, reason=reason)
    sd, interval = float(difference.std(ddof=1)), t_interval(difference, noun=noun)
    return PairedTest(
        n=n,
        n_zero=n_zero,
        mean_diff=mean,
        t=student[0],
        p_t=student[1],
        p_wilcoxon=p_wilcoxon,
        d_z=mean / sd,
        ci_low=interval.low,
        ci_high=interval.high,
        detectable=detectable_effect(n) * sd,
        reason=interval.reason,
    )


def _signed_rank(differences: Sequence[FloatArray]) -> FloatArray:
    """Return Wilcoxon's p of vectors without zeros; NaN of empty ones.

    Exact without ties up to 50 pairs, and with ties up to 13; there SciPy would try all signs one by one.
    """
    p = np.full(len(differences), np.nan)

    def kind(vector: FloatArray) -> tuple[int, bool]:
        return vector.size, np.unique(np.abs(vector)).size < vector.size

    for index, rows in _together(differences, kind):
        n = rows.shape[1]
        if n and n <= MOST_TIED and kind(rows[0])[1]:
            p[index] = _tied_signed_rank(rows)
        elif n:
            p[index] = np.asarray(stats.wilcoxon(rows, axis=1))[1]
    return p


def _tied_signed_rank(rows: FloatArray) -> FloatArray:
    """Return the exact p of rows of differences, from the rank sums of all signs that they could have."""
    n = rows.shape[1]
    ranks = stats.rankdata(np.abs(rows), axis=1)
    signs = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    possible, seen = signs @ ranks.T, np.where(rows > 0, ranks, 0.0).sum(axis=1)
    tails = (possible <= seen + 1e-9).mean(axis=0), (possible >= seen - 1e-9).mean(axis=0)
    return np.minimum(2 * np.minimum(*tails), 1.0)


def least_signed_rank(differing: ArrayLike) -> FloatArray:
    """Return the least p that Wilcoxon's two-sided test has with these numbers of pairs that differ: all signs alike.

    >>> least_signed_rank([0, 1, 6]).tolist()
    [1.0, 1.0, 0.03125]
    """
    return 2.0 ** (1 - np.maximum(np.asarray(differing, dtype=np.float64), 1))


def _student(differences: Sequence[FloatArray]) -> list[tuple[float, float] | None]:
    """Return t and p of every vector that has a spread."""
    found: list[tuple[float, float] | None] = [None] * len(differences)
    for index, rows in _together(differences, len):
        if rows.shape[1] < MIN_PAIRS:
            continue
        spread = rows.std(axis=1, ddof=1) > 1e-12 * np.abs(rows.mean(axis=1))
        if spread.any():
            test = stats.ttest_rel(rows[spread], np.zeros_like(rows[spread]), axis=1)
            for i, t, p in zip(index[spread], test.statistic, test.pvalue, strict=True):
                found[i] = float(t), float(p)
    return found


def _together(
    vectors: Sequence[FloatArray], kind: Callable[[FloatArray], object]
) -> Iterator[tuple[NDArray[np.intp], FloatArray]]:
    """Yield the vectors of each kind as rows, at most ``TOGETHER`` at once, with their places."""
    groups: dict[object, list[int]] = defaultdict(list)
    for place, vector in enumerate(vectors):
        groups[kind(vector)].append(place)
    for places in groups.values():
        for first in range(0, len(places), TOGETHER):
            part = places[first : first + TOGETHER]
            yield np.array(part), np.stack([vectors[place] for place in part])


def t_interval(values: ArrayLike, *, noun: str = "patient") -> Interval:
    """Return Student's 95 % interval of the mean of ``values``; undefined below three values."""
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    if array.size < MIN_FOR_INTERVAL:
        return _too_few(array.size, noun)
    half = quantile(array.size - 1) * float(array.std(ddof=1)) / np.sqrt(array.size)
    mean = float(array.mean())
    return Interval(mean - half, mean + half)


@lru_cache(maxsize=1024)
def quantile(freedom: float) -> float:
    """Return Student's quantile of a two-sided 95 % interval."""
    return float(stats.t.ppf(0.5 + LEVEL / 2, freedom))


def _too_few(n: int, noun: str) -> Interval:
    return Interval(np.nan, np.nan, f"{n} {noun}{'' if n == 1 else 's'}: an interval needs {MIN_FOR_INTERVAL}")


def bootstrap_mean(values: FloatArray, *, replicates: int = REPLICATES) -> Interval:
    """Return the 95 % percentile interval of the mean over patients of their means over seeds (seeds, patients)."""
    return bootstrap_difference(values, np.zeros((1, values.shape[1])), replicates=replicates)


def bootstrap_difference(method: FloatArray, reference: FloatArray, *, replicates: int = REPLICATES) -> Interval:
    """Return the 95 % percentile interval of the mean paired difference ``method − reference``.

    Both are (seeds, patients) over the same patients, NaN where undefined. Seeds and patients are crossed: every seed
    sees the same patients. A replicate therefore draws the seeds once and the patients once, both with replacement, and
    applies the two draws to the whole matrix; drawing new patients within each seed would understate the spread between
    patients. Patients are drawn once for both methods, seeds apart, because those of two have nothing in common.
    """
    both = ~(np.isnan(method).all(axis=0) | np.isnan(reference).all(axis=0))
    patients = int(both.sum())
    if patients < MIN_FOR_INTERVAL:
        return _too_few(patients, "patient")
    first, second = (
        _replicates(np.asarray(values[:, both], np.float64).tobytes(), patients, replicates, whose)
        for values, whose in ((method, "seeds"), (reference, "seeds-of-reference"))
    )
    differences = first - second
    percentile = np.nanpercentile if np.isnan(differences).any() else np.percentile
    low, high = percentile(differences, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(low), float(high))


def replicate_means(values: FloatArray, whose: str) -> FloatArray:
    """Return the mean of every replicate of a (seeds, patients) matrix; ``whose`` names the draws of its seeds."""
    return _replicates(np.asarray(values, np.float64).tobytes(), values.shape[1], REPLICATES, whose)


@lru_cache(maxsize=256)
def _replicates(data: bytes, n_patients: int, replicates: int, whose: str) -> FloatArray:
    """Return one mean per replicate of a matrix (seeds, patients) of float64, which is compared with many others."""
    values = np.frombuffer(data).reshape(-1, n_patients)
    seeds, patients = drawn(len(values), whose, replicates), drawn(n_patients, "patients", replicates)
    known = ~np.isnan(values)
    total = seeds @ np.where(known, values, 0.0)
    weight = np.full_like(total, len(values)) if known.all() else seeds @ known.astype(np.float64)
    usable = weight > 0
    per_patient = np.divide(total, weight, out=np.zeros_like(total), where=usable)
    counts = patients * usable
    size = counts.sum(axis=1)
    return np.divide((per_patient * counts).sum(axis=1), size, out=np.full(size.shape, np.nan), where=size > 0)


def drawn(n: int, purpose: str, replicates: int = REPLICATES) -> FloatArray:
    """Draw ``n`` of ``n`` with replacement: how often each, (replicates, n); every table row uses the same draws."""
    return _drawn(n, purpose, replicates).astype(np.float64)


@lru_cache(maxsize=256)
def _drawn(n: int, purpose: str, replicates: int) -> np.ndarray:
    """Return the counts in the smallest type that holds them: a sweep has a thousand seeds of a hundred methods."""
    rng = np.random.default_rng(derive(0, "bootstrap", purpose, n))
    counts = rng.multinomial(n, np.full(n, 1 / n), size=replicates)
    return counts.astype(np.min_scalar_type(counts.max()))


def holm(p_values: ArrayLike) -> FloatArray:
    """Return Holm's step-down adjusted p values; NaN stays NaN and does not count as a comparison."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def detectable_effect(n: int) -> float:
    """Return the smallest d_z that a two-sided paired t-test on ``n`` pairs finds with power 0.8 at α = 0.05.

    NaN below two pairs.
    """
    return detectable_shift(n - 1) / float(np.sqrt(n)) if n >= MIN_PAIRS else float("nan")


@lru_cache(maxsize=4096)
def detectable_shift(freedom: float) -> float:
    """Return how many standard errors a two-sided t-test finds with power 0.8 at α = 0.05.

    Solved from the non-central distribution of t².
    """
    # t² is a non-central F: both tails in one call, where SciPy's non-central t is NaN in the far one.
    critical = float(stats.f.ppf(1 - ALPHA, 1, freedom))

    def shortfall(shift: float) -> float:
        return float(stats.ncf.sf(critical, 1, freedom, shift * shift)) - POWER

    return cast(float, optimize.brentq(shortfall, 1e-6, 1.5 * np.sqrt(critical) + 3, xtol=1e-10))


@dataclass(frozen=True)
class Ranking:
    """Average ranks of methods, the best (1) first, over the ``n`` patients on which every method has a value.

    Friedman's test needs three methods. Ranks closer than the critical difference do not differ (Nemenyi, α = 0.05);
    ``groups`` are the largest sets of methods within it, as index pairs (first, last).
    """

    ranks: pd.Series
    n: int
    n_dropped: int
    p_friedman: float
    critical_difference: float
    groups: tuple[tuple[int, int], ...]
    reason: str = ""


def rank_methods(values: pd.DataFrame, *, lower_is_better: bool = False) -> Ranking:
    """Rank methods within patients (Demšar 2006): Friedman test, average ranks and Nemenyi's critical difference.

    ``values`` has one row per patient and one column per method, already averaged over seeds.
    """
    complete = values.dropna(axis=0).sort_index(axis=1)
    n, k = complete.shape
    dropped = len(values) - n
    if n == 0 or k == 0:
        empty = pd.Series(dtype=np.float64)
        return Ranking(empty, n, dropped, np.nan, np.nan, (), "no patient on which every method has a value")
    ranks = complete.rank(axis=1, ascending=lower_is_better, method="average").mean(axis=0)
    ranks = ranks.sort_values(kind="stable")
    if n < MIN_PAIRS or k < 2:
        what = f"{n} patient(s), {k} method(s)"
        return Ranking(ranks, n, dropped, np.nan, np.nan, (), f"{what}: a critical difference needs two of each")
    p_friedman = np.nan
    if k >= 3:
        varies = bool((complete.nunique(axis=1) > 1).any())
        p_friedman = float(stats.friedmanchisquare(*complete.to_numpy().T).pvalue) if varies else 1.0
    difference = critical_difference(k, n)
    return Ranking(ranks, n, dropped, p_friedman, difference, rank_groups(ranks.to_numpy(), difference))


def critical_difference(methods: int, patients: int) -> float:
    """Return Nemenyi's critical difference of average ranks at α = 0.05."""
    q = float(stats.studentized_range.ppf(1 - ALPHA, methods, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * patients)))


def rank_groups(ranks: Sequence[float] | FloatArray, difference: float) -> tuple[tuple[int, int], ...]:
    """Return the maximal runs (first, last) of sorted ``ranks`` that span at most ``difference``, two methods or more.

    >>> rank_groups([1.0, 1.5, 2.6, 4.0], 1.2)
    ((0, 1), (1, 2))
    """
    groups: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(i for i in range(first, len(ranks)) if ranks[i] - ranks[first] <= difference)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return tuple(groups)
