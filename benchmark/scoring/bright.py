"""The bright-voxel read-out: does the map tell bright lesion voxels from bright healthy ones (docs/metrics.md).

As in Yao et al. 2021, Table II, the positive class is *healthy*: the paper's network recognises normal bright tissue.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..runs.records import CaseValue, PooledValue
from .bins import Bins, CaseCounts
from .cases import Opened, Source
from .ranking_metrics import Curves

BRIGHT_HU = -500.0
RATES = ("bright_psc", "bright_sen", "bright_spe")
AUROC = "bright_auroc"
NO_NATIVE = "the method has no native threshold"
ONE_CLASS = "the bright voxels do not hold both classes"
NO_HEALTHY = "no bright healthy voxel"
NO_LESION = "no bright lesion voxel"


@dataclass
class BrightCounts:
    """Bright voxels of the region of interest by class and by what the method calls them."""

    healthy_kept: int = 0
    healthy_called: int = 0
    lesion_kept: int = 0
    lesion_called: int = 0

    def __add__(self, other: BrightCounts) -> BrightCounts:
        return BrightCounts(
            self.healthy_kept + other.healthy_kept,
            self.healthy_called + other.healthy_called,
            self.lesion_kept + other.lesion_kept,
            self.lesion_called + other.lesion_called,
        )

    @classmethod
    def of(cls, called: np.ndarray, lesion: np.ndarray) -> BrightCounts:
        """Count two bool arrays of the bright voxels: called anomalous, and lesion in truth."""
        kept = np.bincount(lesion[~called], minlength=2)
        found = np.bincount(lesion[called], minlength=2)
        return cls(int(kept[0]), int(found[0]), int(kept[1]), int(found[1]))

    def rates(self) -> dict[str, tuple[float | None, str]]:
        """Return precision, sensitivity and specificity of *healthy*, None with the reason where undefined.

        With both classes present and nothing kept as healthy, precision is 0.
        """
        healthy, lesion = self.healthy_kept + self.healthy_called, self.lesion_kept + self.lesion_called
        kept = self.healthy_kept + self.lesion_kept
        return {
            "bright_psc": ((self.healthy_kept / kept if kept else 0.0) if healthy and lesion else None, ONE_CLASS),
            "bright_sen": (self.healthy_kept / healthy if healthy else None, NO_HEALTHY),
            "bright_spe": (self.lesion_called / lesion if lesion else None, NO_LESION),
        }


@dataclass
class BrightVoxels:
    """Collects the bright voxels of a cell, one case at a time.

    Attributes:
        bins: the cell's bins.
        native_threshold: the method's own constant; a voxel is called anomalous above it, before any post-processing.
        bound: the largest difference of an AUROC to that of the unbinned scores.
    """

    bins: Bins
    native_threshold: float | None
    bound: float = 0.0
    _total: BrightCounts = field(default_factory=BrightCounts)
    _cases: list[CaseCounts] = field(default_factory=list)

    def add(self, source: Source, opened: Opened) -> list[CaseValue]:
        """Count a case and return its values; the scan is read and dropped."""
        bright = source.image()[opened.box][opened.roi] >= BRIGHT_HU
        scores, lesion = opened.scores[bright], opened.labels[bright]
        both = np.bincount(2 * self.bins.find(scores) + lesion, minlength=2 * len(self.bins)).reshape(-1, 2)
        index = np.flatnonzero(both.any(axis=1))
        counts = CaseCounts(index, both[index, 0], both[index, 1])
        self._cases.append(counts)
        own = BrightCounts()
        if self.native_threshold is not None:
            own = BrightCounts.of(scores > np.float32(self.native_threshold), lesion)
            self._total += own
        values = self._values(own, Curves.of_case(self.bins, counts))
        return [CaseValue(case=source.id, patient=source.patient, **value) for value in values]

    def pooled(self) -> list[PooledValue]:
        """Return the values over all voxels of the cases added so far."""
        values = self._values(self._total, Curves.of(self.bins, self._cases))
        return [PooledValue(unit="pooled", **value) for value in values]

    def _values(self, counts: BrightCounts, curves: Curves) -> list[dict]:
        self.bound = max(self.bound, curves.auroc_bound())
        rates = dict.fromkeys(RATES, (None, NO_NATIVE)) if self.native_threshold is None else counts.rates()
        found = [("native", metric, *rates[metric]) for metric in RATES]
        found.append(("none", AUROC, curves.auroc(), ONE_CLASS))
        return [
            {"protocol": protocol, "metric": metric, "value": value, "reason": why if value is None else None}
            for protocol, metric, value, why in found
        ]
