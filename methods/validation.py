"""Which part of the healthy scans validates: the rule of every early stopping."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

SHARE = 0.2


def held_out_count(count: int) -> int:
    """Return how many of ``count`` validate: a fifth, at least one.

    >>> [held_out_count(n) for n in (1, 4, 10, 13)]
    [1, 1, 2, 3]
    """
    return max(1, round(SHARE * count))


def held_out_patients(patients: Iterable[str], rng: np.random.Generator) -> list[str]:
    """Draw a fifth of the patients, at least one; none where there are no two, since one must stay for training."""
    names = sorted(set(patients))
    if len(names) < 2:
        return []
    return rng.choice(names, held_out_count(len(names)), replace=False).tolist()
