"""The liver paper's evaluation grid: 256² slices, truth resized bicubically and kept above 0.1 (docs/protocols.md)."""

from __future__ import annotations

import numpy as np

from ...datasets.views.resize import resample, resize_taps
from ...datasets.views.slice_geometry import Geometry
from .cases import Source
from .lesions import Confusion, confusion

SIZE = 256


def paper_confusion(source: Source, threshold: float) -> Confusion:
    """Count the pixels of all ROI slices of a case on the paper's grid.

    A map made on 256² slices is read as it is; any other is resized from the native grid (by area where it shrinks,
    bilinearly where it grows), as 0 outside the ROI.
    """
    roi, lesion = source.roi(), source.load_truth().lesion
    assert lesion is not None
    on_view = source.view_map()
    if on_view is not None and isinstance(on_view[1], Geometry) and on_view[1].size == SIZE:
        map_, geometry = on_view[0], on_view[1]
    else:
        depth, rows, columns = roi.shape
        slices = tuple(int(z) for z in np.flatnonzero(roi.any(axis=(1, 2))))
        geometry = Geometry((depth, rows, columns), slices, SIZE)
        map_ = _shrunk(np.where(roi, source.native_map(), np.float32(0)), geometry)
    seen = geometry.view_support(roi) | geometry.view_roi(roi)
    return confusion((map_ > np.float32(threshold)) & seen, geometry.mask_to_view(lesion & roi, "cubic>0.1"))


def _shrunk(map_: np.ndarray, geometry: Geometry) -> np.ndarray:
    filter_ = "area" if geometry.size < geometry.side else "bilinear"
    (top, left), (_, rows, columns) = geometry.padding, geometry.native_shape
    down = resize_taps(geometry.side, geometry.size, top, rows, filter_)
    across = resize_taps(geometry.side, geometry.size, left, columns, filter_)
    out = np.empty(geometry.view_shape, np.float32)
    for k, z in enumerate(geometry.slices):
        resample(
            np.ascontiguousarray(map_[z]), down.start, down.count, down.weight,
            across.start, across.count, across.weight, 0, rows, 0, columns, out[k],
        )  # fmt: skip
    return out
