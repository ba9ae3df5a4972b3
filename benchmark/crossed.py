"""Inference where seeds are random as well as patients: the crossed test, and intervals of means.

Every seed of a method sees the same patients, and the seeds of two methods have nothing in common: patients are crossed
with seeds, and seeds nested within methods. The variance of a mean difference has a part of the patients, one of each
method's seeds, and a residual; all are estimated from mean squares (Obuchowski and Rockette 1995; Hillis 2014, readers
nested within tests, for which seeds stand here), with Satterthwaite's degrees of freedom (Hillis 2007).
docs/statistics.md has the formulas and what they hold in simulation.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from .statistics import LEVEL, MIN_FOR_INTERVAL, MIN_PAIRS, FloatArray, drawn, quantile

POINTS = 4096
WIDEST = 2.0
"""No bound of a bootstrap-t interval lies farther than this many of Student's: with few values that are not 0, some
replicates have no spread at all."""


class SeedSpread(NamedTuple):
    """What the seeds of one method add to the variance of its mean, estimated from a (seeds, patients) matrix.

    ``between`` is the variance of the means of seeds over their number, ``residual`` the part of it that the seeds'
    disagreement about single patients explains; ``freedom`` and ``residual_freedom`` are degrees of freedom, 0 with a
    single seed.
    """

    between: float = 0.0
    residual: float = 0.0
    freedom: int = 0
    residual_freedom: int = 0


NO_SPREAD = SeedSpread()


def seed_spread(values: FloatArray) -> SeedSpread:
    """Return the spread of a (seeds, patients) matrix, NaN where undefined; patients that lack a seed are left out.

    With fewer than two seeds or patients nothing is known of it.
    """
    defined = ~np.isnan(values)
    used = values[defined.any(axis=1)]
    used = used[:, ~np.isnan(used).any(axis=0)]
    seeds, patients = used.shape
    if seeds < MIN_PAIRS or patients < MIN_PAIRS:
        return NO_SPREAD
    of_seeds = used.mean(axis=1)
    rest = used - of_seeds[:, None] - used.mean(axis=0) + used.mean()
    freedom = (seeds - 1) * (patients - 1)
    residual = float((rest**2).sum()) / freedom / seeds / patients
    return SeedSpread(float(of_seeds.var(ddof=1)) / seeds, residual, seeds - 1, freedom)


class Crossed(NamedTuple):
    """One entry per comparison: mean difference, its standard error, degrees of freedom, t, two-sided p, 95 % interval.

    NaN where undefined: one pair, or no spread of any kind.
    """

    mean: FloatArray
    error: FloatArray
    freedom: FloatArray
    t: FloatArray
    p: FloatArray
    low: FloatArray
    high: FloatArray


def crossed_tests(differences: Sequence[FloatArray], one: Sequence[SeedSpread], other: Sequence[SeedSpread]) -> Crossed:
    """Test differences per patient (each the mean over seeds), given what the seeds of both methods add.

    The part of the seeds is never taken as negative: where it is not positive, this is the paired t-test. A method with
    one seed adds nothing, which is right where it is deterministic and unknown where it is not.
    """
    clean = [np.round(d[~np.isnan(d)], 12) for d in differences]
    n = np.array([d.size for d in clean], dtype=np.float64)
    mean = np.array([d.mean() if d.size else np.nan for d in clean], dtype=np.float64)
    patients = np.array([d.var(ddof=1) / d.size if d.size >= MIN_PAIRS else np.nan for d in clean], dtype=np.float64)
    parts = [np.array(spreads, dtype=np.float64).reshape(-1, len(SeedSpread._fields)).T for spreads in (one, other)]
    seeds = sum((part[0] - part[1] for part in parts), np.zeros(len(clean)))
    squares = [(patients, n - 1), *((part[i], part[i + 2]) for part in parts for i in range(2))]
    variance = patients + np.maximum(seeds, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        unsure = sum(np.where(f > 0, square**2 / np.maximum(f, 1), 0.0) for square, f in squares)
        freedom = np.where(seeds > 0, variance**2 / unsure, n - 1)
        error = np.sqrt(variance)
        # Means over seeds carry rounding noise: less spread than that is none.
        usable = (n >= MIN_PAIRS) & (error > 1e-12 * np.abs(mean)) & (error > 0)
        same = (n >= MIN_PAIRS) & ~usable & (mean == 0)
        t = np.where(usable, mean / error, np.where(same, 0.0, np.nan))
        p = np.where(same, 1.0, 2 * stats.t.sf(np.abs(t), freedom))
        half = np.where(same, 0.0, stats.t.ppf(0.5 + LEVEL / 2, freedom) * error)
    bounded = (usable | same) & (n >= MIN_FOR_INTERVAL)
    half = np.where(bounded, half, np.nan)
    freedom, error = np.where(usable, freedom, np.nan), np.where(usable | same, error, np.nan)
    return Crossed(mean, error, freedom, t, p, mean - half, mean + half)


def against_all(
    differences: Sequence[Sequence[FloatArray]],
    own: Sequence[SeedSpread],
    others: Sequence[Sequence[SeedSpread]],
    better: Sequence[int],
) -> Crossed:
    """Test whether methods beat every one of several others: an intersection-union test (Berger 1982).

    The p of a method is its largest, 1 where it does not gain, so that none of the others needs to be chosen.
    ``better`` is 1 where higher values are and −1 where lower ones are; bounds are those of the smallest gain.
    """
    flat = crossed_tests(
        [vector for vectors in differences for vector in vectors],
        [spread for spread, vectors in zip(own, differences, strict=True) for _ in vectors],
        [spread for spreads in others for spread in spreads],
    )
    found, first = [], 0
    for vectors, sign in zip(differences, better, strict=True):
        part = Crossed(*(column[first : first + len(vectors)] for column in flat))
        first += len(vectors)
        p = np.where((sign * part.mean <= 0) & ~np.isnan(part.p), 1.0, part.p)
        hardest = int(np.lexsort((sign * part.mean, -p))[0]) if not np.isnan(p).any() else int(np.isnan(p).argmax())
        low, high = (sign * np.min(sign * bound) for bound in (part.low, part.high))
        found.append((*(column[hardest] for column in part[:4]), p[hardest], low, high))
    return Crossed(*np.array(found, dtype=np.float64).reshape(-1, len(Crossed._fields)).T)


class MeanInterval(NamedTuple):
    """A 95 % interval of a mean over patients; NaN where undefined. ``skewed``: it covers less than it says."""

    low: float
    high: float
    skewed: bool = False


def mean_intervals(values: Sequence[FloatArray], spreads: Sequence[SeedSpread]) -> list[MeanInterval]:
    """Return bootstrap-t intervals of means over patients (each the mean over seeds) that hold for new seeds as well.

    The quantiles of t come from resampled patients, at most ``WIDEST`` times Student's; they are widened as Student's
    interval over patients is to :func:`generalised_half`.
    """
    found = crossed_tests(values, spreads, [NO_SPREAD] * len(values))
    return [
        _bootstrap_t(v[~np.isnan(v)], spread, *numbers)
        for v, spread, *numbers in zip(values, spreads, found.mean, found.freedom, found.high, strict=True)
    ]


def generalised_half(patients: float, freedom: int, spread: SeedSpread) -> float:
    """Return half of the generalised 95 % interval of a mean over patients and seeds (Weerahandi 1993).

    Every mean square in the variance of the mean is divided by what it may be of its expectation, χ²/f; the part of the
    seeds is never negative. Over all that they may be the interval holds 95 %. Satterthwaite's holds less where
    the mean hangs on a few seeds, whose mean square has two degrees of freedom.

    Args:
        patients: variance of the mean from patients, with ``freedom`` degrees of freedom.
        spread: of the seeds; without any the interval is Student's.
    """
    if not spread.freedom or not spread.between:
        return quantile(freedom) * float(np.sqrt(patients))
    of_patients, of_seeds, of_rest = _over_chi_square(freedom, spread.freedom, spread.residual_freedom)
    seeds = np.maximum(spread.between * of_seeds - spread.residual * of_rest, 0.0)
    error = np.sqrt(patients * of_patients + seeds)
    error = np.maximum(error, 1e-9 * error.max())

    def held(half: float) -> float:
        return float(np.mean(2 * special.ndtr(half / error) - 1))

    widest = float(special.ndtri(0.5 + LEVEL / 2) * error.max())
    return float(optimize.root_scalar(lambda half: held(half) - LEVEL, bracket=(0.0, widest), rtol=1e-6).root)


@lru_cache(maxsize=1024)
def _over_chi_square(*freedoms: int) -> FloatArray:
    """Return f / χ² for three degrees of freedom at once, (3, points): evenly spread in the cube of their quantiles."""
    steps = 1.2207440846 ** -np.arange(1.0, 4.0)  # the root of x⁴ = x + 1: the golden ratio of three dimensions
    at = (0.5 + np.outer(steps, np.arange(1, POINTS + 1))) % 1
    return np.stack([f / stats.chi2.ppf(u, f) for f, u in zip(freedoms, at, strict=True)])


def _bootstrap_t(values: FloatArray, seeds: SeedSpread, mean: float, freedom: float, high: float) -> MeanInterval:
    if np.isnan(high) or np.isnan(freedom):
        return MeanInterval(high, high)
    n = values.size
    centred = values - values.mean()
    moments = drawn(n, "patients") @ np.stack([centred, centred**2], axis=1) / n
    spread = np.maximum(moments[:, 1] - moments[:, 0] ** 2, 1e-9 * float(centred.var())) / (n - 1)
    student = quantile(n - 1)
    if not centred.any():
        bounds = np.array([-student, student])
    else:
        t = moments[:, 0] / np.sqrt(spread)
        bounds = np.clip(np.percentile(t, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]), -WIDEST * student, WIDEST * student)
    lower, upper = bounds / student * generalised_half(float(values.var(ddof=1)) / n, n - 1, seeds)
    return MeanInterval(mean - upper, mean - lower, is_skewed(values))


def is_skewed(values: FloatArray) -> bool:
    """Tell whether a sample is so skewed for its size that no interval of its mean covers what it says.

    The skewness G1 is beyond twice its standard error, and Cochran's rule (1977), n > 25 · G1², is broken.
    """
    n = values.size
    centred = values - values.mean()
    square = float(np.mean(centred**2))
    if n < MIN_FOR_INTERVAL or not np.ptp(values) > 0:
        return False
    skewness = float(np.mean(centred**3)) / square**1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    error = np.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    return bool(abs(skewness) > 2 * error and n <= 25 * skewness**2)
