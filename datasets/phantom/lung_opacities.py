"""Opacities of pneumonia, and small nodules.

The process differs from every method's training synthesis: no filtered binary noise, no deformed ellipsoids. An opacity
grows from a point of the lung, further along the pleura than into the depth; its border follows noise on two scales
and, by a drawn share, the walls of secondary lobules (the cells of a jittered lattice). Vessels run through it
unchanged and bronchi keep their air.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from .canvas import central, mark
from .fields import smooth_field
from .lung_anatomy import Lungs
from .shapes import Box, Point, Space, ellipsoid, lay, occupancy
from .spec import Spec, Stratified, rounded

SPREAD = np.asarray([0.8191725, 0.6710436, 0.5497005])  # powers of 1/1.2207441: the R3 sequence of Roberts, 2018


@dataclass(frozen=True)
class Opacity:
    """What was drawn for one opacity, and what came of it.

    Attributes:
        kind: ``glass``, ``consolidation``, ``paving`` (crazy paving) or ``mixed`` (glass with a consolidated core).
        peripheral: whether it grew from below the pleura.
        radius_mm: intended reach along the pleura.
        centre_mm: x, y, z of its origin from the centre of the body.
        hu: intended HU of its body.
        mean_hu: mean over the labelled voxels, vessels included, without noise and blur.
        voxels: labelled voxels that no earlier opacity has.
        volume_ml: their volume.
    """

    kind: str
    peripheral: bool
    radius_mm: float
    centre_mm: Point
    hu: float
    mean_hu: float
    voxels: int
    volume_ml: float

    def to_json(self) -> dict[str, Any]:
        return rounded(self, radius_mm=2, hu=1, mean_hu=1, volume_ml=3)


@dataclass(frozen=True)
class Nodule:
    """A small nodule of a scan that counts as healthy: centre in the space's coordinates x, y, z, and diameter, mm."""

    centre_mm: Point
    diameter_mm: float


@dataclass(frozen=True)
class Burden(Stratified):
    """Quantiles of a patient's disease.

    Attributes:
        count: of the number of opacities.
        radius, kind, glass: of the first opacity's reach, kind and HU of ground glass; those of the others follow in a
            low-discrepancy sequence, so that no patient is hard or easy by a run of equal draws.
    """

    count: float
    radius: float
    kind: float
    glass: float


@dataclass(eq=False)
class Painter:
    """Paints opacities into the lungs of one patient.

    Attributes:
        hu: float32, samples; changed in place.
        air: share of airway lumen in every sample.
        seen: bool, slices: voxels of the lung label.
        spacing: voxel size of the slices in mm, z, y, x.
    """

    hu: np.ndarray
    space: Space
    lungs: Lungs
    air: np.ndarray
    seen: np.ndarray
    spec: Spec
    rng: np.random.Generator
    spacing: tuple[float, float, float]

    def __post_init__(self) -> None:
        self.truth = np.zeros(self.seen.shape, bool)

    def paint(self, burden: Burden) -> list[Opacity]:
        """Paint a patient's opacities, at least one of them large enough for a label; ``truth`` has their voxels."""
        count = max(1, round(self.spec.quantile("lesions.count", burden.count)))
        first = np.asarray([burden.radius, burden.kind, burden.glass])
        found: list[Opacity] = []
        while len(found) < count or not self.truth.any():
            found.append(self._opacity(*((first + len(found) * SPREAD) % 1)))
        return found

    def _opacity(self, radius_share: float, kind_share: float, glass_share: float) -> Opacity:
        spec, rng = self.spec, self.rng
        kinds = spec.entry("lesions.kinds")["choice"]
        kind = kinds[min(int(kind_share * len(kinds)), len(kinds) - 1)]
        radius = max(spec.quantile("lesions.radius_mm", radius_share), 0.9 * self.spacing[0], 1.5 * self.spacing[1])
        peripheral = bool(rng.random() < spec.draw(rng, "lesions.peripheral_share"))
        index = self._origin(peripheral, radius)
        centre = tuple(float(self.space.warped[2 - k][index]) for k in range(3))
        where = _place(self.space, index)
        box = self.space.box(where, (1.8 * radius, 1.8 * radius, 1.8 * radius), margin=4.0)
        grown, wall = self._grow(box, np.asarray(centre), index, radius, peripheral)
        glass = spec.quantile("lesions.glass", glass_share)
        target, level = self._inside(box, kind, glass, grown, wall)
        edge = spec.draw(rng, f"lesions.{'firm' if kind == 'consolidation' else 'soft'}_edge_mm")
        share = np.clip(0.5 + grown * np.float32(radius / max(edge, self.space.pixel)), 0, 1)
        share = share * share * (3 - 2 * share)
        hu = self.hu[box]
        cover = share * self.lungs.share[box] * (1 - self.air[box])
        # Diseased lung is denser than it was, also where dependent density was there before; vessels stay as they are.
        tissue = np.clip((-450 - hu) / 150, 0, 1)
        hu += cover * np.maximum(target - hu, tissue * np.float32(spec.draw(rng, "lesions.least_rise")))
        marked = mark(self.truth, self.seen, box, share, hu, self.spacing)
        return Opacity(kind, peripheral, radius, where, level, *marked)

    def _origin(self, peripheral: bool, radius: float) -> tuple[int, int, int]:
        """Choose a sample of the lung: below the pleura or deeper, more often at the back and the base."""
        spec, rng = self.spec, self.rng
        (slices, _, _), middle = central((slice(0, self.space.shape[0]), slice(None), slice(None)))
        depth = -self.lungs.distance[middle]
        rim = (depth > 1) & (depth < max(6.0, 1.2 * self.space.pixel))
        wanted = rim if peripheral else depth > min(1.2 * radius, 0.7 * float(depth.max()))
        z, y, x = np.nonzero(wanted & self.seen[slices])
        at = z, y, x = z * middle.step + middle.start, y, x
        weight = np.exp(
            self.space.warped[1][at] / spec.draw(rng, "lesions.posterior_mm")
            - self.space.warped[0][at] / spec.draw(rng, "lesions.basal_mm")
        ).astype(float)
        picked = int(np.searchsorted(np.cumsum(weight), rng.random() * weight.sum()))
        return int(z[picked]), int(y[picked]), int(x[picked])

    def _grow(
        self, box: Box, centre: np.ndarray, index: tuple[int, int, int], radius: float, peripheral: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return how far inside the border every sample lies (share of the radius), and its mm to a lobule's wall."""
        spec, rng = self.spec, self.rng
        x, y, z = self.space.at(box)
        axes = self.space.cut(box)
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        flat = spec.draw(rng, "lesions.flatness")
        if peripheral:
            deeper = self.lungs.distance[box] - self.lungs.distance[index]
            squared = np.maximum(squared - deeper**2, 0) + (deeper * np.float32(1 / flat)) ** 2
        reach = np.sqrt(squared) * np.float32(1 / radius)
        rough = np.float32(spec.draw(rng, "lesions.roughness"))
        noise = np.float32(0.75) * smooth_field(rng, axes, 0.7 * radius)
        noise += np.float32(0.4) * smooth_field(rng, axes, 0.3 * radius)
        grown = 1 - reach.astype(np.float32) + rough * noise.clip(-1.8, 1.8)
        same = self.lungs.left[box] == self.lungs.left[index]
        grown[~same] = -1
        near = np.nonzero((grown > -0.6) & (self.lungs.distance[box] < self.space.pixel))
        cells, walls = self._lobules(np.stack([x[near], y[near], z[near]], 1))
        mean = np.bincount(cells, grown[near]) / np.maximum(np.bincount(cells), 1)
        share = np.float32(spec.draw(rng, "lesions.lobular"))
        grown[near] += share * (mean[cells].astype(np.float32) - grown[near])
        wall = np.full(grown.shape, np.inf, np.float32)
        wall[near] = walls
        return grown, wall

    def _lobules(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each point's cell of a jittered lattice, and its distance in mm to the cell's wall."""
        size = self.spec.draw(self.rng, "lesions.lobule_mm")
        low, high = points.min(0) - size, points.max(0) + size
        lattice = np.stack(np.meshgrid(*(np.arange(a, b, size) for a, b in zip(low, high, strict=True))), -1)
        seeds = lattice.reshape(-1, 3) + size * self.rng.uniform(-0.45, 0.45, (lattice.size // 3, 3))
        found = KDTree(seeds).query(points, k=2)
        distance, cell = np.asarray(found[0]), np.asarray(found[1])
        between = np.linalg.norm(seeds[cell[:, 0]] - seeds[cell[:, 1]], axis=1)
        wall = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * np.maximum(between, 1e-6))
        return cell[:, 0], wall.astype(np.float32)

    def _inside(
        self, box: Box, kind: str, glass: float, grown: np.ndarray, wall: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Return the HU of the diseased tissue at every sample, and the intended level of its body."""
        spec, rng = self.spec, self.rng
        firm = spec.draw(rng, "lesions.consolidation")
        septa, width = spec.draw(rng, "lesions.septa"), spec.draw(rng, "lesions.septa_mm")
        core, sd = spec.draw(rng, "lesions.core"), spec.draw(rng, "lesions.texture_sd")
        level = firm if kind == "consolidation" else glass
        target = np.full(grown.shape, level, np.float32)
        target += np.float32(sd) * smooth_field(rng, self.space.cut(box), 9.0)
        if kind == "paving":
            pixel = self.space.pixel
            line = np.clip(1 - wall / np.float32(pixel), 0, 1) * np.float32(min(1.0, width / pixel))
            lay(target, line, septa)
        if kind == "mixed":
            inner = np.clip((grown - np.float32(core)) / 0.15, 0, 1)
            lay(target, inner, firm)
        return target, level


def add_nodules(hu: np.ndarray, space: Space, lungs: Lungs, spec: Spec, rng: np.random.Generator) -> list[Nodule]:
    """Paint one or two small round nodules into the lungs, in place, and return them."""
    nodules = []
    for _ in range(spec.draw(rng, "nodules.count")):
        diameter = spec.draw(rng, "nodules.diameter_mm")
        radius = diameter / 2
        inside = np.nonzero(lungs.distance < -0.6 * diameter)
        picked = int(rng.integers(len(inside[0])))
        where = _place(space, (inside[0][picked], inside[1][picked], inside[2][picked]))
        box = space.box(where, (diameter, diameter, diameter), margin=2.0)
        z, y, x = space.cut(box)
        ball = ellipsoid(x[None, None], y[None, :, None], z[:, None, None], where, (radius, radius, radius))
        lay(hu[box], occupancy(ball, space.pixel), spec.draw(rng, "nodules.hu"))
        nodules.append(Nodule(where, diameter))
    return nodules


def _place(space: Space, index: tuple[int, int, int]) -> Point:
    z, y, x = (float(axis[place]) for axis, place in zip(space.axes, index, strict=True))
    return x, y, z
