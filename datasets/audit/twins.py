"""Scans of one person under two names, across all sets of a data root, also where no slice agrees bit by bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..case import Case
from ..reading.side_tables import CaseKey
from . import marks as exact
from . import spectra as coarse

MARKS, SHARE = 8, 0.02
LIKENESS = 0.5


@dataclass(frozen=True, eq=False)
class Signature:
    """What is kept of a scan to know it again: its :func:`~.marks.marks` and its :func:`~.spectra.spectra`."""

    marks: np.ndarray
    spectra: np.ndarray


@dataclass(frozen=True)
class Twins:
    """Two cases that show the same body: how many marks they share, of how large a part, and how alike they look."""

    a: CaseKey
    b: CaseKey
    shared: int
    share: float
    likeness: float

    @property
    def why(self) -> str:
        """What speaks for it, for people."""
        voxels = f"{100 * self.share:.0f} % of the smaller one's marks are the same voxels"
        looks = f"their slices look alike at 4 mm ({self.likeness:.2f}, where other bodies have 0.2)"
        same = self.shared >= MARKS and self.share >= SHARE
        return " and ".join(text for text, holds in ((voxels, same), (looks, self.likeness >= LIKENESS)) if holds)


def sign(case: Case) -> Signature:
    """Return the signature of a scan."""
    return Signature(exact.marks(case.image), coarse.spectra(case.image, case.spacing))


def find_twins(signatures: Mapping[CaseKey, Signature]) -> list[Twins]:
    """Return the pairs of cases that show the same body, in the order of the cases.

    The same voxels are found in cuts, flips and reordered slices, at any wrong spacing; the same looks in resampled,
    averaged, rounded and windowed copies of at least 24 mm with a right spacing. A copy that was cut down to an organ
    and resampled as well is not found.
    """
    keys: Sequence[CaseKey] = list(signatures)
    if len(keys) < 2:
        return []
    rows = dict(zip(keys, coarse.comparable([signatures[key].spectra for key in keys]), strict=True))
    found = []
    for number, a in enumerate(keys):
        mirrored = coarse.mirrored(rows[a])
        for b in keys[number + 1 :]:
            count, share = exact.shared(signatures[a].marks, signatures[b].marks)
            likeness = coarse.likeness(rows[a], mirrored, rows[b])
            if (count >= MARKS and share >= SHARE) or likeness >= LIKENESS:
                found.append(Twins(a, b, count, share, likeness))
    return found
