"""Slice-level detection: does the map tell slices with a lesion from slices without?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...methods.card import SliceScore
from ..runs.records import CaseValue, PooledValue
from .cases import Opened, Source
from .ranking_metrics import Curves, sorted_curves
from .slices import slice_scores

ONE_CLASS = "all slices belong to one class"
NO_TRUTH = "the set has neither voxel nor slice labels"
NO_CALIBRATION = "no held-out healthy scans to calibrate on"


@dataclass(frozen=True, eq=False)
class SliceSet:
    """The slices of one case that show the ROI: float32 scores and bool labels."""

    source: Source
    scores: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, source: Source, opened: Opened, how: SliceScore) -> SliceSet:
        """Score the slices of a case."""
        z, scores = slice_scores(opened.map, opened.roi, how)
        assert opened.slice_labels is not None
        return cls(source, scores, opened.slice_labels[z + opened.box[0].start])


def slice_metrics(
    sets: Sequence[SliceSet], calibration: np.ndarray | None, quantiles: dict[str, float]
) -> tuple[list[CaseValue], list[PooledValue]]:
    """Return slice_auroc and slice_ap per case and pooled, and slice_sen and slice_spe under healthy quantiles.

    Args:
        sets: one per case.
        calibration: slice scores of held-out healthy scans, None where there are none.
        quantiles: protocol → quantile of the healthy slice scores above which a slice is called.
    """
    per_case: list[CaseValue] = []
    for s in sets:
        for metric, value in _areas(sorted_curves(s.scores, s.labels)).items():
            per_case.append(_case(s, "none", metric, value))
    scores, labels = np.concatenate([s.scores for s in sets]), np.concatenate([s.labels for s in sets])
    pooled = [_pooled("none", metric, value) for metric, value in _areas(sorted_curves(scores, labels)).items()]
    for protocol, quantile in quantiles.items():
        if calibration is None or not len(calibration):
            pooled += [_pooled(protocol, m, None, NO_CALIBRATION) for m in ("slice_sen", "slice_spe")]
            per_case += [_case(s, protocol, m, None, NO_CALIBRATION) for s in sets for m in ("slice_sen", "slice_spe")]
            continue
        healthy = sorted_curves(calibration, np.zeros(len(calibration), bool))
        threshold = healthy.threshold(healthy.cut_at(quantile))
        pooled.append(_pooled(protocol, "slice_threshold", threshold))
        for metric, value in _rates(scores, labels, threshold).items():
            pooled.append(_pooled(protocol, metric, value))
        for s in sets:
            for metric, value in _rates(s.scores, s.labels, threshold).items():
                per_case.append(_case(s, protocol, metric, value))
    return per_case, pooled


def _areas(curves: Curves) -> dict[str, float | None]:
    both = curves.positives > 0 and curves.negatives > 0
    return {"slice_auroc": curves.auroc(), "slice_ap": curves.ap() if both else None}


def _rates(scores: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float | None]:
    called = scores > np.float32(threshold)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    return {
        "slice_sen": int((called & labels).sum()) / positives if positives else None,
        "slice_spe": int((~called & ~labels).sum()) / negatives if negatives else None,
    }


def _case(s: SliceSet, protocol: str, metric: str, value: float | None, reason: str = ONE_CLASS) -> CaseValue:
    return CaseValue(
        case=s.source.id,
        patient=s.source.patient,
        protocol=protocol,
        metric=metric,
        value=value,
        reason=reason if value is None else None,
    )


def _pooled(protocol: str, metric: str, value: float | None, reason: str = ONE_CLASS) -> PooledValue:
    return PooledValue(
        protocol=protocol, metric=metric, unit="slice", value=value, reason=reason if value is None else None
    )
