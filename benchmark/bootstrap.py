"""Hierarchical bootstrap over seeds and patients.

Seeds and patients are crossed: every seed sees the same patients. A replicate therefore draws the seeds once and the
patients once, both with replacement, and applies the two draws to the whole seed × patient matrix; drawing new patients
within each seed would understate the spread between patients.
"""

from functools import lru_cache

import numpy as np

from ..common.seeds import derive
from .statistics import LEVEL, MIN_FOR_INTERVAL, FloatArray, Interval, too_few

REPLICATES = 2000


def bootstrap_mean(values: FloatArray, *, level: float = LEVEL, replicates: int = REPLICATES) -> Interval:
    """Return the percentile interval of the mean over patients of their means over seeds.

    Args:
        values: shape (seeds, patients), NaN where undefined.
    """
    values = values[:, ~np.isnan(values).all(axis=0)]
    patients = values.shape[1]
    if patients < MIN_FOR_INTERVAL:
        return Interval(np.nan, np.nan, too_few(patients, "patient"))
    means = _replicates(
        values, _counts(values.shape[0], replicates, "seeds"), _counts(patients, replicates, "patients")
    )
    return _percentiles(means, level)


def bootstrap_difference(
    method: FloatArray, reference: FloatArray, *, level: float = LEVEL, replicates: int = REPLICATES
) -> Interval:
    """Return the percentile interval of the mean paired difference ``method − reference``.

    Patients are drawn once for both; seeds are drawn apart, because the seeds of two methods have nothing in common.

    Args:
        method: shape (seeds, patients), NaN where undefined.
        reference: shape (seeds of the reference, the same patients).
    """
    both = ~(np.isnan(method).all(axis=0) | np.isnan(reference).all(axis=0))
    patients = int(both.sum())
    if patients < MIN_FOR_INTERVAL:
        return Interval(np.nan, np.nan, too_few(patients, "patient"))
    drawn = _counts(patients, replicates, "patients")
    first = _replicates(method[:, both], _counts(method.shape[0], replicates, "seeds"), drawn)
    second = _replicates(reference[:, both], _counts(reference.shape[0], replicates, "seeds-of-reference"), drawn)
    return _percentiles(first - second, level)


def _replicates(values: FloatArray, seeds: FloatArray, patients: FloatArray) -> FloatArray:
    """Return one mean per replicate; ``seeds`` and ``patients`` hold how often each was drawn."""
    known = ~np.isnan(values)
    if known.all():
        per_patient = seeds @ values / seeds.sum(axis=1, keepdims=True)
        return (per_patient * patients).sum(axis=1) / patients.sum(axis=1)
    total, weight = seeds @ np.where(known, values, 0.0), seeds @ known.astype(np.float64)
    usable = weight > 0
    per_patient = np.divide(total, weight, out=np.zeros_like(total), where=usable)
    drawn = patients * usable
    size = drawn.sum(axis=1)
    return np.divide((per_patient * drawn).sum(axis=1), size, out=np.full(size.shape, np.nan), where=size > 0)


def _percentiles(means: FloatArray, level: float) -> Interval:
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(means, [tail, 100 - tail])
    return Interval(float(low), float(high))


@lru_cache(maxsize=64)
def _counts(n: int, replicates: int, purpose: str) -> FloatArray:
    """Draw ``n`` of ``n`` with replacement; every table row uses the same draws."""
    rng = np.random.default_rng(derive(0, "bootstrap", purpose, n))
    counts = rng.multinomial(n, np.full(n, 1 / n), size=replicates).astype(np.float64)
    counts.flags.writeable = False
    return counts
