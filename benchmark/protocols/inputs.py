"""What the protocols choose from: the counted cases of a cell, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...methods.card import SliceScore
from ..scoring.bins import Bins, CaseCounts, count_scores
from ..scoring.cases import CaseReader
from .objective import PatientCase

SMOOTHING_MM = (0.0, 1.5, 3.0)
MIN_SIZE_MM3 = (0.0, 10.0, 50.0, 200.0)


@dataclass(frozen=True)
class MeasureOptions:
    """How a cell is measured.

    Attributes:
        seed: the cell's seed; seeds the studies.
        trials: trials per study, at most 40.
        native_threshold: the method's own constant, where it has one.
        study_path: journal file of the studies; its stem opens the study names.
        progress: called with (cases done, cases).
        fold_seed: seeds the validation folds and the drawn patients; the same for every cell that is compared.
        smoothing_mm: smoothing that ``val`` and ``oracle`` choose from, 0 first, like the minimum component volumes.
        window: HU shown as black and white in the gallery.
        cache_mib: maps kept in memory between the passes.
    """

    seed: int = 0
    trials: int = 40
    slice_score: SliceScore = "max"
    native_threshold: float | None = None
    anatomy: str = "liver"
    study_path: Path | None = None
    gallery_path: Path | None = None
    progress: Callable[[int, int], object] = field(default=lambda done, total: None)
    fold_seed: int = 0
    smoothing_mm: tuple[float, ...] = SMOOTHING_MM
    min_size_mm3: tuple[float, ...] = MIN_SIZE_MM3
    window: tuple[float, float] = (-200.0, 250.0)
    threads: int = 1
    cache_mib: int = 256


@dataclass(frozen=True, eq=False)
class CountedCases:
    """Score histogram, counts and patients of one (method, test set, train set, seed)."""

    reader: CaseReader
    bins: Bins
    counts: Sequence[CaseCounts]

    @classmethod
    def of(cls, reader: CaseReader, threads: int = 1) -> CountedCases:
        """Count the cases of a reader, one in memory at a time."""
        cases = range(len(reader))
        return cls(reader, *count_scores(lambda: ((c.scores, c.labels) for c in map(reader.read, cases)), threads))

    @property
    def with_patients(self) -> list[PatientCase]:
        return [PatientCase(s.patient, c) for s, c in zip(self.reader.cases, self.counts, strict=True)]

    @property
    def patients(self) -> list[str]:
        """All patients, each once, in the order of their first case."""
        return list(dict.fromkeys(s.patient for s in self.reader.cases))
