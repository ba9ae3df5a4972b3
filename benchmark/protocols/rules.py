"""Where a threshold comes from (docs/protocols.md). Every function returns thresholds as the record stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...datasets.seeds import derive
from ...datasets.splits import no_folds_reason, val_folds
from ..runs.records import Threshold
from ..scoring.bins import Bins, CaseCounts
from ..scoring.bright import NO_NATIVE
from ..scoring.cases import Reader
from ..scoring.curves import Curves, quantile_thresholds
from .objective import MeanDice, PatientCase, pooled_dice
from .tuning import PLAIN, Found, Space, Studies
from .variants import variants

NATIVE, VAL, ORACLE, ORACLE_POOLED, PAPER_LIVER, PAPER_LUNG, NONE = (
    "native", "val", "oracle", "oracle-pooled", "paper-liver", "paper-lung", "none",
)  # fmt: skip
HEALTHY = {"healthy-q95": 0.95, "healthy-q99": 0.99}
COMMON = (NATIVE, *HEALTHY, VAL, ORACLE, ORACLE_POOLED)
PAPER = {"liver": PAPER_LIVER, "lung": PAPER_LUNG}
SMOOTHING_MM = (0.0, 1.5, 3.0)
MIN_SIZE_MM3 = (0.0, 10.0, 50.0, 200.0)
MAX_DRAWN = 20
PAPER_THRESHOLD = 0.5

OWN_MASK = "the mask is the method's own"
NO_CALIBRATION = "no held-out healthy scans to calibrate on"
NO_LESIONS = "no patient with a lesion to tune on"


def protocols_of(anatomy: str) -> tuple[str, ...]:
    """Return the protocols of a task; a paper's own applies to the anatomy of that paper alone.

    >>> protocols_of("lung")[-1]
    'paper-lung'
    """
    return (*COMMON, *([PAPER[anatomy]] if anatomy in PAPER else []))


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


def native(value: float | None, patients: list[str]) -> Threshold:
    """Return the method's own constant."""
    return Threshold(protocol=NATIVE, threshold=value, patients=patients, reason=NO_NATIVE if value is None else None)


def paper_liver(native_threshold: float | None, patients: list[str]) -> Threshold:
    """Return 0.5 for methods that own a threshold (docs/methods.md, two-stage)."""
    if native_threshold is None:
        return Threshold(protocol=PAPER_LIVER, threshold=None, patients=patients, reason=NO_NATIVE)
    return Threshold(protocol=PAPER_LIVER, threshold=PAPER_THRESHOLD, patients=patients)


def healthy(scores: Sequence[np.ndarray], patients: list[str]) -> list[Threshold]:
    """Return quantiles of the scores on held-out healthy ROI voxels, all scans together.

    Args:
        scores: float32 (ROI voxels,) per held-out scan; empty where there is no calibration.
        patients: test patients.
    """
    parts = [s for s in scores if len(s)]
    if not parts:
        return [Threshold(protocol=p, threshold=None, patients=patients, reason=NO_CALIBRATION) for p in HEALTHY]
    found = zip(HEALTHY, quantile_thresholds(parts, HEALTHY.values()), strict=True)
    return [Threshold(protocol=p, threshold=t, quantile=share, patients=patients) for p, (t, share) in found]


def oracle(counted: Counted, studies: Studies) -> tuple[Threshold, float]:
    """Return the best threshold on all test patients, and how much the bins may hide of its value."""
    patients = counted.patients
    objective = MeanDice.every_cut(counted.bins, counted.cases).over(set(patients))
    if objective is None:
        return Threshold(protocol=ORACLE, threshold=None, patients=patients, reason=NO_LESIONS), 0.0
    found = studies.search(ORACLE, Space({PLAIN: objective}))
    return _threshold(ORACLE, found, patients, patients), objective.bound


def oracle_pooled(counted: Counted, studies: Studies) -> tuple[Threshold, float]:
    """Return the threshold with the best pooled Dice on all test patients, and how much the bins may hide of it."""
    patients = counted.patients
    objective = pooled_dice(Curves.of(counted.bins, counted.counts))
    if objective is None:
        return Threshold(protocol=ORACLE_POOLED, threshold=None, patients=patients, reason=NO_LESIONS), 0.0
    found = studies.search(ORACLE_POOLED, Space({PLAIN: objective}))
    return _threshold(ORACLE_POOLED, found, patients, patients), objective.bound


def val(
    counted: Counted,
    studies: Studies,
    *,
    fold_seed: int = 0,
    smoothing_mm: Sequence[float] = SMOOTHING_MM,
    min_size_mm3: Sequence[float] = MIN_SIZE_MM3,
    threads: int = 1,
) -> list[Threshold]:
    """Return one threshold per fold, tuned on the other folds' patients together with smoothing and minimum size.

    Smoothing and minimum size are tried on at most 20 patients with a lesion, drawn by ``fold_seed``. Their trials are
    worth the plain optimum over all tuned patients plus what they gain over the plain optimum of the drawn ones.
    """
    patients = counted.patients
    folds = val_folds(patients, fold_seed)
    if not folds:
        return [Threshold(protocol=VAL, threshold=None, patients=patients, reason=no_folds_reason(patients))]
    with_lesion = {c.patient for c in counted.cases if c.counts.positives}
    order = sorted(with_lesion, key=lambda p: (derive(fold_seed, "validation patients", p), p))
    drawn = [[p for p in order if p in fold.tune][:MAX_DRAWN] for fold in folds]
    posts = [(s, m) for s in smoothing_mm for m in min_size_mm3 if (s, m) != PLAIN]
    plain = MeanDice.every_cut(counted.bins, counted.cases)
    processed: dict[tuple[float, float], MeanDice] = {}
    union = {p for names in drawn for p in names}
    if posts and union:
        chosen = [i for i, source in enumerate(counted.reader.sources) if source.patient in union]
        processed = variants(
            counted.reader, chosen, counted.bins, counted.counts,
            sigmas_mm=smoothing_mm, sizes_mm3=min_size_mm3, threads=threads,
        )  # fmt: skip
    thresholds = []
    for fold, names in zip(folds, drawn, strict=True):
        tuned, applied = list(fold.tune), list(fold.apply)
        objective = plain.over(set(tuned))
        if objective is None:
            na = Threshold(protocol=VAL, fold=fold.index, threshold=None, patients=applied, tuned_on=tuned)
            thresholds.append(na.model_copy(update={"reason": NO_LESIONS}))
            continue
        objectives = {PLAIN: objective}
        objectives |= {post: o for post in posts if (o := processed[post].over(set(names))) is not None}
        shift = 0.0
        if set(names) != with_lesion & set(tuned):
            among_drawn = plain.over(set(names))
            assert among_drawn is not None
            shift = objective.best - among_drawn.best
        found = studies.search(f"{VAL}/fold-{fold.index}", Space(objectives, shift))
        threshold = _threshold(VAL, found, applied, tuned)
        extra = {"fold": fold.index, "drawn": sorted(names) if posts else []}
        thresholds.append(threshold.model_copy(update=extra))
    return thresholds


def _threshold(protocol: str, found: Found, patients: list[str], tuned_on: list[str]) -> Threshold:
    return Threshold(
        protocol=protocol,
        threshold=found.threshold,
        quantile=found.quantile,
        smoothing_mm=found.post[0],
        min_size_mm3=found.post[1],
        patients=patients,
        tuned_on=tuned_on,
        value=found.value,
        study=found.study,
        trials=found.trials,
    )
