"""Axial slices of the region of interest on a square grid."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...common.boxes import bounds
from ..case import Case
from .grey_levels import eight_bit_levels, equalise_in_place, unit_levels
from .slice_geometry import Geometry, ViewError, check_size, check_window, resize
from .volume_geometry import ViewedCase


@dataclass(frozen=True, kw_only=True)
class View:
    """Axial slices of the region of interest on a square grid.

    Steps, in this order: window → grey levels → ROI masking → equalisation → pad or cut to a square → resize.
    Only slices with at least one ROI voxel are kept.

    Attributes:
        size: in-plane size of the square grid in pixels.
        window: HU mapped to the ends of the grey range, clipped outside; None with ``grey="slice"`` means no clipping.
        grey: ``linear`` uses the window as fixed bounds; ``slice`` stretches each full slice from its minimum to its
            maximum (docs/methods/two-stage.md).
        mask_roi: set everything outside the region of interest to 0.
        equalise: histogram equalisation inside the ROI (docs/methods/two-stage.md; implies 8-bit grey levels).
        dtype: ``float32`` holds [0, 1]; ``uint8`` holds 0 … 255.
        resize: ``linear`` averages by area when it shrinks and interpolates bilinearly when it enlarges; ``cubic`` is
            the anti-aliased bicubic filter of the liver paper's loader.
        field_of_view: side in mm of a square, the same for all slices of a case, that has the bounding box of the
            region of interest in its middle and grows until it holds it. None shows whole slices, padded to a square.
    """

    size: int = 256
    window: tuple[float, float] | None = (-200.0, 250.0)
    grey: Literal["linear", "slice"] = "linear"
    mask_roi: bool = True
    equalise: bool = False
    dtype: Literal["float32", "uint8"] = "float32"
    resize: Literal["linear", "cubic"] = "linear"
    field_of_view: float | None = None


def apply_slice_view(case: Case, view: View) -> ViewedCase:
    """Compute the slices of a view, one by one and on one core.

    With ``equalise`` or ``grey="slice"`` grey levels are 8-bit before the resize. ``grey="slice"`` follows the liver
    paper's image files: level = min(floor(256 · x), 255) with x stretched over the full slice; a constant slice is 0.
    With ``equalise`` and without ``mask_roi``, grey levels outside the region of interest stay unequalised.

    Raises:
        ViewError: the view has no window where it needs one, an empty window, a size below 1 or no field of view.
    """
    check_slice_view(view)
    roi = np.ascontiguousarray(case.roi, dtype=bool)
    slices = tuple(int(z) for z in np.flatnonzero(roi.any(axis=(1, 2))))
    depth, rows, columns = roi.shape
    geometry = Geometry((depth, rows, columns), slices, view.size, _square(case, view))
    filter_ = "cubic" if view.resize == "cubic" else "area" if view.size < geometry.side else "bilinear"
    taps = geometry.taps(filter_)

    image = np.empty(geometry.view_shape, view.dtype)
    eight_bit = view.equalise or view.grey == "slice"
    grey = np.empty((rows, columns), np.uint8 if eight_bit else np.float32)
    small = np.empty((view.size, view.size), np.float32)
    for k, z in enumerate(slices):
        source = np.ascontiguousarray(case.image[z])
        low, high = _bounds(source, view)
        if eight_bit:
            eight_bit_levels(source, low, high, view.grey == "slice", grey)
        else:
            unit_levels(source, low, high, grey)
        if view.equalise:
            equalise_in_place(grey, roi[z])
        box = ((0, rows), (0, columns))
        if view.mask_roi:
            grey *= roi[z]
            box = bounds(roi[z])
        resize(taps, grey, box, small)
        _store(small, 255 if eight_bit else 1, image[k])

    view_roi = geometry.view_roi(roi)
    return ViewedCase(image, view_roi, geometry.view_support(roi) | view_roi, geometry)


def _square(case: Case, view: View) -> tuple[int, int, int] | None:
    if view.field_of_view is None:
        return None
    _, *in_plane = bounds(case.roi)
    side = max(round(view.field_of_view / min(case.spacing[1:])), *(stop - start for start, stop in in_plane))
    top, left = ((start + stop - side) // 2 for start, stop in in_plane)
    return top, left, side


def check_slice_view(view: View) -> None:
    """Refuse a view that no scan can be seen through.

    Raises:
        ViewError: as :func:`apply_slice_view`.
    """
    check_size(view.size)
    if view.field_of_view is not None and not 0 < view.field_of_view < math.inf:
        raise ViewError(f"field_of_view {view.field_of_view}: use more than 0 mm")
    if view.window is None and view.grey == "linear":
        raise ViewError('a view without a window needs grey="slice"; give a window in HU, such as (-200, 250)')
    if view.window is not None:
        check_window(view.window)


def _bounds(source: np.ndarray, view: View) -> tuple[np.float32, np.float32]:
    if view.grey == "linear":
        assert view.window is not None
        return np.float32(view.window[0]), np.float32(view.window[1])
    low, high = np.float32(source.min()), np.float32(source.max())
    if view.window is not None:
        low, high = np.clip(low, *view.window), np.clip(high, *view.window)
    return np.float32(low), np.float32(high)


def _store(grey: np.ndarray, top: int, out: np.ndarray) -> None:
    whole = out.dtype == np.uint8
    highest = np.float32(255 if whole else 1)
    if highest != top:
        grey *= highest / np.float32(top)
    np.clip(grey, 0, highest, out=grey)
    if whole:
        np.rint(grey, out=grey)
    out[...] = grey
