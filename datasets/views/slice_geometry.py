"""How the slices of a view lie on the native grid, and the ways between the two."""

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ...common.boxes import Range, bounds
from ...common.errors import UasbenchError
from .resize import Filter, Taps, back_positions, interpolate_back, nearest_index, resample, resize_taps, touched_pixels

MOST_PIXELS = 4096  # along a side: eight times that of a scanner's slices
MaskRule = Literal["nearest", "any", "area", "cubic>0.1"]


class ViewError(UasbenchError):
    """A view cannot be computed, or an array does not fit its grid."""


def check_size(pixels: int) -> None:
    """Refuse a side of a grid that no memory holds.

    Raises:
        ViewError: it is not in 1 to ``MOST_PIXELS``.
    """
    if not 1 <= pixels <= MOST_PIXELS:
        raise ViewError(f"view size {pixels}: use at least 1 pixel and at most {MOST_PIXELS}")


def check_window(window: tuple[float, float]) -> None:
    """Refuse a window of HU that is empty or endless.

    Raises:
        ViewError: so it is.
    """
    if not -math.inf < window[0] < window[1] < math.inf:
        raise ViewError(f"window {window}: the first value must be below the second")


@dataclass(frozen=True)
class Geometry:
    """How a view's grid lies on the native grid: the kept slices, a square in them, resized to ``size``.

    Attributes:
        native_shape: shape (z, y, x) of the case.
        slices: native z of each viewed slice, ascending.
        size: in-plane size of the view.
        square: first row, first column and side of that square in native pixels; it may reach beyond the slice, where
            values are 0. None is the whole slice, padded alike on either side.
    """

    native_shape: tuple[int, int, int]
    slices: tuple[int, ...]
    size: int
    square: tuple[int, int, int] | None = None

    @property
    def side(self) -> int:
        """Side of the native square."""
        return self.square[2] if self.square else max(self.native_shape[1:])

    @property
    def padding(self) -> tuple[int, int]:
        """Pixels of the square above and left of the native slice; negative where it starts inside."""
        if self.square:
            return -self.square[0], -self.square[1]
        _, rows, columns = self.native_shape
        return (self.side - rows) // 2, (self.side - columns) // 2

    @property
    def view_shape(self) -> tuple[int, int, int]:
        return len(self.slices), self.size, self.size

    def to_native(self, map_: np.ndarray) -> np.ndarray:
        """Return a map of :attr:`view_shape` on the native grid, float32.

        Bilinear inside the viewed slices (the identity where sizes agree), 0 on the others. Values outside the region
        of interest mean nothing; beyond the square they are those of its border.
        """
        source = fitting(map_, self.view_shape).astype(np.float32, copy=False)
        out = np.zeros(self.native_shape, np.float32)
        for k, z in enumerate(self.slices):
            interpolate_back(np.ascontiguousarray(source[k]), *self._back, out[z])
        return out

    def mask_to_native(self, mask: np.ndarray) -> np.ndarray:
        """Map a mask back to the native grid: each voxel reads the pixel that it lies in, False where there is none."""
        source = fitting(mask, self.view_shape).astype(bool, copy=False)
        (top, left), (_, rows, columns) = self.padding, self.native_shape
        row = (2 * np.arange(top, top + rows) + 1) * self.size // (2 * self.side)
        column = (2 * np.arange(left, left + columns) + 1) * self.size // (2 * self.side)
        in_rows, in_columns = (np.flatnonzero((i >= 0) & (i < self.size)) for i in (row, column))
        out = np.zeros(self.native_shape, bool)
        out[np.ix_(np.array(self.slices, np.int64), in_rows, in_columns)] = source[
            :, row[in_rows, None], column[None, in_columns]
        ]
        return out

    def mask_to_view(self, mask: np.ndarray, how: MaskRule = "nearest") -> np.ndarray:
        """Bring a native mask to the view's grid (bool).

        ``nearest`` reads the voxel at each pixel's centre; ``any`` keeps a pixel that touches the mask; ``area`` one
        that is at least half covered; ``cubic>0.1`` is the rule of the liver paper's 256² truth, which makes lesions
        slightly larger (docs/methods/two-stage.md).
        """
        mask = fitting(mask, self.native_shape).astype(bool, copy=False)
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
        taps = self.taps("cubic" if how == "cubic>0.1" else "area" if shrinks or how == "any" else "bilinear")
        threshold = {"any": 0.0, "area": 0.5 - 1e-5, "cubic>0.1": 0.1}[how]
        buffer = np.empty((self.size, self.size), np.float32)
        for k, z in enumerate(self.slices):
            if mask[z].any():
                resize(taps, np.ascontiguousarray(mask[z]).view(np.uint8), bounds(mask[z]), buffer)
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
            few = replace(self, slices=tuple(self.slices[k] for k in lost))
            out[lost] = few.mask_to_view(roi, "any")
        return out

    def view_support(self, roi: np.ndarray) -> np.ndarray:
        """Return the pixels that :meth:`to_native` reads for the voxels of a native mask."""
        roi = fitting(roi, self.native_shape).astype(bool, copy=False)
        out = np.zeros(self.view_shape, bool)
        for k, z in enumerate(self.slices):
            touched_pixels(np.ascontiguousarray(roi[z]), *self._back, out[k])
        return out

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @cached_property
    def _back(self) -> tuple[np.ndarray, ...]:
        (top, left), (_, rows, columns) = self.padding, self.native_shape
        return *back_positions(self.size, self.side, top, rows), *back_positions(self.size, self.side, left, columns)

    def taps(self, filter_: Filter) -> tuple[Taps, Taps]:
        """Return the weighted sums that resize a native slice, along y and x."""
        (top, left), (_, rows, columns) = self.padding, self.native_shape
        return (
            resize_taps(self.side, self.size, top, rows, filter_),
            resize_taps(self.side, self.size, left, columns, filter_),
        )

    def _nearest(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        length = self.native_shape[1 + axis]
        index = nearest_index(self.side, self.size) - self.padding[axis]
        return np.clip(index, 0, length - 1), (index >= 0) & (index < length)


def fitting(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array that has the shape of a grid; another one is a ViewError."""
    if array.shape != shape:
        raise ViewError(f"array of shape {array.shape} does not fit the grid, which has shape {shape}")
    return array


def resize(taps: tuple[Taps, Taps], source: np.ndarray, box: tuple[Range, ...], out: np.ndarray) -> None:
    """Resize a slice, 0 outside the rows and columns of ``box``, into ``out``."""
    rows, columns = taps
    (y0, y1), (x0, x1) = box
    weights = rows.start, rows.count, rows.weight, columns.start, columns.count, columns.weight
    resample(source, *weights, y0, y1, x0, x1, out)
