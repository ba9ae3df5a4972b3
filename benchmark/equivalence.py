"""Are two methods practically the same? The Bayesian signed-rank test with a region of practical equivalence."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..common.seeds import derive
from .statistics import MIN_FOR_INTERVAL, FloatArray

ROPE = 0.01
"""Half the width of the region: one point of a share."""
PRIOR = 0.5
"""Weight of the pseudo-difference 0 in the prior, as in the paper."""
DRAWS = 2000


class Equivalence(NamedTuple):
    """Posterior probabilities that a method is worse, practically the same, and better; NaN below three pairs."""

    worse: float
    same: float
    better: float


def signed_rank(differences: Sequence[FloatArray], rope: float = ROPE) -> list[Equivalence]:
    """Return the probabilities of Benavoli et al. (2017, JMLR 18:77) for vectors of differences without NaN.

    Weights of the differences and of a pseudo-difference 0 follow a Dirichlet law; in each draw the largest of the
    three shares of Walsh averages (below, inside and above ± ``rope``) counts. The draws are the same for every vector.
    """
    found = [Equivalence(np.nan, np.nan, np.nan)] * len(differences)
    by_size: dict[int, list[int]] = defaultdict(list)
    for i, vector in enumerate(differences):
        if len(vector) >= MIN_FOR_INTERVAL:
            by_size[len(vector)].append(i)
    for size, places in by_size.items():
        values = np.stack([np.append(0.0, differences[i]) for i in places])
        first, second = np.triu_indices(size + 1)
        sums, pairs = values[:, first] + values[:, second], _pairs(size)
        below, above = pairs @ (sums < -2 * rope).T, pairs @ (sums > 2 * rope).T
        shares = np.stack([below, 1 - below - above, above])
        won = shares >= shares.max(axis=0) - 1e-12
        means = (won / won.sum(axis=0)).mean(axis=1)
        for i, numbers in zip(places, means.T, strict=True):
            found[i] = Equivalence(*map(float, numbers))
    return found


@lru_cache(maxsize=8)
def _pairs(size: int) -> FloatArray:
    """Return the weights of all pairs of ``size`` values and the pseudo-value, (draws, pairs)."""
    rng = np.random.default_rng(derive(0, "signed rank", size))
    weights = rng.dirichlet(np.append(PRIOR, np.ones(size)), DRAWS)
    first, second = np.triu_indices(size + 1)
    return weights[:, first] * weights[:, second] * np.where(first == second, 1.0, 2.0)
