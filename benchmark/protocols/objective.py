"""What thresholds are tuned for: the mean over patients with a lesion of their Dice, at every cut at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..scoring.bins import Bins, CaseCounts
from ..scoring.ranking_metrics import Curves


@dataclass(frozen=True, eq=False)
class PatientCase:
    """The counts of one case and whose it is."""

    patient: str
    counts: CaseCounts


@dataclass(frozen=True, eq=False)
class Objective:
    """The ``values`` at every cut of pooled curves, float64 (bins + 1,); inside a bin the best may be ``bound`` higher.

    ``shares``, float64 (bins + 1,), of the tuned voxels lie at or below the threshold of each cut, ascending.
    """

    curves: Curves
    shares: np.ndarray
    values: np.ndarray
    bound: float

    def cut_at(self, quantile: float) -> int:
        """Return the lowest cut that leaves at least ``quantile`` of the tuned voxels at or below its threshold."""
        return min(int(np.searchsorted(self.shares, quantile)), len(self.values) - 1)

    @property
    def best_cut(self) -> int:
        """The cut with the largest value (the lowest threshold of several)."""
        return int(np.argmax(self.values))

    @property
    def best(self) -> float:
        """The largest value."""
        return float(self.values[self.best_cut])

    def at(self, quantile: float) -> float:
        """Return the value at a quantile of the tuned voxels' scores."""
        return float(self.values[self.cut_at(quantile)])


@dataclass(frozen=True, eq=False)
class _Steps:
    """One case on the pooled cuts: where its Dice changes, going down, and by how much."""

    patient: str
    index: np.ndarray
    voxels: np.ndarray
    step: np.ndarray
    inside: np.ndarray
    lesion: bool


class MeanDice:
    """The mean over patients with a lesion of their Dice, for any group of patients.

    A patient with several cases counts with the mean Dice of those that have a lesion; cases without a lesion only
    shape the quantiles. Cases are counted in the bins of ``axis``, whose own counts are not used; ``cut_all`` says
    whether the cut below the lowest score may be chosen.
    """

    def __init__(self, axis: Curves, cases: Sequence[PatientCase], *, cut_all: bool = True) -> None:
        self.axis = axis
        self.cut_all = cut_all
        self._steps = [_steps(c.patient, c.counts) for c in cases]

    @classmethod
    def every_cut(cls, bins: Bins, cases: Sequence[PatientCase]) -> MeanDice:
        """Use every bin that holds a voxel of the cases, so that the best cut is the exhaustive search's."""
        axis = Curves.of(bins, (c.counts for c in cases))
        place = np.empty(len(bins), np.int64)
        place[np.searchsorted(bins.lower, axis.lower)] = np.arange(len(axis.lower))
        moved = [replace(c, counts=replace(c.counts, index=place[c.counts.index])) for c in cases]
        return cls(axis, moved)

    def over(self, patients: Collection[str]) -> Objective | None:
        """Return the objective of a group; None where none of them has a lesion."""
        chosen = [s for s in self._steps if s.patient in patients]
        per_patient = Counter(s.patient for s in chosen if s.lesion)
        if not per_patient:
            return None
        steps, inside = np.zeros(len(self.axis.lower)), np.zeros(len(self.axis.lower))
        voxels = np.zeros(len(self.axis.lower), np.int64)
        for s in chosen:
            voxels[s.index] += s.voxels
            if s.lesion:
                weight = 1.0 / (per_patient[s.patient] * len(per_patient))
                steps[s.index] += weight * s.step
                inside[s.index] += weight * s.inside
        values = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
        if not self.cut_all:
            values[0] = -1.0
        higher = np.where(self.axis.exact, 0.0, values[1:] + inside)
        shares = np.concatenate([[0], np.cumsum(voxels)]) / voxels.sum()
        return Objective(self.axis, shares, values, max(0.0, float(higher.max() - values.max())))


def pooled_dice(curves: Curves) -> Objective | None:
    """Return the Dice of all voxels together; None without a positive."""
    if not curves.positives:
        return None
    return Objective(curves, curves.shares, curves.dice(), curves.dice_bound())


def _steps(patient: str, counts: CaseCounts) -> _Steps:
    index, voxels = counts.index, counts.negative + counts.positive
    if not counts.positives:
        empty = np.zeros(len(index))
        return _Steps(patient, index, voxels, empty, empty, lesion=False)
    tp, predicted = np.cumsum(counts.positive[::-1])[::-1], np.cumsum(voxels[::-1])[::-1]
    dice = 2 * tp / (predicted + counts.positives)
    above = np.append(dice[1:], 0.0)
    # The best threshold inside a bin takes all of its positives and none of its negatives.
    inside = 2 * tp / (predicted - counts.negative + counts.positives)
    return _Steps(patient, index, voxels, dice - above, inside - above, lesion=True)
