"""Volumes of many healthy cases, and the contiguous runs of slices that crops may come from."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...common.errors import DataError
from ..case import Spacing
from .volume_geometry import ViewedCase, VolumeGeometry


@dataclass(frozen=True)
class SliceRun:
    """Consecutive viewed slices ``start`` to ``stop`` (exclusive) of one case, all with a region of interest."""

    case: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class VolumeStack:
    """Volumes through one view, memory-mapped where the cases are prepared.

    Attributes:
        runs: maximal runs in the order of the cases. A slice belongs to one when every native slice it is computed from
            has a region of interest and lies in the part; so a dropped slice ends a run.
    """

    def __init__(self, parts: Iterable[tuple[ViewedCase, np.ndarray]]) -> None:
        self._arrays: list[tuple[np.ndarray, np.ndarray, Spacing]] = []
        runs: list[SliceRun] = []
        for case, (viewed, native_slices) in enumerate(parts):
            geometry = viewed.geometry
            if not isinstance(geometry, VolumeGeometry):
                raise TypeError("a volume stack needs a VolumeView; slices come from HealthySet.array(view)")
            self._arrays.append((viewed.image, viewed.roi, geometry.spacing))
            usable = geometry.complete(native_slices)  # ``view_roi`` leaves none of these without a region
            edges = np.flatnonzero(np.diff(np.concatenate([[False], usable, [False]]).astype(np.int8)))
            runs += [SliceRun(case, int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        self.runs = tuple(runs)
        if not self.runs:
            raise DataError("the healthy volumes show no region of interest; check the label files of the healthy set")

    def __len__(self) -> int:
        return len(self._arrays)

    def image(self, i: int) -> np.ndarray:
        """Return the image of case ``i``, shape (Z, H, W), in the view's dtype; it is not a copy."""
        return self._arrays[i][0]

    def roi(self, i: int) -> np.ndarray:
        """Return the region of interest of case ``i``, bool (Z, H, W); it is not a copy."""
        return self._arrays[i][1]

    def spacing(self, i: int) -> Spacing:
        """Return the voxel size of case ``i`` on the view's grid in mm, order z, y, x."""
        return self._arrays[i][2]

    def crop(self, run: SliceRun, start: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Copy ``depth`` consecutive slices of a run, from viewed slice ``start`` on.

        Returns image (depth, H, W) in the view's dtype and region of interest (depth, H, W) bool; where the run ends
        before, the rest is 0 and outside the region of interest.

        Raises:
            IndexError: the first slice lies outside the run, or no slice is wanted.
        """
        if not run.start <= start < run.stop or depth < 1:
            raise IndexError(f"{depth} slices from slice {start} on of a run from {run.start} to {run.stop}")
        image, roi, _ = self._arrays[run.case]
        stop = min(start + depth, run.stop)
        crop = np.zeros((depth, *image.shape[1:]), image.dtype)
        inside = np.zeros(crop.shape, bool)
        crop[: stop - start] = image[start:stop]
        inside[: stop - start] = roi[start:stop]
        return crop, inside
