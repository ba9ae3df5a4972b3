"""Where a threshold comes from (docs/protocols.md). Every function returns thresholds as the record stores them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...datasets.splits import no_folds_reason
from ..runs.records import Threshold
from ..scoring.bright import NO_NATIVE
from ..scoring.ranking_metrics import Curves, quantile_thresholds
from .counted import Counted
from .objective import pooled_dice
from .tuner import NO_LESIONS, Tuner
from .tuning import PLAIN, Space, Studies

NATIVE, VAL, ORACLE, ORACLE_POOLED, PAPER_LIVER, PAPER_LUNG, NONE = (
    "native", "val", "oracle", "oracle-pooled", "paper-liver", "paper-lung", "none",
)  # fmt: skip
HEALTHY = {"healthy-q95": 0.95, "healthy-q99": 0.99}
COMMON = (NATIVE, *HEALTHY, VAL, ORACLE, ORACLE_POOLED)
PAPER = {"liver": PAPER_LIVER, "lung": PAPER_LUNG}
PAPER_THRESHOLD = 0.5

OWN_MASK = "the mask is the method's own"
NO_CALIBRATION = "no held-out healthy scans to calibrate on"


def protocols_of(anatomy: str) -> tuple[str, ...]:
    """Return the protocols of a task; a paper's own applies to the anatomy of that paper alone.

    >>> protocols_of("lung")[-1]
    'paper-lung'
    """
    return (*COMMON, *([PAPER[anatomy]] if anatomy in PAPER else []))


def native(value: float | None, patients: list[str]) -> Threshold:
    """Return the method's own constant."""
    return Threshold(protocol=NATIVE, threshold=value, patients=patients, reason=NO_NATIVE if value is None else None)


def paper_liver(native_threshold: float | None, patients: list[str]) -> Threshold:
    """Return 0.5 for methods that own a threshold (docs/methods/two-stage.md)."""
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


def val(tuner: Tuner) -> list[Threshold]:
    """Return one threshold per fold, tuned on the other folds' patients together with smoothing and minimum size."""
    patients = tuner.patients
    if not tuner.folds:
        return [Threshold(protocol=VAL, threshold=None, patients=patients, reason=no_folds_reason(patients))]
    return [tuner.tune(VAL, tuned=f.tune, applied=f.apply, fold=f.index)[0] for f in tuner.folds]


def oracle(tuner: Tuner) -> tuple[Threshold, float]:
    """Return what ``val`` searches for, tuned on all test patients, and how much the bins may hide of its value."""
    return tuner.tune(ORACLE, tuned=tuner.patients, applied=tuner.patients)


def oracle_pooled(counted: Counted, studies: Studies) -> tuple[Threshold, float]:
    """Return the threshold with the best pooled Dice on all test patients, and how much the bins may hide of it."""
    patients = counted.patients
    objective = pooled_dice(Curves.of(counted.bins, counted.counts))
    if objective is None:
        return Threshold(protocol=ORACLE_POOLED, threshold=None, patients=patients, reason=NO_LESIONS), 0.0
    found = studies.search(ORACLE_POOLED, Space({PLAIN: objective}))
    return found.record(ORACLE_POOLED, patients=patients, tuned_on=patients), objective.bound
