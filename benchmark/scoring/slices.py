"""Slice-level detection: how a map becomes one number per slice, and whether that tells slices with a lesion apart."""

import math
from collections.abc import Mapping

import numpy as np

from ...methods.card import SliceScore
from ..runs.records import CaseValue, PooledValue
from .metrics import NO_PROTOCOL, Aggregate, CalledSlices, computed
from .ranking_metrics import sorted_curves
from .readouts import MeasuredCase, case_row, pooled_row, undefined

NO_CALIBRATION = "no held-out healthy scans to calibrate on"


def slice_scores(map_: np.ndarray, roi: np.ndarray, how: SliceScore) -> tuple[np.ndarray, np.ndarray]:
    """Return z (int64) and score (float32) of every slice that shows the ROI, from the map (z, y, x) inside it.

    The rules are ``max``; ``mean``; ``top1%``, the mean of the highest hundredth of the voxels (at least one);
    ``("meanpool", k)``, the highest mean over k × k pixels (pixels outside the ROI count as 0, as in DRAEM).
    """
    z = np.flatnonzero(roi.any(axis=(1, 2)))
    return z, np.array([_score(map_[k], roi[k], how) for k in z], np.float32)


def _score(image: np.ndarray, roi: np.ndarray, how: SliceScore) -> float:
    if isinstance(how, tuple):
        from scipy.ndimage import uniform_filter

        pooled = uniform_filter(np.where(roi, image, 0).astype(np.float64), how[1], mode="constant")
        return float(pooled[roi].max())
    values = image[roi]
    if how == "max":
        return float(values.max())
    if how == "mean":
        return float(values.mean(dtype=np.float64))
    count = max(1, math.ceil(len(values) / 100))
    return float(np.partition(values, len(values) - count)[len(values) - count :].mean(dtype=np.float64))


class SliceMetrics:
    """Metrics of the slices that show the ROI; voxel labels and slice labels serve alike.

    A slice is called above a quantile, by protocol, of the slice scores of held-out healthy scans (empty without any).
    """

    def __init__(self, how: SliceScore, calibration: np.ndarray, quantiles: Mapping[str, float]) -> None:
        self.how = how
        healthy = sorted_curves(calibration, np.zeros(len(calibration), bool))
        self.thresholds = {
            protocol: healthy.threshold(healthy.cut_at(q)) if len(calibration) else None
            for protocol, q in quantiles.items()
        }
        self.bounds: dict[str, float] = {}
        self._slices: list[tuple[str, np.ndarray, np.ndarray]] = []

    def add(self, measured: MeasuredCase) -> list[CaseValue]:
        cropped = measured.cropped
        z, scores = slice_scores(cropped.map, cropped.roi, self.how)
        assert cropped.slice_labels is not None
        labels = cropped.slice_labels[z + cropped.box[0].start]
        self._slices.append((measured.case.patient, scores, labels))
        return [case_row(measured.case, *row) for row in self._rows(scores, labels, "case")]

    def pooled(self, without: str | None = None) -> list[PooledValue]:
        chosen = [found for found in self._slices if found[0] != without]
        scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores, _ in chosen)])
        labels = np.concatenate([np.empty(0, bool), *(labels for *_, labels in chosen)])
        rows = self._rows(scores, labels, "pooled")
        highest: dict[str, tuple[float, bool]] = {}
        for patient, own, shown in chosen:
            if len(own):
                score, ill = highest.get(patient, (-math.inf, False))
                highest[patient] = max(score, float(own.max())), ill or bool(shown.any())
        whole, ill = map(np.array, zip(*highest.values(), strict=True)) if highest else np.empty((2, 0))
        patients = sorted_curves(whole.astype(np.float32), ill.astype(bool))
        rows += [(NO_PROTOCOL, *pair) for pair in computed("patients", patients, "pooled")]
        for protocol, threshold in self.thresholds.items():
            if threshold is not None:
                rows += [(protocol, *pair) for pair in computed("slice threshold", threshold, "pooled")]
        return [pooled_row(*row) for row in rows]

    def _rows(self, scores: np.ndarray, labels: np.ndarray, aggregate: Aggregate) -> list[tuple]:
        rows = [(NO_PROTOCOL, *pair) for pair in computed("slices", sorted_curves(scores, labels), aggregate)]
        for protocol, threshold in self.thresholds.items():
            if threshold is None:
                found = undefined(("called slices",), aggregate, NO_CALIBRATION)
            else:
                called = scores > np.float32(threshold)
                found = computed("called slices", CalledSlices(called, labels), aggregate)
            rows += [(protocol, *pair) for pair in found]
        return rows
