"""Threshold-based metrics as look-ups in pooled bins, with bounds on what the bins can hide (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import digamma

from .bins import NEGATIVE_ZERO, Bins, CaseCounts, keys_of, values_of


@dataclass(frozen=True, eq=False)
class Curves:
    """Counts over the bins that hold voxels, from the lowest score to the highest.

    Cut c predicts bin c and everything above it: cut 0 predicts all voxels, the last cut none. A cut is the same as
    ``score > threshold(c)``. All arrays are int64: first and last key of each bin, voxels without and with lesion.
    """

    lower: np.ndarray
    upper: np.ndarray
    negative: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, bins: Bins, cases: Iterable[CaseCounts]) -> Curves:
        return cls.of_counts(bins, summed(bins, cases))

    @classmethod
    def of_counts(cls, bins: Bins, counts: np.ndarray) -> Curves:
        """Return the curves of voxels without and with lesion in every bin, int64 (2, bins)."""
        used = np.flatnonzero(counts[0] | counts[1])
        return cls(bins.lower[used], bins.upper[used], counts[0, used], counts[1, used])

    def merged(self, group: np.ndarray) -> Curves:
        """Join neighbouring bins, given their ascending group numbers from 0, int64 (bins,)."""
        first = np.flatnonzero(np.concatenate([[True], np.diff(group) != 0]))
        last = np.append(first[1:], len(group)) - 1
        counts = np.add.reduceat(self.negative, first), np.add.reduceat(self.positive, first)
        return Curves(self.lower[first], self.upper[last], *counts)

    def framed(self, pixels: int) -> Curves:
        """Add so many voxels without lesion at the lowest score that there is."""
        negative, fp = self.negative.copy(), self.fp.copy()
        negative[:1] += pixels
        fp[0] = negative.sum()
        framed = replace(self, negative=negative)
        vars(framed).update(tp=self.tp, fp=fp, exact=self.exact)  # the same above the lowest bin: not summed again
        return framed

    @cached_property
    def positives(self) -> int:
        return int(self.positive.sum())

    @cached_property
    def negatives(self) -> int:
        return int(self.negative.sum())

    @cached_property
    def exact(self) -> np.ndarray:
        """Bins whose voxels all have the same score."""
        return self.lower == self.upper

    @cached_property
    def tp(self) -> np.ndarray:
        """True positives at every cut (int64, bins + 1)."""
        return _from_above(self.positive)

    @cached_property
    def fp(self) -> np.ndarray:
        """False positives at every cut (int64, bins + 1)."""
        return _from_above(self.negative)

    @cached_property
    def shares(self) -> np.ndarray:
        """Share of the voxels at or below the threshold of every cut: 0 … 1, strictly increasing."""
        below = np.concatenate([[0], np.cumsum(self.negative + self.positive)])
        return below / max(1, self.positives + self.negatives)

    def cut_at(self, quantile: float) -> int:
        """Return the lowest cut that leaves at least ``quantile`` of the voxels at or below its threshold."""
        return min(int(np.searchsorted(self.shares, quantile)), len(self.lower))

    def threshold(self, cut: int) -> float:
        """Return the score above which (strictly) voxels are predicted at a cut; a float32 value.

        Raises:
            ValueError: there are no voxels, so nothing to cut.
        """
        if len(self.lower) == 0:
            raise ValueError("no voxels, so no threshold")
        key = self.upper[cut - 1] if cut > 0 else self.lower[0] - 1
        return float(values_of(key - (key == NEGATIVE_ZERO)))

    def auroc(self) -> float | None:
        """Area under the ROC curve, ties counted half; None with one class."""
        if not self.positives or not self.negatives:
            return None
        won = np.dot(self.negative.astype(np.float64), self.tp[1:] + 0.5 * self.positive)
        return float(won / self.positives / self.negatives)

    def auroc_up_to(self, limit: float) -> float | None:
        """Area under the ROC curve up to a false-positive rate, divided by that rate; None with one class.

        Ties are straight parts of the curve, as in :meth:`auroc`.
        """
        if not self.positives or not self.negatives:
            return None
        return _area_up_to(limit, self.fp[::-1] / self.negatives, self.tp[::-1] / self.positives)

    def auroc_bound(self) -> float:
        """Largest possible difference to the AUROC of the unbinned scores."""
        if not self.positives or not self.negatives:
            return 0.0
        mixed = self.negative.astype(np.float64) * self.positive * ~self.exact
        return float(mixed.sum() / 2 / self.positives / self.negatives)

    def ap(self) -> float | None:
        """Average precision (the step sum of scikit-learn); None without a positive."""
        if not self.positives:
            return None
        found = self.tp[:-1]
        precision = found / np.maximum(1, found + self.fp[:-1])
        return float(np.dot(self.positive, precision) / self.positives)

    def ap_bound(self) -> float:
        """Bound on the difference to the AP of the unbinned scores.

        Inside a bin the positives do worst one after the other below all its negatives, and best together above them;
        the bin reads them together below them. So two positives of different scores in a bin are enough for an error.
        """
        if not self.positives:
            return 0.0
        open_ = (self.positive > 0) & (self.positive + self.negative > 1) & ~self.exact
        p, tp, fp = self.positive[open_], self.tp[:-1][open_], self.fp[:-1][open_]
        before_tp, before_fp = self.tp[1:][open_], self.fp[1:][open_]
        here = p * tp / (tp + fp)
        best = p * tp / (tp + before_fp)
        # The sum of k / (k + fp) over k from before_tp + 1 to tp.
        worst = p - fp * (digamma(tp + fp + 1.0) - digamma(before_tp + fp + 1.0))
        return float(max((best - here).sum(), (here - worst).sum(), 0.0) / self.positives)

    def sensitivity_at(self, specificity: float) -> float | None:
        """Return the largest share of positives above a cut with so many negatives below it; None with one class."""
        if not self.positives or not self.negatives:
            return None
        allowed = self.fp <= (1 - specificity) * self.negatives + 1e-9
        return float(self.tp[allowed].max() / self.positives)

    def dice(self) -> np.ndarray:
        """Dice at every cut (float64, bins + 1); 0 without a positive."""
        return 2 * self.tp / np.maximum(1, self.tp + self.fp + self.positives)

    def best_dice(self) -> tuple[float, int]:
        dice = self.dice()
        cut = int(np.argmax(dice))
        return float(dice[cut]), cut

    def dice_bound(self) -> float:
        """How much a threshold inside a bin could exceed the best Dice at the cuts."""
        inside = 2 * self.tp[:-1] / np.maximum(1, self.tp[:-1] + self.fp[1:] + self.positives)
        highest = np.where(self.exact, 0.0, inside).max(initial=0.0)
        return float(max(0.0, highest - self.best_dice()[0]))


@dataclass(frozen=True, eq=False)
class ScoredVoxels:
    """Voxels of a case or a cell by score; ``overlap`` is what :func:`aupro` takes, ``regions`` counts lesions.

    ``outside`` counts the pixels outside the region of interest in the slices that show it.
    """

    curves: Curves
    overlap: np.ndarray
    regions: int
    outside: int

    @cached_property
    def images(self) -> Curves:
        """The same slices as whole images: what lies outside the region is healthy and has the lowest score."""
        return self.curves.framed(self.outside)


def summed(bins: Bins, cases: Iterable[CaseCounts]) -> np.ndarray:
    """Return voxels without and with lesion in every bin, over cases: int64 (2, bins)."""
    counts = np.zeros((2, len(bins)), np.int64)
    for case in cases:
        counts[0, case.index] += case.negative
        counts[1, case.index] += case.positive
    return counts


def sorted_curves(scores: np.ndarray, labels: np.ndarray) -> Curves:
    """Count a small array exactly, one bin per value; for slice scores, float32 (n,), and their labels, bool (n,)."""
    keys, place = np.unique(keys_of(scores), return_inverse=True)
    positive = np.bincount(place[labels], minlength=len(keys))
    negative = np.bincount(place[~labels], minlength=len(keys))
    return Curves(keys, keys, negative, positive)


def aupro(curves: Curves, overlap: np.ndarray, regions: int, limit: float = 0.3) -> float | None:
    """Area under the per-region-overlap curve up to a false-positive rate, divided by that rate.

    ``overlap``, float64 (bins,), sums over the ``regions``, which are lesion components, what share of each lies in a
    bin. The integral ends at a false-positive rate of 0.3 (Bergmann et al. 2021). None without a component or a
    negative voxel.
    """
    if not regions or not curves.negatives:
        return None
    share = np.minimum(np.concatenate([[0.0], np.cumsum(overlap[::-1])]) / regions, 1.0)
    return _area_up_to(limit, curves.fp[::-1] / curves.negatives, share)


def _area_up_to(limit: float, rate: np.ndarray, share: np.ndarray) -> float:
    at_limit = np.interp(limit, rate, share)
    inside = slice(int(np.searchsorted(rate, limit, side="right")))
    rate, share = np.append(rate[inside], limit), np.append(share[inside], at_limit)
    return float(min(1.0, np.dot(np.diff(rate), share[1:] + share[:-1]) / 2 / limit))


def _from_above(counts: np.ndarray) -> np.ndarray:
    return np.append(np.cumsum(counts[::-1])[::-1], 0)
