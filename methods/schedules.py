"""Learning rates over a training, as factors of the first one."""

import math


def warm_cosine(update: int, updates: int, warmup: int, final: float = 0.0) -> float:
    """Return the factor of the learning rate: linear up to 1 in ``warmup`` updates, then half a cosine to ``final``.

    >>> [round(warm_cosine(i, 10, 2), 2) for i in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if update < warmup:
        return (update + 1) / warmup
    done = min(1.0, (update - warmup) / max(1, updates - warmup))
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
