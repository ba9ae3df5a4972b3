"""How the grid of a volume view lies on the native grid, and the ways between the two."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from ...common.boxes import Range, bounds
from ..case import Spacing
from .resize import interpolate_back, resample, touched_pixels
from .slice_geometry import Geometry, ViewError, fitting
from .volume_axis import TINY, Axis

VolumeMaskRule = Literal["nearest", "area", "any"]
Box = tuple[Range, Range, Range]
_HALF = 0.5 - 1e-5


@dataclass(frozen=True)
class VolumeGeometry:
    """How the resampled volume of a view lies on the native grid.

    In-plane the grid's centre is that of the region's bounding box, moved to whole native voxels where the spacings
    agree, so that nothing is interpolated there. In z the grid covers the box; slices beyond it are never read.
    Spacings are in mm, order z, y, x.

    Attributes:
        size: in-plane side of the grid in pixels.
        box: bounding box of the region of interest in native voxels, (start, stop) of z, y, x.
        reduce: in-plane pixels of the resampled grid, per axis, of which a pixel is the mean.
        whole: the way back covers all that the grid shows of the box's slices, not the box alone.
    """

    native_shape: tuple[int, int, int]
    native_spacing: Spacing
    spacing: Spacing
    size: int
    box: Box
    reduce: int = 1
    whole: bool = False

    @property
    def view_shape(self) -> tuple[int, int, int]:
        return self.axes[0].count, self.size, self.size

    @property
    def slices(self) -> tuple[int, ...]:
        """Native z that holds the centre of each viewed slice; not each native slice need occur."""
        return tuple(int(z) for z in self.axes[0].nearest) if self.axes[0].count else ()

    @cached_property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        ratios = [t / s for t, s in zip(self.spacing, self.native_spacing, strict=True)]
        (z0, z1), *in_plane = self.box
        depth = z1 - z0 if ratios[0] == 1 else int(np.ceil((z1 - z0) / ratios[0] - TINY))
        axes = [Axis((z0 + z1 - depth * ratios[0]) / 2, ratios[0], depth, (z0, z1))]
        for (start, stop), ratio, length in zip(in_plane, ratios[1:], self.native_shape[1:], strict=True):
            whole = abs(ratio / self.reduce - 1) < TINY
            ratio = float(self.reduce) if whole else ratio
            origin = (start + stop - self.size * ratio) / 2
            axes.append(Axis(float(np.floor(origin)) if whole else origin, ratio, self.size, (0, length)))
        return axes[0], axes[1], axes[2]

    @cached_property
    def mapped(self) -> Box:
        """Native voxels (start, stop) of z, y, x that get a value on the way back."""
        if not self.whole or not self.axes[0].count:
            return self.box
        rows, columns = (axis.shown for axis in self.axes[1:])
        return self.box[0], rows, columns

    @cached_property
    def reads(self) -> np.ndarray:
        """Native slices (start, stop) that each viewed slice is computed from, int64, shape (slices, 2)."""
        taps = self.axes[0].values
        return np.stack([taps.start, taps.start + taps.count], axis=1).astype(np.int64)

    def complete(self, native_slices: np.ndarray) -> np.ndarray:
        """Return which viewed slices are computed from wanted native slices only; both bool, one value per slice."""
        unwanted = np.concatenate([[0], np.cumsum(~native_slices)])
        return unwanted[self.reads[:, 1]] == unwanted[self.reads[:, 0]]

    def to_native(self, map_: np.ndarray) -> np.ndarray:
        """Return a map of :attr:`view_shape` on the native grid, float32.

        Trilinear inside :attr:`mapped` (the identity where spacings agree), 0 outside. Values outside the region of
        interest mean nothing, unless the view is not masked.
        """
        source = fitting(map_, self.view_shape)
        out = np.zeros(self.native_shape, np.float32)
        (z0, _), (y0, y1), (x0, x1) = self.mapped
        lower, upper, fraction = self.axes[0].back(self.mapped[0])
        rows, columns, part = self._back
        buffer = np.empty((y1 - y0, x1 - x0), np.float32)
        for i, (a, b, f) in enumerate(zip(lower, upper, fraction, strict=True)):
            plane = np.array(source[a][part], np.float32, order="C")
            if f:
                plane += f * (source[b][part].astype(np.float32, copy=False) - plane)
            interpolate_back(plane, *rows, *columns, buffer)
            out[z0 + i, y0:y1, x0:x1] = buffer
        return out

    def mask_to_native(self, mask: np.ndarray) -> np.ndarray:
        """Map a mask back to the native grid by nearest voxel; False outside :attr:`mapped`."""
        mask = fitting(mask, self.view_shape).astype(bool, copy=False)
        out = np.zeros(self.native_shape, bool)
        (z0, _), (y0, y1), (x0, x1) = self.mapped
        index = np.ix_(*(axis.back_nearest(part) for axis, part in zip(self.axes[1:], self.mapped[1:], strict=True)))
        for i, k in enumerate(self.axes[0].back_nearest(self.mapped[0])):
            out[z0 + i, y0:y1, x0:x1] = mask[k][index]
        return out

    def mask_to_view(self, mask: np.ndarray, how: VolumeMaskRule = "nearest") -> np.ndarray:
        """Bring a native mask to the view's grid (bool).

        ``nearest`` reads the voxel at each viewed voxel's centre; ``area`` keeps a voxel that is at least half covered;
        ``any`` one that touches the mask.
        """
        mask = fitting(mask, self.native_shape).astype(bool, copy=False)
        out = np.zeros(self.view_shape, bool)
        if how == "nearest":
            z, y, x = self.axes
            inside = y.inside[:, None] & x.inside[None]
            for k in range(z.count):
                out[k] = mask[z.nearest[k]][np.ix_(y.nearest, x.nearest)] & inside
            return out
        if how not in ("area", "any"):
            raise ViewError(f"unknown mask rule {how!r}: use nearest, area or any")
        _, rows, columns = bounds(mask)
        for k, where, cover in self.planes(mask_reader(mask), (rows, columns), masks=True):
            out[k][where] = cover >= _HALF if how == "area" else cover > 0
        return out

    def view_roi(self, roi: np.ndarray) -> np.ndarray:
        """Return the region of interest on the view's grid.

        A voxel belongs to it when at least half of it does. Where no voxel of a slice reaches half though every
        native slice it is computed from has a region, all voxels that touch the region belong to it.
        """
        roi = fitting(roi, self.native_shape).astype(bool, copy=False)
        out = np.zeros(self.view_shape, bool)
        complete = self.complete(np.any(roi, axis=(1, 2)))
        for k, where, cover in self.planes(mask_reader(roi), self.box[1:], masks=True):
            kept = cover >= _HALF
            out[k][where] = cover > 0 if complete[k] and not kept.any() else kept
        return out

    def view_support(self, roi: np.ndarray) -> np.ndarray:
        """Return the voxels that :meth:`to_native` reads for the voxels of a native mask inside :attr:`mapped`."""
        roi = fitting(roi, self.native_shape).astype(bool, copy=False)
        out = np.zeros(self.view_shape, bool)
        (z0, _), (y0, y1), (x0, x1) = self.mapped
        rows, columns, part = self._back
        for i, (a, b, f) in enumerate(zip(*self.axes[0].back(self.mapped[0]), strict=True)):
            here = np.ascontiguousarray(roi[z0 + i, y0:y1, x0:x1])
            touched = np.zeros(out[a][part].shape, bool)
            touched_pixels(here, *rows, *columns, touched)
            out[a][part] |= touched
            if f:
                out[b][part] |= touched
        return out

    def planes(
        self, read: Callable[[int, slice, slice], np.ndarray], part: tuple[Range, Range], *, masks: bool = False
    ) -> Iterator[tuple[int, tuple[slice, slice], np.ndarray]]:
        """Resample a native volume slice by slice, holding as many planes as one viewed slice needs.

        Args:
            read: returns native slice ``z`` cut to rows and columns, C-contiguous.
            part: native rows and columns (start, stop) that matter; the viewed pixels that touch them are computed.
            masks: sum by coverage, also where the grid is finer.

        Yields:
            number of the viewed slice, its rows and columns, and the values there (float32, valid until the next).
        """
        z, *in_plane = self.axes
        where = [axis.covering(p) for axis, p in zip(in_plane, part, strict=True)]
        if 0 in (z.count, *(stop - start for start, stop in where)):
            return
        taps, hulls = zip(*(axis.part(w, masks) for axis, w in zip(in_plane, where, strict=True)), strict=True)
        (rows, columns), (down, across) = taps, (slice(*hull) for hull in hulls)
        depth = z.coverage if masks else z.values
        shape = tuple(stop - start for start, stop in where)
        region = slice(*where[0]), slice(*where[1])
        kept: dict[int, np.ndarray] = {}
        out = np.empty(shape, np.float32)
        for k in range(z.count):
            first, stop = int(depth.start[k]), int(depth.start[k] + depth.count[k])
            free = [kept.pop(old) for old in list(kept) if old < first]
            for i in range(first, stop):
                if i not in kept:
                    kept[i] = free.pop() if free else np.empty(shape, np.float32)
                    source = read(i, down, across)
                    resample(
                        source, rows.start, rows.count, rows.weight, columns.start, columns.count, columns.weight,
                        0, source.shape[0], 0, source.shape[1], kept[i],
                    )  # fmt: skip
            np.multiply(kept[first], depth.weight[k, 0], out=out)
            for i in range(first + 1, stop):
                out += depth.weight[k, i - first] * kept[i]
            yield k, region, out

    def to_json(self) -> dict[str, Any]:
        return {"kind": "volume", **asdict(self)}

    @cached_property
    def _back(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], tuple[slice, slice]]:
        """Positions of the mapped rows and columns in the part of a viewed slice that they read, and that part."""
        positions, part = [], []
        for axis, extent in zip(self.axes[1:], self.mapped[1:], strict=True):
            lower, upper, fraction = axis.back(extent)
            first, last = int(lower.min(initial=axis.count)), int(upper.max(initial=0))
            positions.append((lower - np.int32(first), upper - np.int32(first), fraction))
            part.append(slice(first, last + 1))
        return positions[0], positions[1], (part[0], part[1])


def mask_reader(mask: np.ndarray) -> Callable[[int, slice, slice], np.ndarray]:
    """Return what :meth:`VolumeGeometry.planes` reads a mask with."""
    return lambda z, rows, columns: np.ascontiguousarray(mask[z, rows, columns]).view(np.uint8)


AnyGeometry = Geometry | VolumeGeometry
_OF_VOLUMES, _OF_SLICES = TypeAdapter(VolumeGeometry), TypeAdapter(Geometry)


def geometry_from_json(value: dict[str, Any]) -> AnyGeometry:
    """Read what ``to_json`` of a geometry wrote; one without a kind is that of slices."""
    return (_OF_VOLUMES if value.get("kind") == "volume" else _OF_SLICES).validate_python(value)


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
        return self.geometry.to_native(map_)
