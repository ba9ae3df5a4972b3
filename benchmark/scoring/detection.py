"""Which lesions a mask detects, by overlap and one to one, and what that is over lesions, over scans and by stratum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .lesions import Components

LEAST_IOU = 0.1
FROC_RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
CURVE_RATES = tuple(float(2.0**power) for power in np.arange(-3, 4.5, 0.5))


class Matched(NamedTuple):
    """Which component finds each lesion of a case, −1 where none does (int64), and the Dice of each lesion."""

    by: np.ndarray
    dice: np.ndarray


def match(lesions: Components, parts: Components, highest: np.ndarray) -> Matched:
    """Match lesions and components of a mask one to one, best overlap first, of equal ones the ``highest`` score.

    A lesion is found where its intersection with its component is at least a tenth of their union. Its Dice is that
    with all components that touch it together.
    """
    number, base = len(lesions), len(parts) + 1
    pairs, shared = np.unique(lesions.owners * base + parts.at(lesions.voxels), return_counts=True)
    lesion, part = np.divmod(pairs, base)
    lesion, part, shared = lesion[part > 0], part[part > 0] - 1, shared[part > 0]
    both, touching = (np.bincount(lesion, sizes, number) for sizes in (shared, parts.sizes[part]))
    iou = shared / (lesions.sizes[lesion] + parts.sizes[part] - shared)
    by = np.full(number, -1)
    order = np.lexsort((-lesions.sizes[lesion], -highest[part], -iou))
    for pair in order[: np.count_nonzero(iou >= LEAST_IOU)]:
        if by[lesion[pair]] < 0 and part[pair] not in by:
            by[lesion[pair]] = part[pair]
    return Matched(by, 2 * both / (lesions.sizes + touching))


class Bin(NamedTuple):
    """A range of lesions: ``low`` ≤ volume in ml, or contrast in units of noise, < ``high``."""

    id: str
    title: str
    low: float
    high: float

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Return which values lie in it; NaN does in none."""
        return (values >= self.low) & (values < self.high)


VOLUME_BINS = (
    Bin("below_1ml", "below 1 ml", 0.0, 1.0),
    Bin("1_to_10ml", "1 to 10 ml", 1.0, 10.0),
    Bin("from_10ml", "10 ml and more", 10.0, np.inf),
)
CONTRAST_BINS = (
    Bin("below_1sd", "contrast below 1 sd", 0.0, 1.0),
    Bin("1_to_2sd", "contrast of 1 to 2 sd", 1.0, 2.0),
    Bin("from_2sd", "contrast of 2 sd and more", 2.0, np.inf),
)


@dataclass(frozen=True, eq=False)
class LesionWise:
    """The lesions of a case, or of all cases of a cell, under one mask each.

    Attributes:
        scores: the highest score in the component that finds each lesion, float64 (lesions,), −∞ where none does.
        dice: of each lesion with the components that touch it.
        ml: its volume.
        contrast: |mean HU − mean HU of the organ near it| in units of the organ's noise; NaN where that is unknown.
        false: the highest score in each component that finds no lesion, float64 (components,).
        cases: how many cases.
    """

    scores: np.ndarray
    dice: np.ndarray
    ml: np.ndarray
    contrast: np.ndarray
    false: np.ndarray
    cases: int = 1

    @classmethod
    def of(
        cls, lesions: Components, parts: Components, map_: np.ndarray, ml: np.ndarray, contrast: np.ndarray
    ) -> LesionWise:
        """Match the lesions of one case with the components of a mask that was cut from a map."""
        highest = parts.highest(map_)
        by, dice = match(lesions, parts, highest)
        scores = np.where(by < 0, -np.inf, highest[by] if len(highest) else -np.inf)
        return cls(scores, dice, ml, contrast, np.delete(highest, by[by >= 0]))

    @classmethod
    def joined(cls, cases: Sequence[LesionWise]) -> LesionWise:
        """Put cases together."""
        columns = ("scores", "dice", "ml", "contrast", "false")
        arrays = {name: np.concatenate([getattr(case, name) for case in cases]) for name in columns}
        return cls(**arrays, cases=len(cases))

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def found(self) -> np.ndarray:
        """Which lesions are found, bool (lesions,)."""
        return self.scores > -np.inf

    def recall_at(self, rates: Sequence[float]) -> list[float]:
        """Return the share of lesions found with at most so many false components per scan, components by their score.

        Components are called from the highest score down; those of one score are called together.
        """
        false = np.append(np.sort(self.false)[::-1], -np.inf)
        cuts = (false[min(int(rate * self.cases + 1e-9), len(false) - 1)] for rate in rates)
        return [float(np.count_nonzero(self.scores > cut) / len(self)) for cut in cuts]

    def curve(self) -> list[tuple[float, float]]:
        """Return (false components per scan, share of lesions found) from ⅛ to 16; empty without a lesion."""
        return list(zip(CURVE_RATES, self.recall_at(CURVE_RATES), strict=True)) if len(self) else []
