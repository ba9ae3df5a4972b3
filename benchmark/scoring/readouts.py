"""What is read out of every case of a set with voxel labels: its rows per case, and the rows of the cell at the end."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from ...common.errors import DataError
from ..runs.records import CaseFacts, CaseValue, PooledValue, Threshold
from .bins import Bins, CaseCounts
from .case_facts import case_facts
from .cases import CroppedCase, HealthyMap, ScoredCase
from .detection import LesionWise
from .lesions import Components, ProtocolTotals, TotalsByPatient, confusion
from .metrics import (
    METRICS,
    NO_NATIVE,
    NO_PROTOCOL,
    Aggregate,
    CalledHealthy,
    MaskedCase,
    Metric,
    Needs,
    Undefined,
    Value,
    computed,
)
from .ranking_metrics import Curves, ScoredVoxels, summed
from .surfaces import Surface, SurfaceDistances

BRIGHT_HU = -500.0
_OF_MASKS: tuple[Needs, ...] = ("voxels", "components", "mask", "surfaces", "lesions", "strata")
Applied = Mapping[str, Mapping[str, Threshold]]
"""Protocol → patient → the threshold of that patient's cases."""


@dataclass(frozen=True, eq=False)
class MeasuredCase:
    """A case in memory, with its number in the cell."""

    index: int
    case: ScoredCase
    cropped: CroppedCase

    @property
    def lesion(self) -> np.ndarray:
        """Truth inside the ROI, bool (z, y, x), in sets with voxel labels."""
        assert self.cropped.lesion is not None
        return self.cropped.lesion

    @cached_property
    def lesions(self) -> Components:
        return Components.of(self.lesion)

    @cached_property
    def surface(self) -> Surface:
        """The surface of the truth."""
        return Surface.of(self.lesion, self.cropped.spacing)

    @cached_property
    def image(self) -> np.ndarray:
        """HU in the box of the ROI."""
        return self.case.image()[self.cropped.box]

    @cached_property
    def facts(self) -> CaseFacts:
        """What the case is like."""
        cropped = self.cropped
        assert cropped.slice_labels is not None
        image, lesions = (None, None) if cropped.lesion is None else (self.image, self.lesions)
        organ, slices = self.case.organ()[cropped.box], cropped.slice_labels[cropped.box[0]]
        return case_facts(image, organ, lesions, slices, cropped.spacing)

    @cached_property
    def contrasts(self) -> np.ndarray:
        """Contrast of every lesion without its sign, in units of the organ's noise; NaN where it is unknown."""
        return np.array([lesion.contrast_sd(self.facts.noise_hu) for lesion in self.facts.lesions or ()])


class ReadOut(Protocol):
    """One kind of numbers: cases are added one after the other; ``bounds`` say what the bins may hide of a number."""

    bounds: dict[str, float]

    def add(self, measured: MeasuredCase) -> list[CaseValue]:
        """Count a case and return its rows."""
        ...

    def pooled(self, without: str | None = None) -> list[PooledValue]:
        """Return the rows over the cases added so far, or over those of all patients but one."""
        ...


def case_row(case: ScoredCase, protocol: str, metric: Metric, value: Value) -> CaseValue:
    """Return a value of one case as the record stores it."""
    return CaseValue(case=case.id, patient=case.patient, protocol=protocol, metric=metric.id, **_stored(value))


def pooled_row(protocol: str, metric: Metric, value: Value) -> PooledValue:
    """Return a value of the cell as the record stores it."""
    unit = "slice" if metric.of_slices and metric.needs != "patients" else "pooled"
    return PooledValue(protocol=protocol, metric=metric.id, unit=unit, **_stored(value))


def _stored(value: Value) -> dict:
    return {"value": None, "reason": value.reason} if isinstance(value, Undefined) else {"value": value}


def undefined(needs: Sequence[Needs], aggregate: Aggregate, reason: str | None) -> Iterator[tuple[Metric, Undefined]]:
    """Yield the metrics that a reader must find undefined where nothing could be measured."""
    for metric in METRICS.values():
        if metric.needs in needs and metric.always_listed and metric.has(aggregate):
            yield metric, Undefined(reason or "")


@dataclass(frozen=True, eq=False)
class MeasuredMask:
    """One mask of a case inside the ROI, with the map that it was cut from, and what metrics are given of it."""

    measured: MeasuredCase
    mask: np.ndarray
    map: np.ndarray

    @cached_property
    def parts(self) -> Components:
        return Components.of(self.mask)

    @cached_property
    def totals(self) -> ProtocolTotals:
        lesions, lesion = self.measured.lesions, self.measured.lesion
        false = len(self.parts) - self.parts.touched(lesion)
        components = {"lesions": len(lesions), "found": lesions.touched(self.mask), "false_components": false}
        return confusion(self.mask, lesion, **components)

    @cached_property
    def lesion_wise(self) -> LesionWise:
        ml = np.array([lesion.ml for lesion in self.measured.facts.lesions or ()])
        return LesionWise.of(self.measured.lesions, self.parts, self.map, ml, self.measured.contrasts)

    def evidence(self, needs: Needs) -> object:
        """Return what the metrics of a kind are given."""
        cropped = self.measured.cropped
        if needs == "mask":
            return MaskedCase(self.mask, self.measured.lesion, cropped.spacing, self.totals, len(cropped.scores))
        if needs == "surfaces":
            diagonal = float(np.linalg.norm(np.multiply(self.mask.shape, cropped.spacing)))
            return SurfaceDistances.between(self.measured.surface, Surface.of(self.mask, cropped.spacing), diagonal)
        return self.lesion_wise if needs in ("lesions", "strata") else self.totals


class MaskMetrics:
    """Metrics of the mask under every protocol on the native grid; some use the method's own mask instead.

    ``needs`` says by protocol which kinds of metrics it has.
    """

    def __init__(self, thresholds: Applied, own_mask: Set[str], needs: Mapping[str, Sequence[Needs]]) -> None:
        self.thresholds, self.own_mask = thresholds, own_mask
        self.needs: dict[str, list[Needs]] = {p: [need for need in needs[p] if need in _OF_MASKS] for p in thresholds}
        self.totals = {protocol: TotalsByPatient() for protocol in thresholds}
        self.lesions: dict[str, list[tuple[str, LesionWise]]] = {protocol: [] for protocol in thresholds}
        self.froc: dict[str, list[tuple[float, float]]] = {}
        self.reasons: dict[str, str | None] = {}
        self.dice: list[dict[str, float]] = []  # per protocol of every case with a lesion, empty for the others
        self.bounds: dict[str, float] = {}

    def add(self, measured: MeasuredCase) -> list[CaseValue]:
        rows, dice = [], {}
        masks: dict[tuple[float | None, float, float], MeasuredMask] = {}
        for protocol, by_patient in self.thresholds.items():
            threshold, needs = by_patient[measured.case.patient], self.needs[protocol]
            if protocol in self.own_mask:
                mask = MeasuredMask(measured, _own_mask(measured), measured.cropped.map)
            elif threshold.threshold is None:
                self.reasons[protocol] = threshold.reason
                found = undefined(needs, "case", threshold.reason)
                rows += [case_row(measured.case, protocol, *pair) for pair in found]
                continue
            else:
                key = (threshold.threshold, threshold.smoothing_mm, threshold.min_size_mm3)
                if key not in masks:
                    map_ = measured.cropped.smoothed(threshold)
                    masks[key] = MeasuredMask(measured, measured.cropped.cut(map_, threshold), map_)
                mask = masks[key]
            self.totals[protocol].add(measured.case.patient, mask.totals)
            if "lesions" in needs:
                self.lesions[protocol].append((measured.case.patient, mask.lesion_wise))
            found = (pair for need in needs for pair in computed(need, mask.evidence(need), "case"))
            rows += [case_row(measured.case, protocol, *pair) for pair in found]
            if len(measured.lesions):
                dice[protocol] = METRICS["dice"].value(mask.totals)
        self.dice.append(dice)
        return rows

    def pooled(self, without: str | None = None) -> list[PooledValue]:
        rows = []
        for protocol, by_patient in self.totals.items():
            totals = by_patient.without(without)
            given: dict[Needs, object] = {"voxels": totals, "components": totals}
            if lesions := [found for patient, found in self.lesions[protocol] if patient != without]:
                given |= dict.fromkeys(("lesions", "strata"), joined := LesionWise.joined(lesions))
                if without is None:
                    self.froc[protocol] = joined.curve()
            found = (pair for needs, evidence in given.items() for pair in computed(needs, evidence, "pooled"))
            if protocol in self.reasons:
                found = undefined(self.needs[protocol], "pooled", self.reasons[protocol])
            rows += [pooled_row(protocol, *pair) for pair in found]
        return rows


def _own_mask(measured: MeasuredCase) -> np.ndarray:
    """Return the method's own mask inside the ROI, cropped like the map."""
    mask, cropped, name = measured.case.native_mask(), measured.cropped, f"case {measured.case.id}"
    if mask is None:
        raise DataError(f"{name}: the method's own mask is missing, but other cases have one; map again")
    try:
        return mask[cropped.box] & cropped.roi
    except ValueError:
        raise DataError(f"{name}: the mask has shape {mask.shape}, which is not the map's") from None


class ThresholdFree:
    """Metrics of the scores, which need no threshold."""

    def __init__(self, bins: Bins, counts: Sequence[CaseCounts]) -> None:
        self.bins, self.counts = bins, counts
        self._voxels = summed(bins, counts)
        curves = Curves.of_counts(bins, self._voxels)
        self.bounds = {"auroc": curves.auroc_bound(), "ap": curves.ap_bound()}
        self.bounds |= {"auroc_case": 0.0, "ap_case": 0.0, "auroc_image": 0.0, "auroc_image_case": 0.0}
        self._overlap, self._lesions, self._outside = np.zeros(len(bins)), 0, 0
        self._own: dict[str, list[tuple[CaseCounts, np.ndarray, int, int]]] = {}

    def add(self, measured: MeasuredCase) -> list[CaseValue]:
        counts = self.counts[measured.index]
        curves, own = Curves.of(self.bins, [counts]), np.zeros(len(self.bins))
        if len(measured.lesions):
            cropped = measured.cropped
            np.add.at(own, self.bins.find(cropped.scores[cropped.labels]), measured.lesions.weights())
            self._overlap += own
        self._lesions += len(measured.lesions)
        self._outside += measured.cropped.outside
        scored = ScoredVoxels(curves, own[counts.index], len(measured.lesions), measured.cropped.outside)
        parts = self._own.setdefault(measured.case.patient, [])
        parts.append((counts, scored.overlap, scored.regions, scored.outside))
        bounds = {"auroc": curves.auroc_bound(), "ap": curves.ap_bound(), "auroc_image": scored.images.auroc_bound()}
        self.bounds |= {f"{name}_case": max(self.bounds[f"{name}_case"], bound) for name, bound in bounds.items()}
        return [case_row(measured.case, NO_PROTOCOL, *pair) for pair in computed("scores", scored, "case")]

    def pooled(self, without: str | None = None) -> list[PooledValue]:
        voxels, overlap, lesions, outside = self._voxels.copy(), self._overlap.copy(), self._lesions, self._outside
        for counts, own, n, pixels in [] if without is None else self._own.get(without, []):
            voxels[0, counts.index] -= counts.negative
            voxels[1, counts.index] -= counts.positive
            overlap[counts.index] -= own
            lesions -= n
            outside -= pixels
        curves = Curves.of_counts(self.bins, voxels)
        place = np.searchsorted(self.bins.lower, curves.lower)
        scored = ScoredVoxels(curves, overlap[place], lesions, outside)
        if without is None:
            self.bounds["auroc_image"] = scored.images.auroc_bound()
        return [pooled_row(NO_PROTOCOL, *pair) for pair in computed("scores", scored, "pooled")]


class BrightVoxels:
    """Does the map tell bright lesion voxels from bright healthy ones: rates and area, under two protocols.

    A voxel is called anomalous above the method's own constant, before any post-processing (docs/metrics.md).
    """

    def __init__(self, bins: Bins, native_threshold: float | None, protocols: tuple[str, str]) -> None:
        self.bins, self.native_threshold, self.protocols = bins, native_threshold, protocols
        self.bounds = {"bright_auroc": 0.0}
        self._cases: list[tuple[str, CaseCounts, np.ndarray]] = []

    def add(self, measured: MeasuredCase) -> list[CaseValue]:
        """Count a case and return its values."""
        cropped = measured.cropped
        bright = measured.image[cropped.roi] >= BRIGHT_HU
        scores, lesion = cropped.scores[bright], cropped.labels[bright]
        both = np.bincount(2 * self.bins.find(scores) + lesion, minlength=2 * len(self.bins)).reshape(-1, 2)
        counts = CaseCounts.of(both)
        called = scores > np.float32(np.inf if self.native_threshold is None else self.native_threshold)
        own = np.bincount(2 * lesion + called, minlength=4).reshape(2, 2)
        self._cases.append((measured.case.patient, counts, own))
        curves = Curves.of(self.bins, [counts])
        return [case_row(measured.case, *row) for row in self._rows(own, curves, "case")]

    def pooled(self, without: str | None = None) -> list[PooledValue]:
        chosen = [(counts, own) for patient, counts, own in self._cases if patient != without]
        called = sum((own for _, own in chosen), np.zeros((2, 2), np.int64))
        curves = Curves.of(self.bins, [counts for counts, _ in chosen])
        return [pooled_row(*row) for row in self._rows(called, curves, "pooled")]

    def _rows(self, counts: np.ndarray, curves: Curves, aggregate: Aggregate) -> list[tuple[str, Metric, Value]]:
        self.bounds["bright_auroc"] = max(self.bounds["bright_auroc"], curves.auroc_bound())
        native, free = self.protocols
        rates = [(native, *pair) for pair in computed("bright voxels", counts, aggregate)]
        if self.native_threshold is None:
            rates = [(native, *pair) for pair in undefined(("bright voxels",), aggregate, NO_NATIVE)]
        return [*rates, *((free, *pair) for pair in computed("bright scores", curves, aggregate))]


def healthy_scans(healthy: Sequence[HealthyMap], thresholds: Applied) -> list[PooledValue]:
    """Return what is called in held-out healthy scans; a tuned protocol's folds are averaged."""
    scans: dict[str, list[CalledHealthy]] = {protocol: [] for protocol in thresholds}
    for part in healthy:
        cropped = part.open()
        for protocol, by_patient in thresholds.items():
            folds = {(t.fold, t.threshold): t for t in by_patient.values() if t.threshold is not None}
            masks = [np.count_nonzero(cropped.binarise(t)) for t in folds.values()]
            if masks:
                scans[protocol].append(CalledHealthy(len(cropped.scores), float(np.mean(masks)), cropped.spacing))
    return [pooled_row(p, *pair) for p, found in scans.items() for pair in computed("healthy scans", found, "pooled")]
