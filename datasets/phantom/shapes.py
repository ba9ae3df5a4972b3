"""Implicit shapes: signed distances in mm (negative inside), their blends, and soft occupancies."""

from dataclasses import dataclass

import numpy as np

Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Space:
    """Sample points of a patient in millimetres, and the anatomical coordinates there.

    Attributes:
        axes: scanner coordinates along z, y, x (z up, y to the back, x to the patient's left; 0 in the body's centre).
        warped: anatomical coordinates z, y, x of every sample: the axes plus a smooth deformation.
        pixel: in-plane sample distance in mm.
    """

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    warped: tuple[np.ndarray, np.ndarray, np.ndarray]
    pixel: float

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.axes[0]), len(self.axes[1]), len(self.axes[2])

    def box(self, centre: Point, reach: Point, margin: float = 14.0) -> Box:
        """Return the samples within ``reach`` of ``centre`` (both x, y, z in mm), widened for the deformation."""
        out = []
        for axis, middle, half in zip(self.axes, centre[::-1], reach[::-1], strict=True):
            low, high = np.searchsorted(axis, [middle - half - margin, middle + half + margin])
            out.append(slice(int(low), int(high)))
        return out[0], out[1], out[2]

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Return the scanner coordinates of anatomical points, shape (n, 3), both x, y, z in mm."""
        found = points.astype(float)
        for _ in range(4):
            index = tuple(
                np.clip(np.searchsorted(axis, found[:, 2 - k]), 0, len(axis) - 1) for k, axis in enumerate(self.axes)
            )
            here = np.stack([axis[i] for axis, i in zip(self.axes, index, strict=True)], 1)[:, ::-1]
            there = np.stack([coordinate[index] for coordinate in self.warped], 1)[:, ::-1]
            found = here + points - there
        return found

    def cut(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the scanner coordinates z, y, x of a box."""
        z, y, x = (axis[part] for axis, part in zip(self.axes, box, strict=True))
        return z, y, x

    def at(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z, y, x = (coordinate[box] for coordinate in self.warped)
        return x, y, z

    def column(self, centre: tuple[float, float], radii: tuple[float, float]) -> tuple[Box, np.ndarray]:
        """Return the box of samples around an elliptic column along z, and the share of it in each."""
        box = self.box((*centre, 0.0), (*radii, 1e4))
        x, y, _ = self.at(box)
        return box, occupancy(column(x, y, centre, radii), self.pixel)


def vary(rng: np.random.Generator, centre: Point, radii: Point, shift: float, stretch: float) -> tuple[Point, Point]:
    """Move a shape by about ``shift`` mm and stretch it by about the share ``stretch``, up to twice as much."""
    moved = np.asarray(centre) + shift * rng.standard_normal(3).clip(-2, 2)
    scaled = np.asarray(radii) * (1 + stretch * rng.standard_normal(3).clip(-2, 2))
    return tuple(moved), tuple(scaled)


def lay(hu: np.ndarray, share: np.ndarray, value: float | np.ndarray) -> None:
    """Cover ``share`` of the samples with ``value`` HU, in place."""
    hu += share * (value - hu)


def ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, centre: Point, radii: Point) -> np.ndarray:
    """Return the first-order signed distance to an ellipsoid."""
    squares = [
        ((axis - np.float32(c)) * np.float32(1 / r)) ** 2 for axis, c, r in zip((x, y, z), centre, radii, strict=True)
    ]
    k0 = np.maximum(np.sqrt(squares[0] + squares[1] + squares[2]), np.float32(1e-3))
    k1 = np.sqrt(sum(part * np.float32(r**-2) for part, r in zip(squares, radii, strict=True)))
    return k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-3 / max(radii)))


def column(x: np.ndarray, y: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """Return the first-order signed distance to an elliptic column along z."""
    u, v = (x - np.float32(centre[0])) / np.float32(radii[0]), (y - np.float32(centre[1])) / np.float32(radii[1])
    k0 = np.maximum(np.sqrt(u**2 + v**2), np.float32(1e-3))
    k1 = np.sqrt((u / np.float32(radii[0])) ** 2 + (v / np.float32(radii[1])) ** 2)
    return k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-3 / max(radii)))


def superellipse(x: np.ndarray, y: np.ndarray, radii: tuple[float, float], power: float) -> np.ndarray:
    """Return an approximate signed distance to a squared-off ellipse around the origin."""
    u, v = np.abs(x) / np.float32(radii[0]), np.abs(y) / np.float32(radii[1])
    k0 = (u**power + v**power) ** np.float32(1 / power)
    return (k0 - 1) * np.hypot(x, y) / np.maximum(k0, np.float32(1e-6))


def union(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """Return the union of two shapes, rounded over ``blend`` mm where they meet (polynomial smooth minimum)."""
    return _bulge(a, b, blend, -0.25) + np.minimum(a, b)


def _bulge(a: np.ndarray, b: np.ndarray, blend: float, weight: float) -> np.ndarray:
    h = np.abs(a - b)
    np.subtract(np.float32(blend), h, out=h)
    np.maximum(h, 0, out=h)
    h *= h
    h *= np.float32(weight / blend)
    return h


def intersection(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """Return the rounded intersection of two shapes (polynomial smooth maximum)."""
    return _bulge(a, b, blend, 0.25) + np.maximum(a, b)


def occupancy(distance: np.ndarray, width: float) -> np.ndarray:
    """Return the share of a sample of ``width`` mm that lies inside the shape: 1 inside, 0 outside, a ramp between."""
    return np.clip(np.float32(0.5) - distance / np.float32(width), 0, 1)


def sheet(distance: np.ndarray, thick: np.ndarray | np.float32, width: float) -> np.ndarray:
    """Return the share of a sheet of ``thick`` mm in samples of ``width`` mm at a ``distance`` from its middle."""
    pixel = np.float32(width)
    return np.clip((thick / 2 - distance) / pixel + np.float32(0.5), 0, 1) * np.minimum(thick / pixel, 1)
