"""Threshold, smoothing and minimum size, tuned together on any group of patients (docs/protocols.md)."""

from collections.abc import Collection, Sequence

from ...common.seeds import derive
from ...datasets.splits import val_folds
from ..runs.records import Threshold
from .inputs import CountedCases, MeasureOptions
from .objective import MeanDice
from .tuning import PLAIN, PostProcessing, SearchSpace, Studies
from .variants import variants

MAX_DRAWN = 20
NO_LESIONS = "no patient with a lesion to tune on"


class Tuner:
    """The search that ``val`` and ``oracle`` share; they differ in whose labels they see.

    Smoothing and minimum size are tried on at most 20 patients with a lesion, drawn by ``fold_seed``. Their trials are
    worth the plain optimum over all tuned patients plus what they gain over the plain optimum of the drawn ones.
    """

    def __init__(self, counted: CountedCases, studies: Studies, options: MeasureOptions) -> None:
        self.patients = counted.patients
        self.folds = val_folds(self.patients, options.fold_seed)
        self._studies = studies
        with_lesion = {c.patient for c in counted.with_patients if c.counts.positives}
        self._order = sorted(with_lesion, key=lambda p: (derive(options.fold_seed, "validation patients", p), p))
        self._plain = MeanDice.every_cut(counted.bins, counted.with_patients)
        posts = [(s, m) for s in options.smoothing_mm for m in options.min_size_mm3 if (s, m) != PLAIN]
        groups = [self.patients, *(fold.tune for fold in self.folds)]
        drawn = {p for group in groups for p in self._drawn(group)}
        self._processed: dict[PostProcessing, MeanDice] = {}
        if posts and drawn:
            chosen = [i for i, case in enumerate(counted.reader.cases) if case.patient in drawn]
            tried = variants(
                counted.reader, chosen, counted.bins, counted.counts,
                sigmas_mm=options.smoothing_mm, sizes_mm3=options.min_size_mm3, threads=options.threads,
            )  # fmt: skip
            self._processed = {post: tried[post] for post in posts}

    def tune(
        self, protocol: str, *, tuned: Sequence[str], applied: Sequence[str], fold: int | None = None
    ) -> tuple[Threshold, float]:
        """Return the best threshold on some patients for others, and how much the bins may hide of its value."""
        plain = self._plain.over(set(tuned))
        if plain is None:
            nobody = Threshold(protocol=protocol, threshold=None, patients=list(applied), tuned_on=list(tuned))
            return nobody.model_copy(update={"fold": fold, "reason": NO_LESIONS}), 0.0
        drawn, objectives, shift = self._drawn(tuned), {PLAIN: plain}, 0.0
        for post, processed in self._processed.items():
            objective = processed.over(set(drawn))
            assert objective is not None
            objectives[post] = objective
        if set(drawn) != set(self._order) & set(tuned):
            among_drawn = self._plain.over(set(drawn))
            assert among_drawn is not None
            shift = plain.best - among_drawn.best
        study = protocol if fold is None else f"{protocol}/fold-{fold}"
        found = self._studies.search(study, SearchSpace(objectives, shift))
        threshold = found.record(protocol, patients=applied, tuned_on=tuned)
        tried_on = sorted(drawn) if self._processed else []
        return threshold.model_copy(update={"fold": fold, "drawn": tried_on}), objectives[found.post].bound

    def _drawn(self, patients: Collection[str]) -> list[str]:
        return [p for p in self._order if p in patients][:MAX_DRAWN]
