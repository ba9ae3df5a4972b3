"""The one owner of seeds: every purpose gets its own, derived by hashing."""

import hashlib
import random

import numpy as np


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 32-bit seed for ``purpose``, independent of every other purpose.

    >>> derive(0, "weights") == derive(0, "weights") != derive(0, "order")
    True
    """
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; called before a method is constructed, so that weights follow the seed."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
