"""Histogram bins that come from the scores themselves (docs/metrics.md).

Pass 1 counts the top 16 bits of the sortable key. Every bin that holds more than 2^-16 of the voxels is split by its
next bits, as often as needed, until none is crowded except by exactly equal scores. Pass 2 counts negatives and
positives per bin. The edges do not depend on the labels or on how the voxels are grouped, so counts of cases add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ...common.errors import UasbenchError
from .bin_kernels import count_bins, count_top, find_bins

# The sortable key of a score: its float32 bits as an integer in [0, 2^32) with the same order.
KEY_BITS = 32
TOP_BITS = 16
# The top 16 bits of every finite key lie strictly between these; the ends also shut out values beyond ±3.38e38, so
# that a threshold below the smallest score is finite.
FIRST_TOP, LAST_TOP = 0x0081, 0xFF7E
LOWEST = np.float32(-3.3e38)
NEGATIVE_ZERO = 2**31 - 1
SHARE = 2.0**-16
_TOPS = 1 << TOP_BITS
_WHOLE_SPLIT = 1 << 19
_SMALL = 1 << 20
_LARGE = 1 << 30
# A bin with a fifth of all voxels usually holds equal scores: its split is complete at once.
_HEAVY = 14
Split = tuple[np.ndarray, np.ndarray, np.ndarray]
Pairs = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]


class ScoreError(UasbenchError):
    """Scores cannot be measured: another dtype, NaN or infinite values."""


def keys_of(values: np.ndarray) -> np.ndarray:
    """Return int64 keys: equal values have equal keys (also −0.0 and 0.0), larger values larger ones."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32).astype(np.int64)
    keys = np.where(bits >= 0, bits + 2**31, -1 - bits)
    return np.where(keys == NEGATIVE_ZERO, NEGATIVE_ZERO + 1, keys)


def values_of(keys: np.ndarray) -> np.ndarray:
    """Return the float32 value of each key; no score has the key of −0.0."""
    keys = np.asarray(keys, np.int64)
    return np.where(keys >= 2**31, keys - 2**31, -1 - keys).astype(np.int32).view(np.float32)


@dataclass(frozen=True, eq=False)
class CaseCounts:
    """How many voxels of one case without and with lesion (int64) fall into each bin that holds some, ascending."""

    index: np.ndarray
    negative: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, both: np.ndarray) -> CaseCounts:
        """Drop the empty ones of all bins, given as negatives and positives (bins, 2)."""
        index = np.flatnonzero(both[:, 0] | both[:, 1])
        return cls(index, both[index, 0], both[index, 1])

    @property
    def positives(self) -> int:
        return int(self.positive.sum())

    @property
    def negatives(self) -> int:
        return int(self.negative.sum())


class Bins:
    """Intervals of the sortable key, which cover all of it: ``lower`` holds their first keys (int64, ascending).

    A bin may hold ``limit`` voxels unless they are equal.
    """

    def __init__(self, limit: int, splits: list[Split]) -> None:
        self.limit = limit
        self._splits = splits
        self._build()

    @classmethod
    def from_top(cls, counts: np.ndarray) -> Bins:
        """Split the crowded bins of the first pass, which counted int64 (65536,) voxels per top half of the key."""
        limit = max(1, math.floor(int(counts.sum()) * SHARE))
        crowded = np.flatnonzero(counts > limit)
        if not len(crowded):
            return cls(limit, [])
        remaining = np.full(len(crowded), KEY_BITS - TOP_BITS)
        split = crowded << TOP_BITS, remaining, _bits(counts[crowded], limit, remaining)
        return cls(limit, [split])

    def __len__(self) -> int:
        return len(self.lower)

    @cached_property
    def upper(self) -> np.ndarray:
        return np.append(self.lower[1:], 1 << KEY_BITS) - 1

    @cached_property
    def exact(self) -> np.ndarray:
        """Which bins hold one value only."""
        return self.upper == self.lower

    def crowded(self, counts: np.ndarray) -> np.ndarray:
        """Return the bins that hold too many voxels of different scores, given the voxels of each bin."""
        return np.flatnonzero((counts > self.limit) & ~self.exact)

    def refined(self, counts: np.ndarray) -> Bins:
        """Return bins in which the crowded ones are split further."""
        crowded = self.crowded(counts)
        remaining = np.log2(self.upper[crowded] - self.lower[crowded] + 1).astype(np.int64)
        bits = remaining
        if int((1 << remaining).sum()) > _WHOLE_SPLIT:
            bits = _bits(counts[crowded], self.limit, remaining)
        return Bins(self.limit, [*self._splits, (self.lower[crowded], remaining, bits)])

    def count(self, scores: np.ndarray, labels: np.ndarray, threads: int = 1) -> CaseCounts:
        bits, flags = as_bits(scores), _flags(labels, scores)

        def one(part: slice) -> np.ndarray:
            counts = np.zeros(2 * len(self), np.int32)
            count_bins(bits[part], flags[part], self._table, counts)
            return counts.astype(np.int64)

        return CaseCounts.of(_summed(one, len(bits), threads).reshape(-1, 2))

    def find(self, scores: np.ndarray) -> np.ndarray:
        bits = as_bits(scores)
        out = np.empty(len(bits), np.int64)
        find_bins(bits, self._table, out)
        return out

    def _build(self) -> None:
        """Number the bins in key order and pack the tree that finds them.

        An entry packs ``offset << 7 | shift << 1 | more``: ``(key >> shift) + offset`` is a bin, or with ``more`` the
        place of another entry. A node that is not split has shift 32 and so its own number.
        """
        # Level 0 holds the top halves, level k + 1 the children of the nodes of level k that split k divides.
        nodes = [np.arange(_TOPS, dtype=np.int64) << TOP_BITS, *(_children(*split) for split in self._splits)]
        places = [np.searchsorted(n, s[0]) for n, s in zip(nodes, self._splits, strict=False)]
        # How many bins lie below each node: one, or from the deepest level upwards the sum over its children.
        leaves = [np.ones(len(n), np.int64) for n in nodes]
        for k in reversed(range(len(places))):
            leaves[k][places[k]] = np.add.reduceat(leaves[k + 1], _before(1 << self._splits[k][2]))
        # The number of the first bin below each node. Bins are numbered in key order across all levels, so a child
        # starts where its parent does, plus the bins below its elder siblings.
        ranks = [_before(leaves[0])]
        starts = np.cumsum([0, *(len(n) for n in nodes)])
        entries = []
        for k, (place, (low, remaining, bits)) in enumerate(zip(places, self._splits, strict=True)):
            first, shift = _before(1 << bits), remaining - bits
            within = _before(leaves[k + 1])
            ranks.append(within + np.repeat(ranks[k][place] - within[first], 1 << bits))
            # With as many bins as children no child is split: the entry counts off bins. Otherwise it counts off the
            # entries of its children, which lie together in the next level. Both count from the node's own first key.
            more = leaves[k][place] > 1 << bits
            offset = np.where(more, starts[k + 1] + first, ranks[k][place]) - (low >> shift)
            entry = _leaf_entries(ranks[k])
            entry[place] = (offset << 7) | (shift << 1) | more.astype(np.int64)
            entries.append(entry)
        self._table = np.concatenate([*entries, _leaf_entries(ranks[-1])])
        self.lower = np.empty(int(leaves[0].sum()), np.int64)
        for node, leaf, rank in zip(nodes, leaves, ranks, strict=True):
            self.lower[rank[leaf == 1]] = node[leaf == 1]


def tops(scores: np.ndarray, threads: int = 1) -> np.ndarray:
    """Return int64 (65536,): how many scores have each top half of the key (pass 1).

    Raises:
        ScoreError: a score is NaN, infinite, or beyond ±3.3e38.
    """
    bits = as_bits(scores)

    def one(part: slice) -> np.ndarray:
        counts = np.zeros(4 * _TOPS, np.int32)
        count_top(bits[part], counts)
        return counts.astype(np.int64)

    counts = _summed(one, len(bits), threads).reshape(4, -1).sum(axis=0)
    bad = int(counts[:FIRST_TOP].sum() + counts[LAST_TOP + 1 :].sum())
    if bad:
        raise ScoreError(f"{bad} of {len(bits)} scores are NaN, infinite or beyond ±3.3e38; scores must be finite")
    return counts


def count_scores(pairs: Pairs, threads: int = 1) -> tuple[Bins, list[CaseCounts]]:
    """Make the bins of a set of cases and count each of them; the result does not depend on the threads.

    ``pairs`` is called once per pass and yields (scores float32 (n,), labels bool (n,)) case by case, always the same.

    Raises:
        ScoreError: a score is NaN or infinite, or not float32.
    """
    coarse = np.zeros(_TOPS, np.int64)
    for scores, _ in pairs():
        coarse += tops(scores, threads)
    bins = Bins.from_top(coarse)
    while True:
        counted = [bins.count(scores, labels, threads) for scores, labels in pairs()]
        total = np.zeros(len(bins), np.int64)
        for case in counted:
            total[case.index] += case.negative + case.positive
        if not len(bins.crowded(total)):
            return bins, counted
        bins = bins.refined(total)


def as_bits(scores: np.ndarray) -> np.ndarray:
    """Return the float32 scores as int32 bits, flat.

    Raises:
        ScoreError: another dtype.
    """
    if scores.dtype != np.float32:
        raise ScoreError(
            f"scores are {scores.dtype}, expected float32: other precisions change ties and so the metrics"
        )
    return np.ascontiguousarray(scores).reshape(-1).view(np.int32)


def _flags(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    if labels.dtype != bool or labels.size != scores.size:
        raise ScoreError(
            f"labels are {labels.dtype} of size {labels.size}, expected bool of size {scores.size} like the scores"
        )
    return np.ascontiguousarray(labels).reshape(-1).view(np.uint8)


def _summed(one: Callable[[slice], np.ndarray], count: int, threads: int) -> np.ndarray:
    """Add up what the threads count, each in a part of the voxels."""
    edges = np.linspace(0, count, max(threads if count > _SMALL else 1, -(-count // _LARGE)) + 1).astype(np.int64)
    parts = [slice(int(a), int(b)) for a, b in pairwise(edges)]
    if len(parts) == 1:
        return one(parts[0])
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(one, parts[1:]), one(parts[0]))


def _bits(counts: np.ndarray, limit: int, remaining: np.ndarray) -> np.ndarray:
    # Room for slope and chance inside a bin, so that one split is enough for smooth scores.
    margin = 1.2 + 5 / math.sqrt(limit)
    wanted = np.ceil(np.log2(margin * counts / limit)).astype(np.int64)
    return np.where(wanted >= _HEAVY, remaining, np.minimum(remaining, wanted))


def _children(low: np.ndarray, remaining: np.ndarray, bits: np.ndarray) -> np.ndarray:
    count = 1 << bits
    step = np.arange(int(count.sum())) - np.repeat(_before(1 << bits), count)
    return np.repeat(low, count) + (step << np.repeat(remaining - bits, count))


def _before(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts) - counts


def _leaf_entries(ranks: np.ndarray) -> np.ndarray:
    return (ranks << 7) | (KEY_BITS << 1)
