"""From a case to the slices that a method sees, and from its map back to the native grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...common.errors import UasbenchError
from ...common.jit import kernel
from ..case import Case
from .equalise import equalise_in_place
from .resize import Taps, back_positions, interpolate_back, nearest_index, resample, resize_taps, touched_pixels
from .view import View

if TYPE_CHECKING:
    from .volume_geometry import AnyGeometry
    from .volume_view import AnyView

MaskRule = Literal["nearest", "any", "area", "cubic>0.1"]


class ViewError(UasbenchError):
    """A view cannot be computed, or an array does not fit its grid."""


@dataclass(frozen=True)
class Geometry:
    """How a view's grid lies on the native grid: the kept slices, centred padding to a square, resize to ``size``.

    Attributes:
        native_shape: shape (z, y, x) of the case.
        slices: native z of each viewed slice, ascending.
        size: in-plane size of the view.
    """

    native_shape: tuple[int, int, int]
    slices: tuple[int, ...]
    size: int

    @property
    def side(self) -> int:
        """Side of the padded native square."""
        return max(self.native_shape[1:])

    @property
    def padding(self) -> tuple[int, int]:
        """Padded pixels above and left of the native slice."""
        _, rows, columns = self.native_shape
        return (self.side - rows) // 2, (self.side - columns) // 2

    @property
    def view_shape(self) -> tuple[int, int, int]:
        """Shape of the view's arrays."""
        return len(self.slices), self.size, self.size

    def to_native(self, map_: np.ndarray) -> np.ndarray:
        """Map a map back to the native grid.

        Args:
            map_: shape :attr:`view_shape`.

        Returns:
            float32, shape :attr:`native_shape`: bilinear inside the viewed slices (the identity where sizes agree), 0
            on the others. Values outside the region of interest mean nothing.

        Raises:
            ViewError: the map has another shape.
        """
        source = self._fitting(map_, self.view_shape).astype(np.float32, copy=False)
        out = np.zeros(self.native_shape, np.float32)
        for k, z in enumerate(self.slices):
            interpolate_back(np.ascontiguousarray(source[k]), *self._back, out[z])
        return out

    def mask_to_native(self, mask: np.ndarray) -> np.ndarray:
        """Map a mask back to the native grid: every voxel reads the pixel that it lies in, False on other slices.

        Raises:
            ViewError: the mask has another shape.
        """
        source = self._fitting(mask, self.view_shape).astype(bool, copy=False)
        (top, left), (_, rows, columns) = self.padding, self.native_shape
        row = (2 * np.arange(top, top + rows) + 1) * self.size // (2 * self.side)
        column = (2 * np.arange(left, left + columns) + 1) * self.size // (2 * self.side)
        out = np.zeros(self.native_shape, bool)
        out[list(self.slices)] = source[:, row[:, None], column[None]]
        return out

    def mask_to_view(self, mask: np.ndarray, how: MaskRule = "nearest") -> np.ndarray:
        """Bring a native mask to the view's grid.

        Args:
            mask: bool, shape :attr:`native_shape`.
            how: ``nearest`` reads the voxel at each pixel's centre; ``any`` keeps a pixel that touches the mask;
                ``area`` one that is at least half covered; ``cubic>0.1`` is the rule of the liver paper's 256² truth,
                which makes lesions slightly larger (docs/methods/two-stage.md).

        Returns:
            bool, shape :attr:`view_shape`.

        Raises:
            ViewError: the mask has another shape, or ``how`` is not one of the rules.
        """
        mask = self._fitting(mask, self.native_shape).astype(bool, copy=False)
        out = np.zeros(self.view_shape, bool)
        if how == "nearest":
            rows, row_inside = self._nearest(0)
            columns, column_inside = self._nearest(1)
            inside = row_inside[:, None] & column_inside[None]
            for k, z in enumerate(self.slices):
                out[k] = mask[z][np.ix_(rows, columns)] & inside
            return out
        if how not in ("any", "area", "cubic>0.1"):
            raise ViewError(f"unknown mask rule {how!r}: use nearest, any, area or cubic>0.1")
        shrinks = self.size < self.side
        taps = self._taps("cubic" if how == "cubic>0.1" else "area" if shrinks or how == "any" else "bilinear")
        threshold = {"any": 0.0, "area": 0.5 - 1e-5, "cubic>0.1": 0.1}[how]
        buffer = np.empty((self.size, self.size), np.float32)
        for k, z in enumerate(self.slices):
            box = _bounding_box(mask[z])
            if box is not None:
                _apply(taps, np.ascontiguousarray(mask[z]).view(np.uint8), box, buffer)
                np.greater(buffer, threshold, out=out[k])
        return out

    def view_roi(self, roi: np.ndarray) -> np.ndarray:
        """Return the region of interest on the view's grid.

        A pixel belongs to it when at least half of its area does; a slice where no pixel reaches half keeps every
        pixel that touches the region, so that no viewed slice is empty.
        """
        out = self.mask_to_view(roi, "area")
        lost = np.flatnonzero(~out.any(axis=(1, 2)))
        if len(lost):
            few = Geometry(self.native_shape, tuple(self.slices[k] for k in lost), self.size)
            out[lost] = few.mask_to_view(roi, "any")
        return out

    def view_support(self, roi: np.ndarray) -> np.ndarray:
        """Return the pixels that :meth:`to_native` reads for the voxels of a native mask."""
        roi = self._fitting(roi, self.native_shape).astype(bool, copy=False)
        out = np.zeros(self.view_shape, bool)
        for k, z in enumerate(self.slices):
            touched_pixels(np.ascontiguousarray(roi[z]), *self._back, out[k])
        return out

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {"native_shape": list(self.native_shape), "slices": list(self.slices), "size": self.size}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Geometry:
        """Read what :meth:`to_json` wrote."""
        depth, rows, columns = (int(n) for n in value["native_shape"])
        return cls((depth, rows, columns), tuple(int(z) for z in value["slices"]), int(value["size"]))

    @cached_property
    def _back(self) -> tuple[np.ndarray, ...]:
        (top, left), (_, rows, columns) = self.padding, self.native_shape
        return *back_positions(self.size, self.side, top, rows), *back_positions(self.size, self.side, left, columns)

    def _taps(self, filter_: Literal["area", "bilinear", "cubic"]) -> tuple[Taps, Taps]:
        (top, left), (_, rows, columns) = self.padding, self.native_shape
        return (
            resize_taps(self.side, self.size, top, rows, filter_),
            resize_taps(self.side, self.size, left, columns, filter_),
        )

    def _nearest(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        length = self.native_shape[1 + axis]
        index = nearest_index(self.side, self.size) - self.padding[axis]
        return np.clip(index, 0, length - 1), (index >= 0) & (index < length)

    @staticmethod
    def _fitting(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if array.shape != shape:
            raise ViewError(f"array of shape {array.shape} does not fit the grid, which has shape {shape}")
        return array


@dataclass(frozen=True, eq=False)
class ViewedCase:
    """A case through a view.

    Attributes:
        image: shape (slices, size, size), in the view's dtype.
        roi: bool, same shape; slices have at least one pixel each (see :meth:`Geometry.view_roi`), volumes may have
            slices without.
        support: bool, same shape: the region of interest and every pixel that mapping back to it reads. A map that is
            kept on these pixels only gives the same native values.
        geometry: the way back to the native grid.
    """

    image: np.ndarray
    roi: np.ndarray
    support: np.ndarray
    geometry: AnyGeometry

    def to_native(self, map_: np.ndarray) -> np.ndarray:
        """Return a map on the native grid (see :meth:`Geometry.to_native`)."""
        return self.geometry.to_native(map_)


def apply_view(case: Case, view: AnyView) -> ViewedCase:
    """Compute a view of a case, slice by slice and on one core; for volumes see :func:`.volume_view.apply_volume_view`.

    With ``equalise`` or ``grey="slice"`` grey levels are 8-bit before the resize. ``grey="slice"`` follows the liver
    paper's image files: level = min(floor(256 · x), 255) with x stretched over the full slice; a constant slice is 0.
    With ``equalise`` and without ``mask_roi``, grey levels outside the region of interest stay unequalised.

    Raises:
        ViewError: the view has no window where it needs one, an empty window, or a size below 1.
    """
    if not isinstance(view, View):
        from .volume_view import apply_volume_view

        return apply_volume_view(case, view)
    _check(view)
    roi = np.ascontiguousarray(case.roi, dtype=bool)
    slices = tuple(int(z) for z in np.flatnonzero(roi.any(axis=(1, 2))))
    depth, rows, columns = roi.shape
    geometry = Geometry((depth, rows, columns), slices, view.size)
    filter_ = "cubic" if view.resize == "cubic" else "area" if view.size < geometry.side else "bilinear"
    taps = geometry._taps(filter_)

    image = np.empty(geometry.view_shape, view.dtype)
    eight_bit = view.equalise or view.grey == "slice"
    grey = np.empty((rows, columns), np.uint8 if eight_bit else np.float32)
    small = np.empty((view.size, view.size), np.float32)
    for k, z in enumerate(slices):
        source = np.ascontiguousarray(case.image[z])
        low, high = _bounds(source, view)
        if eight_bit:
            _levels(source, low, high, view.grey == "slice", grey)
        else:
            _values(source, low, high, grey)
        if view.equalise:
            equalise_in_place(grey, roi[z])
        box = (0, rows, 0, columns)
        if view.mask_roi:
            grey *= roi[z]
            box = _bounding_box(roi[z]) or box
        _apply(taps, grey, box, small)
        _store(small, 255 if eight_bit else 1, image[k])

    view_roi = geometry.view_roi(roi)
    return ViewedCase(image, view_roi, geometry.view_support(roi) | view_roi, geometry)


def _check(view: View) -> None:
    if view.size < 1:
        raise ViewError(f"view size {view.size}: use at least 1 pixel")
    if view.window is None and view.grey == "linear":
        raise ViewError('a view without a window needs grey="slice"; give a window in HU, such as (-200, 250)')
    if view.window is not None and not view.window[0] < view.window[1]:
        raise ViewError(f"window {view.window}: the first value must be below the second")


def _bounds(source: np.ndarray, view: View) -> tuple[np.float32, np.float32]:
    if view.grey == "linear":
        assert view.window is not None
        return np.float32(view.window[0]), np.float32(view.window[1])
    low, high = np.float32(source.min()), np.float32(source.max())
    if view.window is not None:
        low, high = np.clip(low, *view.window), np.clip(high, *view.window)
    return np.float32(low), np.float32(high)


def _bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _apply(taps: tuple[Taps, Taps], source: np.ndarray, box: tuple[int, int, int, int], out: np.ndarray) -> None:
    rows, columns = taps
    resample(source, rows.start, rows.count, rows.weight, columns.start, columns.count, columns.weight, *box, out)


def _store(grey: np.ndarray, top: int, out: np.ndarray) -> None:
    whole = out.dtype == np.uint8
    highest = np.float32(255 if whole else 1)
    if highest != top:
        grey *= highest / np.float32(top)
    np.clip(grey, 0, highest, out=grey)
    if whole:
        np.rint(grey, out=grey)
    out[...] = grey


@kernel
def _values(source, low, high, out):
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            value = (np.float32(source[y, x]) - low) / (high - low)
            out[y, x] = min(max(value, np.float32(0)), np.float32(1))


@kernel
def _levels(source, low, high, stretched, out):
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            value = np.float32(0)
            if high > low:
                value = (np.float32(source[y, x]) - low) / (high - low)
            value = min(max(value, np.float32(0)), np.float32(1))
            if stretched:
                out[y, x] = np.uint8(min(np.floor(np.float32(256) * value), np.float32(255)))
            else:
                out[y, x] = np.uint8(np.rint(np.float32(255) * value))
