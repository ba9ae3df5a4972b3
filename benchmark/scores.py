"""One seed × patient matrix per method, protocol and metric: what every table is computed from."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .crossed import SeedSpread, seed_spread
from .statistics import FloatArray


class ScoreKey(NamedTuple):
    """Which method, on which data, under which protocol, by which metric."""

    method: str
    dataset: str
    train: str
    protocol: str
    metric: str


@dataclass(frozen=True)
class Sample:
    """What patients are resampled by: ``values`` (seeds, patients), NaN where undefined, whose mean is the score."""

    patients: tuple[str, ...]
    values: FloatArray

    @cached_property
    def by_patient(self) -> dict[str, float]:
        """The mean over seeds of every patient with a defined value."""
        defined = ~np.isnan(self.values)
        counts = defined.sum(axis=0)
        totals = np.where(defined, self.values, 0.0).sum(axis=0)
        return {p: float(t / n) for p, t, n in zip(self.patients, totals, counts, strict=True) if n}

    @cached_property
    def spread(self) -> SeedSpread:
        return seed_spread(self.values)


@dataclass(frozen=True)
class Scores:
    """One metric of one method under one protocol: ``values`` (seeds, patients), NaN where undefined, and why.

    A patient's value is the mean over its defined cases. Where the scorer pooled before the metric, the ``unit`` is
    ``pooled`` or ``slice`` and not ``patient``, and there is one column; ``sample`` then holds the jackknife's
    pseudo-values of patients, None where the records lack them, or where patients are not to be left out, for which
    ``rests_on`` gives the reason. ``n_cases`` have a value in some seed (of pooled values: are in the cell),
    ``n_undefined`` in none.
    """

    key: ScoreKey
    unit: str
    seeds: tuple[int, ...]
    patients: tuple[str, ...]
    values: FloatArray
    n_cases: int
    n_undefined: int
    reason: str
    sample: Sample | None
    rests_on: str = ""

    @cached_property
    def defined(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.values)

    @cached_property
    def by_patient(self) -> dict[str, float]:
        """The mean over seeds of every patient with a defined value."""
        return Sample(self.patients, self.values).by_patient

    @property
    def mean(self) -> float:
        """The mean over patients of their means over seeds; NaN without a value."""
        return float(np.mean(list(self.by_patient.values()))) if self.by_patient else np.nan

    @cached_property
    def used_seeds(self) -> tuple[int, ...]:
        return tuple(self.seeds[i] for i in np.flatnonzero(self.defined.any(axis=1)))

    @cached_property
    def complete(self) -> frozenset[str]:
        used = self.defined[self.defined.any(axis=1)]
        return frozenset(p for i, p in enumerate(self.patients) if used.size and used[:, i].all())

    def by_seed(self, patients: frozenset[str] | None = None) -> dict[int, float]:
        """Return the mean over patients per seed; only complete patients count, so that every seed has the same."""
        chosen = self.complete if patients is None else patients & self.complete
        if not chosen:
            return {}
        columns = [i for i, p in enumerate(self.patients) if p in chosen]
        used = self.defined.any(axis=1)
        means = self.values[np.ix_(used, np.array(columns))].mean(axis=1)
        return dict(zip(self.used_seeds, means.tolist(), strict=True))

    @property
    def ragged(self) -> bool:
        """Some patient has a value in one seed and none in another."""
        return bool((self.defined.any(axis=0) & ~self.defined.all(axis=0)).any())
