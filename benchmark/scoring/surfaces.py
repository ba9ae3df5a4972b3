"""Distances between the surfaces of two masks, as DeepMind's surface-distance 0.1 defines them (docs/metrics.md).

A surface runs through every corner at which eight voxels meet that are not all in or all out of the mask. Marching
cubes puts triangles there, whose area is the weight of the corner; how far it is from the other surface is the distance
to the nearest corner of that one. Beyond the grid there is no mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...common.boxes import bounding_box
from ...datasets.case import Spacing

IMPLEMENTATION = "uasbench 1, which follows surface-distance 0.1"


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface of one mask: its corners, int64 (n, 3), on the ``grid`` of all corners (z, y, x), and their mm²."""

    corners: np.ndarray
    areas: np.ndarray
    grid: tuple[int, ...]
    spacing: Spacing

    @classmethod
    def of(cls, mask: np.ndarray, spacing: Spacing) -> Surface:
        box = bounding_box(mask)
        padded = np.pad(mask[box], 1).view(np.uint8)
        depth, rows, columns = (size - 1 for size in padded.shape)
        code = np.zeros((depth, rows, columns), np.uint8)
        for bit, (z, y, x) in enumerate(np.ndindex(2, 2, 2)):
            code |= padded[z : z + depth, y : y + rows, x : x + columns] << np.uint8(bit)
        corners = np.argwhere((code > 0) & (code < 255))
        areas = _areas(spacing)[code[tuple(corners.T)]]
        return cls(corners + [part.start for part in box], areas, tuple(size + 1 for size in mask.shape), spacing)

    @cached_property
    def _nearest(self) -> np.ndarray:
        marked = np.zeros(self.grid, bool)
        marked[tuple(self.corners.T)] = True
        return nearest(marked, self.spacing)

    def distances_to(self, other: Surface) -> np.ndarray:
        """Return mm (float64) from each corner to the nearest one of ``other``; infinite where that is empty."""
        if not len(other.corners):
            return np.full(len(self.corners), np.inf)
        return millimetres(self.corners, other._nearest[(..., *self.corners.T)].T, self.spacing)


def nearest(mask: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return the place of the nearest voxel of a mask, which holds some, for every voxel: int32 (3, z, y, x)."""
    from scipy.ndimage import distance_transform_edt

    # Its distances, which few voxels need, would take most of the time.
    found: Any = distance_transform_edt(~mask, spacing, return_distances=False, return_indices=True)
    return found


def millimetres(places: np.ndarray, others: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return the distances between places on a grid, int (n, 3), as float64 (n,)."""
    # Whole steps times spacing: differences of rounded places would miss a tolerance that is just met.
    return np.sqrt((((places - others) * np.array(spacing)) ** 2).sum(axis=1))


class SurfaceDistances(NamedTuple):
    """From the truth's surface to the mask's and back: mm and mm² of every corner; ``farthest`` is the worst, in mm."""

    truth_mm: np.ndarray
    truth_mm2: np.ndarray
    mask_mm: np.ndarray
    mask_mm2: np.ndarray
    farthest: float

    @classmethod
    def between(cls, truth: Surface, mask: Surface, farthest: float) -> SurfaceDistances:
        return cls(truth.distances_to(mask), truth.areas, mask.distances_to(truth), mask.areas, farthest)

    def within(self, tolerance_mm: float) -> float:
        """Return the share of both surfaces that lies within a tolerance of the other one; needs one of them."""
        near = self.truth_mm2[self.truth_mm <= tolerance_mm].sum() + self.mask_mm2[self.mask_mm <= tolerance_mm].sum()
        return float(near / (self.truth_mm2.sum() + self.mask_mm2.sum()))

    def hausdorff(self, share: float) -> float:
        """Return the distance in mm that this share of either surface keeps; ``farthest`` where one is empty."""
        ways = (self.truth_mm, self.truth_mm2), (self.mask_mm, self.mask_mm2)
        return min(self.farthest, max(_quantile(mm, mm2, share) for mm, mm2 in ways))


def _quantile(mm: np.ndarray, mm2: np.ndarray, share: float) -> float:
    if not len(mm):
        return np.inf
    order = np.lexsort((mm2, mm))
    reached = np.cumsum(mm2[order])
    place = int(np.searchsorted(reached / mm2[order].sum(), share))
    return float(mm[order][min(place, len(mm) - 1)])


@lru_cache(maxsize=256)
def _areas(spacing: Spacing) -> np.ndarray:
    """Return the area in mm² of the surface in each of the 256 ways in which eight voxels can be in or out."""
    z, y, x = spacing
    faces = np.array([y * x, z * x, z * y])
    return np.array([np.linalg.norm(normals * faces, axis=1).sum() for normals in _normals()])


@cache
def _normals() -> list[np.ndarray]:
    """Return the triangles of marching cubes for each of the 256 ways, float64 (triangles, 3): normals of their area.

    Bit 4z + 2y + x says whether voxel (z, y, x) is in. More than four voxels have the surface of the other ones.
    """
    from skimage.measure import marching_cubes

    found = []
    for code in range(256):
        few = code if code.bit_count() <= 4 else 255 - code
        if not few:
            found.append(np.zeros((0, 3)))
            continue
        cube = (few >> np.arange(8) & 1).reshape(2, 2, 2).astype(np.float32)
        places, triangles, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        first, second, third = places[triangles].transpose(1, 0, 2).astype(np.float64)
        found.append(np.cross(second - first, third - first) / 2)
    return found
