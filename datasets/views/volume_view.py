"""The whole region of interest of a case as one resampled volume."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...common.boxes import bounds
from ..case import Case, Spacing
from .slice_geometry import ViewError, check_size, check_window
from .slice_view import View, apply_slice_view, check_slice_view
from .volume_geometry import ViewedCase, VolumeGeometry

LEAST_MM = 0.05  # of a view's voxels; finer ones than any scanner's fill the memory and show nothing
_SAME = 1e-4  # spacings this close differ by less than a tenth of a voxel over a slice of 512


@dataclass(frozen=True, kw_only=True)
class VolumeView:
    """A volume of one voxel size with the region of interest in its middle (Yao et al. 2021, §IV-A).

    Steps: resample the unmasked HU, averaging by area along an axis that shrinks and linearly along one that grows →
    window to [0, 1] → multiply by the region of interest on the new grid (voxels it covers by at least half) → average
    ``reduce`` × ``reduce`` pixels. Slice views mask first; here the border of the region would then fade towards 0 and
    look like a lesion's rim. The slices cover the region's z range. In-plane its bounding box is centred on the grid
    and the rest is 0; a region larger than the grid enlarges the in-plane spacing of that case just enough.

    Attributes:
        size: in-plane side of the view in pixels.
        spacing: voxel size of the resampled grid in mm, order z, y, x.
        reduce: in-plane pixels of that grid, per axis, of which a pixel of the view is the mean; its side is
            ``size · reduce``.
        resample_z: False keeps the native slices; ``spacing[0]`` is then not used.
        window: HU mapped to 0 and 1, clipped outside.
        mask_roi: set everything outside the region of interest to 0. Without, the way back covers whole slices.
        dtype: ``float32`` or ``float16``; both hold [0, 1].
    """

    size: int = 512
    spacing: Spacing = (1.0, 0.8, 0.8)
    reduce: int = 1
    resample_z: bool = True
    window: tuple[float, float] = (-800.0, 100.0)
    mask_roi: bool = True
    dtype: Literal["float32", "float16"] = "float32"


AnyView = View | VolumeView


def volume_geometry(roi: np.ndarray, native_spacing: Spacing, view: VolumeView) -> VolumeGeometry:
    """Lay the grid of a view over a region of interest, bool (z, y, x), with native spacing in mm (z, y, x)."""
    check_view(view)
    _check_spacing("scan", native_spacing)
    in_z, in_y, in_x = bounds(roi)
    extents = [(stop - start) * native_spacing[1 + i] for i, (start, stop) in enumerate((in_y, in_x))]
    side = view.size * view.reduce
    grow = max(1.0, *(extent / (side * view.spacing[1 + i]) for i, extent in enumerate(extents)))
    wanted = (view.spacing[0] if view.resample_z else native_spacing[0], *(grow * s for s in view.spacing[1:]))
    fine = [
        float(native if abs(t / native - 1) < _SAME else t) for t, native in zip(wanted, native_spacing, strict=True)
    ]
    depth, rows, columns = roi.shape
    z, y, x = (float(s) for s in native_spacing)
    return VolumeGeometry(
        native_shape=(depth, rows, columns),
        native_spacing=(z, y, x),
        spacing=(fine[0], view.reduce * fine[1], view.reduce * fine[2]),
        size=view.size,
        box=(in_z, in_y, in_x),
        reduce=view.reduce,
        whole=not view.mask_roi,
    )


def apply_volume_view(case: Case, view: VolumeView) -> ViewedCase:
    """Compute a volume view of a case, slab by slab and on one core."""
    roi = np.ascontiguousarray(case.roi, dtype=bool)
    geometry = volume_geometry(roi, case.spacing, view)
    fine = (
        geometry
        if view.reduce == 1
        else volume_geometry(roi, case.spacing, replace(view, size=view.size * view.reduce, reduce=1))
    )
    low, high = np.float32(view.window[0]), np.float32(view.window[1])

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        # Counted from the window's lower end, so that what lies in the padding is 0.
        return np.subtract(case.image[z, rows, columns], low, dtype=np.float32)

    image = np.zeros(geometry.view_shape, view.dtype)
    view_roi = geometry.view_roi(roi)
    fine_roi = view_roi if fine is geometry else fine.view_roi(roi)
    plane = np.empty(fine.view_shape[1:], np.float32)
    _, rows, columns = roi.shape
    part = (geometry.box[1], geometry.box[2]) if view.mask_roi else ((0, rows), (0, columns))
    for k, where, values in fine.planes(read, part):
        values /= high - low
        np.clip(values, 0, 1, out=values)
        if view.mask_roi:
            values *= fine_roi[k][where]
        if fine is geometry:
            image[k][where] = values
            continue
        plane.fill(0)
        plane[where] = values
        image[k] = plane.reshape(view.size, view.reduce, view.size, view.reduce).mean(axis=(1, 3))
    return ViewedCase(image, view_roi, geometry.view_support(roi) | view_roi, geometry)


def apply_view(case: Case, view: AnyView) -> ViewedCase:
    """Compute a view of a case (see :func:`.apply_slice_view`, :func:`apply_volume_view`)."""
    return apply_slice_view(case, view) if isinstance(view, View) else apply_volume_view(case, view)


def check_view(view: AnyView) -> None:
    """Refuse a view that no scan can be seen through.

    Raises:
        ViewError: a size, voxel size, window or dtype that no view can have.
    """
    if isinstance(view, View):
        check_slice_view(view)
        return
    if view.reduce < 1:
        raise ViewError(f"reduce {view.reduce}: use at least 1 pixel")
    check_size(view.size)
    check_size(view.size * view.reduce)
    check_window(view.window)
    if view.dtype not in ("float32", "float16"):
        raise ViewError(f"dtype {view.dtype!r} of a volume view: use float32 or float16")
    _check_spacing("view", view.spacing)
    if min(view.spacing) < LEAST_MM:
        raise ViewError(f"voxel size {view.spacing} of the view: use at least {LEAST_MM} mm")


def _check_spacing(name: str, spacing: Spacing) -> None:
    if len(spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ViewError(f"voxel size {tuple(spacing)} of the {name}: give three positive numbers in mm (z, y, x)")
