"""Every number of one case: voxel and lesion-wise metrics under each protocol, and the threshold-free ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...common.errors import DataError
from ..runs.records import CaseValue, Threshold
from .bins import Bins, CaseCounts
from .cases import Opened, Source
from .lesions import NO_LESION, Confusion, Lesions, confusion, false_components, millilitres
from .masks import binarise
from .ranking_metrics import Curves, aupro

VOXEL_METRICS = ("dice", "psc", "sen")
FREE_METRICS = ("auroc", "ap", "aupro")
ONE_CLASS = "only one class in the region of interest"


@dataclass
class Under:
    """What the cases of a cell add up to under one protocol."""

    counts: Confusion = field(default_factory=lambda: Confusion(0, 0, 0))
    lesions: int = 0
    found: int = 0
    false_components: int = 0
    cases: int = 0
    reason: str | None = None

    def add(self, counts: Confusion, lesions: int, found: int, false: int) -> None:
        """Add one case."""
        self.counts += counts
        self.lesions += lesions
        self.found += found
        self.false_components += false
        self.cases += 1


@dataclass
class CaseResult:
    """The values of one case, and its Dice per protocol."""

    values: list[CaseValue]
    dice: dict[str, float] = field(default_factory=dict)


def evaluate_case(
    source: Source,
    opened: Opened,
    rules: dict[str, Threshold],
    masked: set[str],
    totals: dict[str, Under],
) -> tuple[CaseResult, Lesions]:
    """Return the values of a case under every protocol and add it to the totals.

    Args:
        source: where the method's own mask comes from.
        opened: map and truth.
        rules: protocol → the threshold that applies to this case's patient.
        masked: protocols that use the method's own mask.
        totals: protocol → sums, changed in place.

    Raises:
        DataError: the method's own mask has another shape.
    """
    assert opened.lesion is not None
    lesions = Lesions.of(opened.lesion)
    result = CaseResult([])
    done: dict[tuple[float | None, float, float], np.ndarray] = {}
    for protocol, rule in rules.items():

        def value(metric: str, number: float | None, reason: str | None = None, protocol: str = protocol) -> None:
            result.values.append(_value(source, protocol, metric, number, reason))

        if rule.threshold is None and protocol not in masked:
            totals[protocol].reason = rule.reason
            for metric in VOXEL_METRICS:
                value(metric, None, rule.reason)
            continue
        if protocol in masked:
            mask = own_mask(source, opened)
        else:
            key = (rule.threshold, rule.smoothing_mm, rule.min_size_mm3)
            mask = done[key] if key in done else done.setdefault(key, binarise(opened, rule))
        counts = confusion(mask, opened.lesion)
        found, false = lesions.found(mask), false_components(mask, opened.lesion)
        totals[protocol].add(counts, len(lesions), found, false)
        for metric, number in counts.rates().items():
            value(metric, number, NO_LESION if number is None else None)
        if len(lesions):
            value("lesion_sen", found / len(lesions))
            result.dice[protocol] = counts.rates()["dice"] or 0.0
        else:
            value("lesion_sen", None, NO_LESION)
            value("fp_volume_ml", millilitres(counts.fp, opened.spacing))
        value("fp_components", float(false))
    return result, lesions


def threshold_free(
    source: Source, opened: Opened, bins: Bins, counts: CaseCounts, lesions: Lesions, overlap: np.ndarray
) -> tuple[list[CaseValue], Curves]:
    """Return AUROC, AP and AUPRO of a case, and add its lesions to ``overlap`` (float64, one per bin)."""
    curves = Curves.of_case(bins, counts)
    own = np.zeros(len(bins))
    if len(lesions):
        np.add.at(own, bins.find(opened.scores[opened.labels]), lesions.weights())
        overlap += own
    numbers = {"auroc": curves.auroc(), "ap": curves.ap(), "aupro": aupro(curves, own[counts.index], len(lesions))}
    reason = ONE_CLASS if curves.positives else NO_LESION
    return [_value(source, "none", m, v, reason if v is None else None) for m, v in numbers.items()], curves


def own_mask(source: Source, opened: Opened) -> np.ndarray:
    """Return the method's own mask inside the ROI, cropped like the map.

    Raises:
        DataError: it has another shape than the map, or is missing.
    """
    mask = source.native_mask()
    if mask is None:
        raise DataError(f"case {source.id}: the method's own mask is missing, but other cases have one; map again")
    try:
        return mask[opened.box] & opened.roi
    except ValueError:
        raise DataError(f"case {source.id}: the mask has shape {mask.shape}, which is not the map's") from None


def _value(source: Source, protocol: str, metric: str, value: float | None, reason: str | None) -> CaseValue:
    return CaseValue(
        case=source.id, patient=source.patient, protocol=protocol, metric=metric, value=value, reason=reason
    )
