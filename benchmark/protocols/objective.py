"""What thresholds are tuned for: the mean over patients with a lesion of their Dice, at every cut at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..scoring.bins import Bins, CaseCounts
from ..scoring.ranking_metrics import Curves


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
        return float(self.values[self.best_cut])


class MeanDice:
    """The mean over patients with a lesion of their Dice, for any group of patients.

    A patient with several cases counts with the mean Dice of those that have a lesion; cases without a lesion only
    shape the quantiles. Cases are counted in the bins of ``axis``, whose own counts are not used; ``cut_all`` says
    whether the cut below the lowest score may be chosen.
    """

    def __init__(
        self, axis: Curves, patients: Sequence[str], counts: Sequence[CaseCounts], *, cut_all: bool = True
    ) -> None:
        self.axis = axis
        self.cut_all = cut_all
        self._cases = [(p, c, *_steps(c)) for p, c in zip(patients, counts, strict=True)]

    @classmethod
    def every_cut(cls, bins: Bins, patients: Sequence[str], counts: Sequence[CaseCounts]) -> MeanDice:
        """Use every bin that holds a voxel of the cases, so that the best cut is the exhaustive search's."""
        axis = Curves.of(bins, counts)
        place = np.searchsorted(axis.lower, bins.lower)
        return cls(axis, patients, [replace(c, index=place[c.index]) for c in counts])

    def over(self, patients: Collection[str]) -> Objective | None:
        """Return the objective of a group; None where none of them has a lesion."""
        chosen = [case for case in self._cases if case[0] in patients]
        per_patient = Counter(patient for patient, counts, *_ in chosen if counts.positives)
        if not per_patient:
            return None
        steps, inside = np.zeros((2, len(self.axis.lower)))
        voxels = np.zeros(len(self.axis.lower), np.int64)
        for patient, counts, step, within in chosen:
            voxels[counts.index] += counts.negative + counts.positive
            if counts.positives:
                weight = 1.0 / (per_patient[patient] * len(per_patient))
                steps[counts.index] += weight * step
                inside[counts.index] += weight * within
        values = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
        if not self.cut_all:
            values[0] = -1.0
        higher = np.where(self.axis.exact, 0.0, values[1:] + inside)
        shares = np.concatenate([[0], np.cumsum(voxels)]) / voxels.sum()
        return Objective(self.axis, shares, values, max(0.0, float(higher.max() - values.max())))


def _steps(counts: CaseCounts) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the Dice of a case changes at its bins, going down, and at best inside of them."""
    if not counts.positives:
        return np.zeros(len(counts.index)), np.zeros(len(counts.index))
    tp = np.cumsum(counts.positive[::-1])[::-1]
    predicted = np.cumsum((counts.negative + counts.positive)[::-1])[::-1]
    dice = 2 * tp / (predicted + counts.positives)
    above = np.append(dice[1:], 0.0)
    # The best threshold inside a bin takes all of its positives and none of its negatives.
    return dice - above, 2 * tp / (predicted - counts.negative + counts.positives) - above
