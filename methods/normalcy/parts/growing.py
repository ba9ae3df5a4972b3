"""The decision of NormNet: two mean filters and region growing turn what is not healthy into a lesion mask (§III-D)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Literal

import numpy as np

from ....common.boxes import bounds
from .growing_kernels import (
    count_components,
    count_runs,
    join_runs,
    mark_sums,
    paint_runs,
    slide_binary,
    slide_intensity,
)

LIMIT, SEED = np.uint8(1), np.uint8(2)
LARGEST_KERNEL = 31  # its cube times 2^16 levels of intensity still fits into 31 bits


@dataclass(frozen=True)
class MeanFilter:
    """A mean over unhealthy voxels around every voxel, and the threshold that it must exceed.

    Attributes:
        kernel: side in voxels, odd, at most 31.
        threshold: mean to exceed.
        dims: 3 averages over cubes, 2 over squares in the slice.
        reading: what is averaged: the ``intensity`` of the unhealthy voxels, or their share (``binary``; without a
            least value dark air then counts as much as a lesion).
    """

    kernel: int
    threshold: float
    dims: Literal[2, 3] = 3
    reading: Literal["intensity", "binary"] = "intensity"

    def __post_init__(self) -> None:
        if not 1 <= self.kernel <= LARGEST_KERNEL or self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel}: choose an odd number of voxels, at most {LARGEST_KERNEL}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold {self.threshold}: means lie between 0 and 1")
        if self.dims not in (2, 3) or self.reading not in ("intensity", "binary"):
            raise ValueError(f"dims {self.dims}, reading {self.reading!r}: choose 2 or 3, intensity or binary")

    def mark(self, volumes: tuple[np.ndarray, ...], least: float, bit: np.uint8, state: np.ndarray) -> None:
        """Set a bit of ``state`` on the ROI voxels whose mean of values ≥ ``least`` exceeds the threshold."""
        image, roi, healthy = volumes
        radius = self.kernel // 2
        levels = 2 ** (31 - (self.kernel**self.dims).bit_length()) if self.reading == "intensity" else 1
        # A decimal threshold is meant as written: 0.28 of 25 voxels is 7, not 7.000000000000001.
        bound = floor(Fraction(str(self.threshold)) * self.kernel**self.dims * levels)
        (z0, z1), (y0, y1), (x0, x1) = bounds(roi)
        reach = radius if self.dims == 3 else 0
        slots = np.zeros((2 * reach + 1, y1 - y0, x1 - x0), np.int32 if levels > 1 else np.uint8)
        total = np.zeros(slots.shape[1:], slots.dtype)
        columns = np.zeros(slots.shape[2] + 2 * radius + 1, np.int32)
        lowest, empty = np.float32(least), np.zeros(roi.shape[1:], bool)
        for z in range(z0, z1 + reach):
            inside = np.ascontiguousarray(roi[z]) if z < z1 else empty
            place = min(z, z1 - 1)
            values, normal = np.ascontiguousarray(image[place], np.float32), np.ascontiguousarray(healthy[place])
            slot = slots[z % len(slots)]
            if levels > 1:
                slide_intensity(values, inside, normal, y0, x0, lowest, np.float32(levels), slot, total)
            else:
                slide_binary(values, inside, normal, y0, x0, lowest, slot, total)
            centre = z - reach
            if centre >= z0:
                mark_sums(total, radius, bound, np.ascontiguousarray(roi[centre]), y0, x0, bit, columns, state[centre])


def lesion_mask(
    image: np.ndarray, roi: np.ndarray, healthy: np.ndarray, tau: float, seeds: MeanFilter, limit: MeanFilter | None
) -> np.ndarray:
    """Return the lesions left in the ROI after removing healthy voxels (Yao et al. 2021, §III-D).

    Seeds are ROI voxels where the mean of the unhealthy voxels ≥ ``tau`` exceeds its threshold; they grow
    (:func:`grown`) through ROI voxels where the mean of all unhealthy voxels exceeds the other threshold. The paper
    names neither the values that are averaged nor the shape of the kernels. Sums are integers: the result never
    depends on the order of additions and shrinks with every voxel that is healthy.

    Args:
        image: float32 or float16 (z, y, x) in [0, 1]; values beyond are clipped.
        roi: bool, same shape.
        healthy: bool, same shape; voxels taken for normal tissue.
        tau: least value of a bright voxel.
        limit: None returns the seeds.

    Returns:
        bool (z, y, x), inside the ROI.

    Raises:
        ValueError: shapes differ.
    """
    check_volumes(image, roi, healthy)
    state = np.zeros(image.shape, np.uint8)
    if not roi.any():
        return state.view(bool)
    seeds.mark((image, roi, healthy), tau, LIMIT if limit is None else SEED, state)
    if limit is None:
        return state.view(bool)
    limit.mark((image, roi, healthy), -np.inf, LIMIT, state)
    return grown(state)


def check_volumes(*volumes: np.ndarray) -> None:
    """Refuse what compiled code would read beyond its end: volumes (z, y, x) have one shape."""
    shapes = {volume.shape for volume in volumes}
    if len(shapes) > 1 or volumes[0].ndim != 3:
        raise ValueError(f"expected volumes of one shape, found {', '.join(map(str, sorted(shapes)))}")


@dataclass(frozen=True, eq=False)
class Components:
    """The components (joined by faces) of a volume's non-zero voxels, as runs along x.

    Attributes:
        offsets: int32 (rows + 1,), runs before each row.
        first: int32 (runs,), first voxel of a run in its row.
        stop: int32 (runs,), the voxel after its last.
        parent: int32 (runs,), first run of the component.
        size: int32 (runs,), voxels of the component, at its first run.
        marked: int32 (runs,), those of them with the marked bit, at its first run.
    """

    offsets: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    parent: np.ndarray
    size: np.ndarray
    marked: np.ndarray

    @classmethod
    def of(cls, state: np.ndarray, bit: np.uint8) -> Components:
        """Find the components of a C-ordered uint8 array (z, y, x) and count the voxels with ``bit`` in each."""
        depth, height, width = state.shape
        rows = state.reshape(depth * height, width)
        offsets = np.zeros(len(rows) + 1, np.int32)
        if state.size:
            count_runs(rows, offsets)
        first, stop, parent = (np.empty(offsets[-1], np.int32) for _ in range(3))
        size, marked = (np.zeros(offsets[-1], np.int32) for _ in range(2))
        join_runs(rows, height, offsets, first, stop, parent)
        count_components(rows, bit, offsets, first, stop, parent, size, marked)
        return cls(offsets, first, stop, parent, size, marked)

    def paint(self, keep: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Turn ``state`` into the mask of the components to keep (bool per first run) and return it as bool."""
        rows = state.reshape(-1, state.shape[2])
        paint_runs(self.offsets, self.first, self.stop, self.parent, keep, rows)
        return state.view(bool)


def grown(state: np.ndarray) -> np.ndarray:
    """Return the components, joined by faces, of non-zero voxels that hold a seed; ``state`` is overwritten.

    This is the binary reconstruction of the seeds: ``scipy.ndimage.binary_propagation(seeds, mask=limit)``.

    Args:
        state: uint8 (z, y, x), bits LIMIT and SEED; a seed outside the limit stays and reaches the limit beside it.
    """
    components = Components.of(state, SEED)
    return components.paint(components.marked > 0, state)
