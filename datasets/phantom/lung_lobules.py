"""The lung's own units: secondary lobules and acini, as the cells around the points of a jittered lattice."""

from dataclasses import dataclass

import numpy as np

from ...common.jit import inlined, kernel
from .fields import smooth_field
from .lung_anatomy import Lungs
from .shapes import Space

JITTER = 0.42  # largest shift of a lattice point along an axis, share of the distance between points


@dataclass(frozen=True, eq=False)
class Tissue:
    """The samples of both lungs as flat arrays, in mm.

    Attributes:
        at: index of every sample, for arrays (z, y, x).
        points: anatomical coordinates x, y, z, float32 (n,), bent a little so that walls of cells are not flat.
        depth: distance below the pleura.
    """

    at: tuple[np.ndarray, np.ndarray, np.ndarray]
    points: tuple[np.ndarray, np.ndarray, np.ndarray]
    depth: np.ndarray

    @classmethod
    def of(cls, space: Space, lungs: Lungs, rng: np.random.Generator, *, bend: float, scale: float) -> "Tissue":
        """Gather the samples that hold lung; points are bent by about ``bend`` mm over ``scale`` mm."""
        at = np.nonzero(lungs.share > 0)
        points = [
            space.warped[axis][at] + np.float32(bend) * smooth_field(rng, space.axes, scale)[at] for axis in (2, 1, 0)
        ]
        return cls((at[0], at[1], at[2]), (points[0], points[1], points[2]), -lungs.distance[at])

    def part(self, chosen: np.ndarray) -> "Tissue":
        """Return some of the samples."""
        at, points = (tuple(axis[chosen] for axis in axes) for axes in (self.at, self.points))
        return Tissue((at[0], at[1], at[2]), (points[0], points[1], points[2]), self.depth[chosen])


class Cells:
    """A lattice of jittered points, ``size`` mm apart, and the cells of what is nearest to each.

    Attributes:
        seeds: the points, float32 (n, 3) as x, y, z; cells are numbered like them.
        shape: points along x, y, z; the last axis runs fastest.
    """

    def __init__(self, tissue: Tissue, size: float, rng: np.random.Generator) -> None:
        low, high = (np.asarray([end(axis) for axis in tissue.points], float) for end in (np.min, np.max))
        self.size = size
        self.origin = (low - 2 * size).astype(np.float32)
        self.shape = tuple(int(n) for n in np.ceil((high - low) / size) + 4)
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in self.shape), indexing="ij"), -1).reshape(-1, 3)
        moved = grid + 0.5 + rng.uniform(-JITTER, JITTER, grid.shape)
        self.seeds = (self.origin + size * moved).astype(np.float32)

    def __len__(self) -> int:
        return len(self.seeds)

    def locate(self, tissue: Tissue) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the cell of every sample, its distance in mm from the cell's wall and from the cell's point."""
        count = len(tissue.depth)
        cell = np.empty(count, np.int32)
        wall, middle = np.empty((2, count), np.float32)
        _locate(*tissue.points, self.seeds, self.origin, np.float32(self.size), self.shape, cell, wall, middle)
        return cell, wall, middle

    def mix(self, tissue: Tissue, values: np.ndarray, edge: np.ndarray) -> np.ndarray:
        """Return cells' ``values``, float32 (cells, k), at every sample, float32 (n, k).

        Across a wall they change over about ``edge`` mm (n,), half of it on either side.
        """
        out = np.empty((len(tissue.depth), values.shape[1]), np.float32)
        _mix(*tissue.points, self.seeds, self.origin, np.float32(self.size), self.shape, values, edge, out)
        return out

    def beside(self, cell: int) -> np.ndarray:
        """Return the cells next to one, those that share only a corner included."""
        steps = np.stack(np.meshgrid(*([np.arange(-1, 2)] * 3), indexing="ij"), -1).reshape(-1, 3)
        near = np.stack(np.unravel_index(cell, self.shape)) + steps[np.abs(steps).sum(1) > 0]
        inside = ((near >= 0) & (near < self.shape)).all(1)
        return np.asarray(np.ravel_multi_index(tuple(near[inside].T), self.shape))


@inlined
def _near(n, x, y, z, seeds, origin, size, shape, distances, cells):
    """Fill in the points around sample n, squared distances and numbers; return how many and where the nearest is."""
    i0 = int((x[n] - origin[0]) / size)
    j0 = int((y[n] - origin[1]) / size)
    k0 = int((z[n] - origin[2]) / size)
    count, own = 0, 0
    for i in range(max(i0 - 1, 0), min(i0 + 2, shape[0])):
        for j in range(max(j0 - 1, 0), min(j0 + 2, shape[1])):
            for k in range(max(k0 - 1, 0), min(k0 + 2, shape[2])):
                s = (i * shape[1] + j) * shape[2] + k
                d = (x[n] - seeds[s, 0]) ** 2 + (y[n] - seeds[s, 1]) ** 2 + (z[n] - seeds[s, 2]) ** 2
                distances[count], cells[count] = d, s
                if d < distances[own]:
                    own = count
                count += 1
    return count, own


@inlined
def _beyond(own, other, seeds, distances, cells):
    """Return how far in mm a sample is from the plane halfway between its nearest point and another."""
    between = np.float32(0)
    for axis in range(3):
        between += (seeds[cells[own], axis] - seeds[cells[other], axis]) ** 2
    return (distances[other] - distances[own]) / (np.float32(2) * np.sqrt(between) + np.float32(1e-6))


@kernel
def _locate(x, y, z, seeds, origin, size, shape, cell, wall, middle):
    """Fill in the nearest point, the distance from the plane halfway to the second nearest, and to the nearest."""
    distances = np.empty(27, np.float32)
    cells = np.empty(27, np.int64)
    for n in range(len(x)):
        count, own = _near(n, x, y, z, seeds, origin, size, shape, distances, cells)
        second = 1 if own == 0 else 0
        for other in range(count):
            if other != own and distances[other] < distances[second]:
                second = other
        cell[n] = cells[own]
        wall[n] = _beyond(own, second, seeds, distances, cells)
        middle[n] = np.sqrt(distances[own])


@kernel
def _mix(x, y, z, seeds, origin, size, shape, values, edge, out):
    """Average the cells' values with weights that fall with the distance from the plane halfway to each cell."""
    distances = np.empty(27, np.float32)
    cells = np.empty(27, np.int64)
    for n in range(len(x)):
        count, own = _near(n, x, y, z, seeds, origin, size, shape, distances, cells)
        total = np.float32(0)
        for c in range(out.shape[1]):
            out[n, c] = 0
        for other in range(count):
            off = _beyond(own, other, seeds, distances, cells) * np.float32(4) / edge[n]
            if off > 8:
                continue
            weight = np.exp(-off)
            total += weight
            for c in range(out.shape[1]):
                out[n, c] += weight * values[cells[other], c]
        for c in range(out.shape[1]):
            out[n, c] /= total
