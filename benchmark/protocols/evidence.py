"""What the protocols choose from: the counted cases of a cell, how it is measured, and the search that they share."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ...common.seeds import derive
from ...datasets.splits import Fold, val_folds
from ...methods.card import SliceScore
from ..runs.records import ScoreHistogram, Threshold
from ..scoring.bins import Bins, CaseCounts, count_scores
from ..scoring.cases import CaseReader
from ..scoring.histograms import score_histogram
from ..scoring.ranking_metrics import Curves
from .tuning import PLAIN, MeanDice, PostProcessing, Studies
from .variants import variants

SMOOTHING_MM = (0.0, 1.5, 3.0)
MIN_SIZE_MM3 = (0.0, 10.0, 50.0, 200.0)
MAX_DRAWN = 20
NO_LESIONS = "no patient with a lesion to tune on"


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
        series: whether the gallery also shows cases from easy to hard, what was missed and what was marked in error.
        trained_slice_mm: the widest distance of slices among the scans that the method learned from, where it is known.
        cache_mib: maps kept in memory between the passes.
    """

    seed: int = 0
    trials: int = 40
    slice_score: SliceScore = "max"
    native_threshold: float | None = None
    anatomy: str = "liver"
    study_path: Path | None = None
    gallery_path: Path | None = None
    series: bool = False
    trained_slice_mm: float | None = None
    progress: Callable[[int, int], object] = field(default=lambda done, total: None)
    fold_seed: int = 0
    smoothing_mm: tuple[float, ...] = SMOOTHING_MM
    min_size_mm3: tuple[float, ...] = MIN_SIZE_MM3
    window: tuple[float, float] = (-200.0, 250.0)
    threads: int = 1
    cache_mib: int = 256


@dataclass(frozen=True, eq=False)
class Evidence:
    """The counted cases of one (method, test set, train set, seed), and what else a protocol chooses a threshold from.

    ``healthy`` are ROI scores (float32) of held-out healthy scans.
    """

    reader: CaseReader
    bins: Bins
    counts: Sequence[CaseCounts]
    options: MeasureOptions
    healthy: Sequence[np.ndarray] = ()

    @staticmethod
    def of(reader: CaseReader, options: MeasureOptions, healthy: Sequence[np.ndarray] = ()) -> "Evidence":
        """Count the cases of a reader, one in memory at a time."""
        cases = range(len(reader.cases))
        counted = count_scores(lambda: ((c.scores, c.labels) for c in map(reader.read, cases)), options.threads)
        return Evidence(reader, *counted, options, healthy)

    @property
    def patients(self) -> list[str]:
        return self.reader.patients

    @cached_property
    def own_masks(self) -> bool:
        return any(case.native_mask() is not None for case in self.reader.cases)

    @cached_property
    def studies(self) -> Studies:
        return Studies(self.options.study_path, seed=self.options.seed, trials=self.options.trials)

    @cached_property
    def curves(self) -> Curves:
        """Scores of all voxels together."""
        return Curves.of(self.bins, self.counts)

    @cached_property
    def healthy_curves(self) -> Curves | None:
        """Scores of all held-out healthy voxels together; None without any."""
        return healthy_curves(self.healthy)

    @cached_property
    def folds(self) -> list[Fold]:
        return val_folds(self.patients, self.options.fold_seed)

    def tune(
        self, protocol: str, tuned: Sequence[str], applied: Sequence[str], fold: int | None = None
    ) -> tuple[Threshold, float]:
        """Return the best threshold on some patients for others, and how much the bins may hide of its value.

        Smoothing and minimum size are tried on at most 20 patients with a lesion, drawn by ``fold_seed``. Their trials
        are worth the plain optimum over all tuned patients plus what they gain over the plain optimum of the drawn
        ones. ``val`` and ``oracle`` share this search; they differ in whose labels they see.
        """
        asked = Threshold(
            protocol=protocol, fold=fold, threshold=None, patients=list(applied), tuned_on=list(tuned)
        )  # fmt: skip
        plain = self._plain.over(set(tuned))
        if plain is None:
            return asked.model_copy(update={"reason": NO_LESIONS}), 0.0
        drawn, objectives, shift = self._drawn(tuned), {PLAIN: plain}, 0.0
        for post, processed in self._processed.items():
            objective = processed.over(set(drawn))
            assert objective is not None
            objectives[post] = objective
        if set(drawn) != set(self._order) & set(tuned):
            among_drawn = self._plain.over(set(drawn))
            assert among_drawn is not None
            shift = plain.best - among_drawn.best
        asked = asked.model_copy(update={"drawn": sorted(drawn) if self._processed else []})
        found = self.studies.search(asked, objectives, shift)
        return found, objectives[found.smoothing_mm, found.min_size_mm3].bound

    def _drawn(self, patients: Collection[str]) -> list[str]:
        return [p for p in self._order if p in patients][:MAX_DRAWN]

    @cached_property
    def _order(self) -> list[str]:
        """Patients with a lesion, in the order in which they are drawn."""
        cases = zip(self.reader.cases, self.counts, strict=True)
        with_lesion = {case.patient for case, counts in cases if counts.positives}
        return sorted(with_lesion, key=lambda p: (derive(self.options.fold_seed, "validation patients", p), p))

    @property
    def histogram(self) -> ScoreHistogram | None:
        """How the scores are spread, and the mean Dice of all patients at every threshold."""
        plain = self._plain.over(set(self.patients))
        return score_histogram(self.curves, None if plain is None else plain.values)

    @cached_property
    def _plain(self) -> MeanDice:
        return MeanDice.every_cut(self.bins, [case.patient for case in self.reader.cases], self.counts)

    @cached_property
    def _processed(self) -> dict[PostProcessing, MeanDice]:
        """Objectives after post-processing, over the patients that any group draws."""
        sigmas, sizes = self.options.smoothing_mm, self.options.min_size_mm3
        posts = [(s, m) for s in sigmas for m in sizes if (s, m) != PLAIN]
        drawn = {p for group in (self.patients, *(fold.tune for fold in self.folds)) for p in self._drawn(group)}
        if not posts or not drawn:
            return {}
        chosen = [i for i, case in enumerate(self.reader.cases) if case.patient in drawn]
        tried = variants(self.reader, chosen, self.bins, self.counts, sigmas, sizes, self.options.threads)
        return {post: tried[post] for post in posts}


def healthy_curves(healthy: Sequence[np.ndarray]) -> Curves | None:
    """Return the curves of ROI scores (float32) of held-out healthy scans together; None without any."""
    parts = [(s, np.zeros(s.size, bool)) for s in healthy if len(s)]
    return Curves.of(*count_scores(lambda: parts)) if parts else None
