"""The bright-voxel read-out: does the map tell bright lesion voxels from bright healthy ones (docs/metrics.md)."""

import numpy as np

from ..runs.records import CaseValue, PooledValue
from .bins import Bins, CaseCounts
from .lesions import BrightCounts
from .metrics import Aggregate, Metric, Value, computed
from .ranking_metrics import Curves
from .readouts import MeasuredCase, case_row, pooled_row

BRIGHT_HU = -500.0


class BrightVoxels:
    """Collects the bright voxels of a cell, one case at a time; the rates and the area stand under two protocols.

    A voxel is called anomalous above the method's own constant, before any post-processing.
    """

    def __init__(self, bins: Bins, native_threshold: float | None, protocols: tuple[str, str]) -> None:
        self.bins, self.native_threshold, self.protocols = bins, native_threshold, protocols
        self.bounds = {"bright_auroc": 0.0}
        self._total = BrightCounts()
        self._cases: list[CaseCounts] = []

    def add(self, measured: MeasuredCase) -> list[CaseValue]:
        """Count a case and return its values; the scan is read and dropped."""
        cropped = measured.cropped
        bright = measured.case.image()[cropped.box][cropped.roi] >= BRIGHT_HU
        scores, lesion = cropped.scores[bright], cropped.labels[bright]
        both = np.bincount(2 * self.bins.find(scores) + lesion, minlength=2 * len(self.bins)).reshape(-1, 2)
        counts = CaseCounts.of(both)
        self._cases.append(counts)
        own = BrightCounts()
        if self.native_threshold is not None:
            own = BrightCounts.of(scores > np.float32(self.native_threshold), lesion)
            self._total += own
        return [case_row(measured.case, *row) for row in self._rows(own, Curves.of_case(self.bins, counts), "case")]

    def pooled(self) -> list[PooledValue]:
        return [pooled_row(*row) for row in self._rows(self._total, Curves.of(self.bins, self._cases), "pooled")]

    def _rows(self, counts: BrightCounts, curves: Curves, aggregate: Aggregate) -> list[tuple[str, Metric, Value]]:
        self.bounds["bright_auroc"] = max(self.bounds["bright_auroc"], curves.auroc_bound())
        called = None if self.native_threshold is None else counts
        evidence = zip(self.protocols, ("bright voxels", "bright scores"), (called, curves), strict=True)
        return [(p, *pair) for p, needs, given in evidence for pair in computed(needs, given, aggregate)]
