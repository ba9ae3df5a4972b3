"""The pancreas in a body: a bent, lobulated gland with fat between its lobules, its duct, and the bile duct."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from .canvas import Canvas
from .fields import smooth_field
from .liver_anatomy import LABELS, Body
from .shapes import Box, Point, lay, occupancy
from .spec import Spec
from .vessels import Tree, occupy

NODES = (
    (-2.0, 15.0, -74.0, 6.0),
    (-16.0, 8.0, -66.0, 10.5),
    (-19.0, 5.0, -52.0, 12.5),
    (-12.0, 1.0, -40.0, 11.5),
    (3.0, -6.0, -32.0, 7.5),
    (20.0, -8.0, -25.0, 8.5),
    (38.0, 0.0, -18.0, 8.5),
    (55.0, 9.0, -11.0, 8.0),
    (68.0, 14.0, -5.0, 6.5),
)
"""The axis from the uncinate process to the tail's tip: x, y, z and half of the thickness there, mm."""
HEAD = 0.42
"""Share of the axis' length that lies in the head."""
PAPILLA = 0.22
"""Where the main duct ends in the duodenum, as such a share; the uncinate process lies below."""
TALL = 1.3
"""Height of a cross-section over its thickness."""
BILE = ((-18.0, 10.0, -6.0), (-19.0, 12.0, -26.0), (-22.0, 11.0, -46.0), (-31.0, 9.0, -60.0))


class Surroundings(Body):
    """The body of the liver phantom without its pancreas."""

    def _paint(self, centre: Point, radii: Point, *layers: tuple[float, float], label: str = "") -> None:
        if label != "pancreas":
            super()._paint(centre, radii, *layers, label=label)


@dataclass(frozen=True)
class Obstruction:
    """What a tumour does to the gland towards the tail of it.

    Attributes:
        at: the tumour's place as a share of the axis' length.
        duct_mm: radius of the duct behind it.
        shrink: factor on the thickness of the gland there.
        bile_mm: radius of the bile duct.
    """

    at: float
    duct_mm: float
    shrink: float
    bile_mm: float


@dataclass(frozen=True, eq=False)
class Axis:
    """The gland's axis: points x, y, z in mm, shape (n, 3), the half thickness there, and the share of the length."""

    points: np.ndarray
    radius: np.ndarray
    share: np.ndarray

    def at(self, share: float) -> Point:
        x, y, z = (float(np.interp(share, self.share, column)) for column in self.points.T)
        return x, y, z

    def tree(self, radius: np.ndarray, low: float = 0.0, high: float = 1.0) -> Tree:
        """Return a tube along the axis, of a radius per point, between two shares of the length."""
        own = np.flatnonzero((self.share >= low) & (self.share <= high))
        return Tree(self.points[own[:-1]], self.points[own[1:]], radius[own[:-1]])


@dataclass(frozen=True, eq=False)
class Gland:
    """The gland: HU of its tissue without fat, its axis, its box of samples, and the signed distance to its surface."""

    tissue: float
    axis: Axis
    box: Box
    distance: np.ndarray


def draw_axis(spec: Spec, rng: np.random.Generator, shrunk: Obstruction | None = None) -> Axis:
    """Draw the axis of a patient; behind an obstruction the gland is thinner, but holds its duct."""
    nodes = np.array(NODES)
    moved = nodes[:, :3] + rng.normal(0, 2.0, (len(nodes), 3)).clip(-4, 4) + rng.normal(0, 3.0, 3).clip(-6, 6)
    moved[:, 2] += np.linspace(0, 1, len(nodes)) ** 2 * spec.draw(rng, "pancreas.tail_rise_mm")
    thick = nodes[:, 3] * spec.draw(rng, "pancreas.size") * np.exp(0.08 * rng.standard_normal(len(nodes)).clip(-2, 2))
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(moved, axis=0), axis=1)))
    share = np.linspace(0, 1, 65)
    table = PchipInterpolator(length / length[-1], np.column_stack([moved, thick]))(share)
    radius = table[:, 3]
    if shrunk is not None:
        behind = np.clip((share - shrunk.at) / 0.08, 0, 1)
        radius = radius * (1 - behind * (1 - shrunk.shrink))
        radius = np.where(behind > 0, np.maximum(radius, shrunk.duct_mm + 2.5), radius)
    return Axis(table[:, :3], radius, share)


def paint_gland(
    canvas: Canvas, spec: Spec, rng: np.random.Generator, axis: Axis, tissue: float, fat: float, cut: Obstruction | None
) -> Gland:
    """Paint the gland over what is there and make it the organ of the canvas; ``tissue`` and ``fat`` in HU."""
    canvas.liver[:] = 0
    canvas.labels[canvas.labels == LABELS["pancreas"]] = 0
    age = spec.draw(rng, "pancreas.age")
    old = float(np.clip((age - 30) / 50, 0, 1))
    low, high = axis.points.min(0), axis.points.max(0)
    middle, half = (low + high) / 2, (high - low) / 2 + 26
    box = canvas.space.box((middle[0], middle[1], middle[2]), (half[0], half[1], half[2]))
    smooth, place = _nearest(canvas, box, axis)
    lumps = np.float32(0.75) * _field(canvas, box, rng, 10.0) + np.float32(0.45) * _field(canvas, box, rng, 5.5)
    lumpy = np.float32(spec.draw(rng, "pancreas.lobulation_mm") * (0.6 + 0.8 * old)) * lumps.clip(-2, 2)
    distance = smooth + lumpy
    around = occupancy(smooth - np.float32(spec.draw(rng, "pancreas.fat_around_mm")), 3.0)
    canvas.paint(box, around, fat)
    canvas.paint_liver(box, occupancy(distance, canvas.space.pixel), tissue, LABELS["pancreas"])

    fatty = _fat_share(canvas, spec, rng, box, distance, place, old)
    lay(canvas.hu[box], fatty * canvas.liver[box], fat)
    slow = np.float32(spec.draw(rng, "pancreas.slow_sd")) * _field(canvas, box, rng, 24.0)
    canvas.hu[box] += slow * canvas.liver[box]
    _ducts(canvas, spec, rng, axis, cut)
    return Gland(tissue, axis, box, distance)


def _nearest(canvas: Canvas, box: Box, axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    """Return the signed distance to the smooth gland, and the share of the axis' length of the nearest point."""
    x, y, z = canvas.space.at(box)
    best, place = np.full(x.shape, 1e3, np.float32), np.zeros(x.shape, np.float32)
    for point, radius, share in zip(axis.points, axis.radius, axis.share, strict=True):
        cx, cy, cz = (np.float32(value) for value in point.tolist())
        far = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + ((z - cz) / np.float32(TALL)) ** 2) - np.float32(radius)
        np.copyto(place, np.float32(share), where=far < best)
        np.minimum(best, far, out=best)
    return best, place


def _fat_share(
    canvas: Canvas, spec: Spec, rng: np.random.Generator, box: Box, distance: np.ndarray, place: np.ndarray, old: float
) -> np.ndarray:
    """Return the share of fat in the gland: clefts between lobules, deepest at the surface, diffuse, and uneven fat.

    Uneven fat replaces the front of the head and spares its back.
    """
    cleft = np.abs(_field(canvas, box, rng, spec.draw(rng, "pancreas.lobule_mm")))
    width = np.float32(spec.draw(rng, "pancreas.cleft_width") * (0.25 + old))
    reach = np.clip(1 + distance / np.float32(spec.draw(rng, "pancreas.cleft_reach_mm")), 0.2, 1)
    share = np.clip((width - cleft) / np.float32(0.2) + np.float32(0.5), 0, 1) * reach
    share *= np.float32(spec.draw(rng, "pancreas.cleft_fat"))
    share += np.float32(spec.draw(rng, "pancreas.diffuse_fat") * old)
    if rng.random() < spec.draw(rng, "pancreas.uneven_share"):
        _, y, _ = canvas.space.at(box)
        front = np.clip((np.float32(spec.draw(rng, "pancreas.uneven_border_mm")) - y) / 6, 0, 1)
        share += np.float32(spec.draw(rng, "pancreas.uneven_fat")) * front * np.clip((HEAD - place) / 0.06, 0, 1)
    return np.clip(share, 0, 0.9)


def _ducts(canvas: Canvas, spec: Spec, rng: np.random.Generator, axis: Axis, cut: Obstruction | None) -> None:
    """Paint the main duct, from the papilla on, and the bile duct; neither gets a label of its own."""
    radius = spec.draw(rng, "pancreas.duct_radius_mm") * (1 - 0.4 * axis.share)
    bile = spec.draw(rng, "pancreas.bile_radius_mm")
    if cut is not None:
        wider = np.clip((axis.share - cut.at) / 0.04, 0, 1)
        radius = np.maximum(radius, cut.duct_mm * wider * (1 - 0.25 * axis.share))
        bile = max(bile, cut.bile_mm)
    fluid, whole = spec.draw(rng, "pancreas.duct_hu"), (slice(0, canvas.space.shape[0]), slice(None), slice(None))
    points = np.array(BILE) + rng.normal(0, 1.5, 3)
    pipe = Tree(points[:-1], points[1:], np.full(len(points) - 1, bile))
    for tree in (axis.tree(radius, PAPILLA, 0.97), pipe):
        lay(canvas.hu[whole], occupy(canvas.space, tree)[0], fluid)


def _field(canvas: Canvas, box: Box, rng: np.random.Generator, scale: float) -> np.ndarray:
    return smooth_field(rng, canvas.space.cut(box), scale)
