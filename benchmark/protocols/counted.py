"""What every protocol reads: the bins of a cell, its counts, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..scoring.bins import Bins, CaseCounts
from ..scoring.cases import Reader
from .objective import PatientCase


@dataclass(frozen=True, eq=False)
class Counted:
    """The bins of a cell, its counts, and whose they are."""

    reader: Reader
    bins: Bins
    counts: Sequence[CaseCounts]

    @property
    def cases(self) -> list[PatientCase]:
        """Counts with their patients."""
        return [PatientCase(s.patient, c) for s, c in zip(self.reader.sources, self.counts, strict=True)]

    @property
    def patients(self) -> list[str]:
        """All patients, each once, in the order of their first case."""
        return list(dict.fromkeys(s.patient for s in self.reader.sources))
