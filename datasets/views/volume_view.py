"""The whole region of interest of a case as one resampled volume."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...common.boxes import bounds
from ..case import Case, Spacing
from .grey_levels import unit_levels
from .slice_geometry import ViewError
from .slice_view import View, apply_slice_view
from .volume_geometry import ViewedCase, VolumeGeometry

_SAME = 1e-4  # spacings this close differ by less than a tenth of a voxel over a slice of 512


@dataclass(frozen=True, kw_only=True)
class VolumeView:
    """A volume of one voxel size with the region of interest in its middle (Yao et al. 2021, §IV-A).

    Steps: window to [0, 1] → resample the unmasked image, averaging by area along an axis that shrinks and linearly
    along one that grows → multiply by the region of interest on the new grid (voxels it covers by at least half).
    Slice views mask first; here the border of the region would then fade towards 0 and look like a lesion's rim.
    The slices cover the region's z range. In-plane its bounding box is centred on the grid and the rest is 0; a region
    larger than the grid enlarges the in-plane spacing of that case just enough.

    Attributes:
        size: in-plane side of the grid in pixels.
        spacing: voxel size in mm, order z, y, x.
        resample_z: False keeps the native slices; ``spacing[0]`` is then not used.
        window: HU mapped to 0 and 1, clipped outside.
        mask_roi: set everything outside the region of interest to 0.
        dtype: ``float32`` or ``float16``; both hold [0, 1].
    """

    size: int = 512
    spacing: Spacing = (1.0, 0.8, 0.8)
    resample_z: bool = True
    window: tuple[float, float] = (-800.0, 100.0)
    mask_roi: bool = True
    dtype: Literal["float32", "float16"] = "float32"


AnyView = View | VolumeView


def volume_geometry(roi: np.ndarray, native_spacing: Spacing, view: VolumeView) -> VolumeGeometry:
    """Lay the grid of a view over a region of interest, bool (z, y, x), with native spacing in mm (z, y, x)."""
    _check(view, native_spacing)
    in_z, in_y, in_x = bounds(roi)
    extents = [(stop - start) * native_spacing[1 + i] for i, (start, stop) in enumerate((in_y, in_x))]
    grow = max(1.0, *(extent / (view.size * view.spacing[1 + i]) for i, extent in enumerate(extents)))
    wanted = (view.spacing[0] if view.resample_z else native_spacing[0], *(grow * s for s in view.spacing[1:]))
    spacing = [
        float(native if abs(t / native - 1) < _SAME else t) for t, native in zip(wanted, native_spacing, strict=True)
    ]
    depth, rows, columns = roi.shape
    z, y, x = (float(s) for s in native_spacing)
    box = (in_z, in_y, in_x)
    return VolumeGeometry((depth, rows, columns), (z, y, x), (spacing[0], spacing[1], spacing[2]), view.size, box)


def apply_volume_view(case: Case, view: VolumeView) -> ViewedCase:
    """Compute a volume view of a case, slab by slab and on one core."""
    roi = np.ascontiguousarray(case.roi, dtype=bool)
    geometry = volume_geometry(roi, case.spacing, view)
    low, high = np.float32(view.window[0]), np.float32(view.window[1])

    def read(z: int, rows: slice, columns: slice) -> np.ndarray:
        source = np.ascontiguousarray(case.image[z, rows, columns])
        out = np.empty(source.shape, np.float32)
        unit_levels(source, low, high, out)
        return out

    image = np.zeros(geometry.view_shape, view.dtype)
    view_roi = geometry.view_roi(roi)
    _, rows, columns = roi.shape
    part = (geometry.box[1], geometry.box[2]) if view.mask_roi else ((0, rows), (0, columns))
    for k, where, values in geometry.planes(read, part):
        np.clip(values, 0, 1, out=values)
        if view.mask_roi:
            values *= view_roi[k][where]
        image[k][where] = values
    return ViewedCase(image, view_roi, geometry.view_support(roi) | view_roi, geometry)


def apply_view(case: Case, view: AnyView) -> ViewedCase:
    """Compute a view of a case (see :func:`.apply_slice_view`, :func:`apply_volume_view`)."""
    return apply_slice_view(case, view) if isinstance(view, View) else apply_volume_view(case, view)


def _check(view: VolumeView, native_spacing: Spacing) -> None:
    if view.size < 1:
        raise ViewError(f"view size {view.size}: use at least 1 pixel")
    if not view.window[0] < view.window[1]:
        raise ViewError(f"window {view.window}: the first value must be below the second")
    if view.dtype not in ("float32", "float16"):
        raise ViewError(f"dtype {view.dtype!r} of a volume view: use float32 or float16")
    for name, spacing in (("view", view.spacing), ("scan", native_spacing)):
        if len(spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing):
            raise ViewError(f"voxel size {tuple(spacing)} of the {name}: give three positive numbers in mm (z, y, x)")
