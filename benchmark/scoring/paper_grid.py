"""The liver paper's evaluation grid: 256² slices, truth resized bicubically and kept above 0.1 (docs/protocols.md)."""

import numpy as np

from ...datasets.views.slice_geometry import Geometry, resize
from ..runs.records import CaseValue, PooledValue, Threshold
from .cases import ScoredCase
from .lesions import ProtocolTotals, TotalsByPatient, confusion
from .metrics import computed
from .readouts import MeasuredCase, pooled_row, undefined

SIZE = 256


class PaperGrid:
    """Voxel counts of all slices of a cell on the paper's grid, under one protocol."""

    def __init__(self, threshold: Threshold) -> None:
        self.threshold = threshold
        self.bounds: dict[str, float] = {}
        self._totals = TotalsByPatient()

    def add(self, measured: MeasuredCase) -> list[CaseValue]:
        """Count a case; the paper pools slices, so there are no rows per case."""
        if self.threshold.threshold is not None:
            self._totals.add(measured.case.patient, paper_confusion(measured.case, self.threshold.threshold))
        return []

    def pooled(self, without: str | None = None) -> list[PooledValue]:
        found = computed("voxels", self._totals.without(without), "pooled")
        if self.threshold.threshold is None:
            found = undefined(("voxels",), "pooled", self.threshold.reason)
        return [pooled_row(self.threshold.protocol, *pair) for pair in found]


def paper_confusion(case: ScoredCase, threshold: float) -> ProtocolTotals:
    """Count the pixels of all ROI slices of a case on the paper's grid.

    A map made on whole slices of 256² is read as it is; any other is resized from the native grid (by area where it
    shrinks, bilinearly where it grows), as 0 outside the ROI.
    """
    roi, lesion = case.roi(), case.load_truth().lesion
    assert lesion is not None
    map_, geometry = case.made()
    if not isinstance(geometry, Geometry) or (geometry.size, geometry.square) != (SIZE, None):
        depth, rows, columns = roi.shape
        slices = tuple(int(z) for z in np.flatnonzero(roi.any(axis=(1, 2))))
        geometry = Geometry((depth, rows, columns), slices, SIZE)
        native, map_ = np.where(roi, case.native_map(), np.float32(0)), np.empty(geometry.view_shape, np.float32)
        taps = geometry.taps("area" if geometry.side > SIZE else "bilinear")
        for k, z in enumerate(slices):
            resize(taps, native[z], ((0, rows), (0, columns)), map_[k])
    seen = geometry.view_support(roi) | geometry.view_roi(roi)
    return confusion((map_ > np.float32(threshold)) & seen, geometry.mask_to_view(lesion & roi, "cubic>0.1"))
