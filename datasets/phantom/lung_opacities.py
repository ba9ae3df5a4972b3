"""Opacities of pneumonia, and small nodules.

Pneumonia spreads from lobule to lobule: first-passage percolation on the lung's own lattice of secondary lobules. What
it infects fills with fluid, acinus by acinus, so that the HU follow from how much air is left. No noise is thresholded
or filtered, no blob deformed, nothing blended in: the process shares neither code nor law with any method's training
synthesis (docs/phantom.md). Vessels run through it, bronchi keep their air.
"""

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np

from .canvas import SUB
from .fields import smooth_field
from .lung_anatomy import Lungs
from .lung_lobules import Cells, Tissue
from .shapes import Point, Space, ellipsoid, lay, occupancy, sheet
from .spec import Spec, Stratified, rounded

STEP = 0.6180340  # kinds of a patient's foci follow each other by the golden section


@dataclass(frozen=True)
class Opacity:
    """What was drawn for one focus, and what came of it.

    Attributes:
        kind: ``glass``, ``consolidation``, ``paving`` (crazy paving), ``mixed`` (glass with a consolidated core) or
            ``halo`` (reversed halo: a consolidated ring around glass).
        peripheral: whether it started below the pleura.
        lobules: infected lobules.
        centre_mm: x, y, z of where it started, from the centre of the body.
        hu: intended HU of its glass, or of its consolidation.
        mean_hu: mean over the labelled voxels, vessels included, without noise and blur.
        voxels: labelled voxels.
        volume_ml: their volume.
    """

    kind: str
    peripheral: bool
    lobules: int
    centre_mm: Point
    hu: float
    mean_hu: float
    voxels: int
    volume_ml: float

    def to_json(self) -> dict[str, Any]:
        return rounded(self, hu=1, mean_hu=1, volume_ml=3)


@dataclass(frozen=True)
class Nodule:
    """A small nodule of a scan that counts as healthy: centre in the space's coordinates x, y, z, and diameter, mm."""

    centre_mm: Point
    diameter_mm: float


@dataclass(frozen=True)
class Burden(Stratified):
    """Quantiles of a patient's disease.

    Attributes:
        extent: of the infected share of the lungs.
        count: of the number of foci.
        kind: of the first focus's kind; the others follow by the golden section.
        glass: of the patient's HU of ground glass.
    """

    extent: float
    count: float
    kind: float
    glass: float


@dataclass(eq=False)
class Pneumonia:
    """Infects the lobules of one patient.

    Attributes:
        hu: float32, samples (z, y, x); changed in place.
        air: share of airway lumen in every sample.
        seen: bool, slices: voxels of the lung label.
        lobules, cell, wall: secondary lobules, the lobule of every sample of ``tissue``, and its mm from the wall.
        spacing: voxel size of the slices in mm, z, y, x.
    """

    hu: np.ndarray
    space: Space
    lungs: Lungs
    air: np.ndarray
    seen: np.ndarray
    tissue: Tissue
    lobules: Cells
    cell: np.ndarray
    wall: np.ndarray
    spec: Spec
    rng: np.random.Generator
    spacing: tuple[float, float, float]

    def __post_init__(self) -> None:
        self.truth = np.zeros(self.seen.shape, bool)
        self.owner = np.zeros(len(self.lobules), np.int32)
        self.age = np.zeros(len(self.lobules), np.float32)
        weight = self.lungs.share[self.tissue.at]
        self.volume = np.bincount(self.cell, weight, len(self.lobules)) * np.prod(self.spacing) / SUB / 1000
        full = np.maximum(np.bincount(self.cell, minlength=len(self.lobules)), 1)
        self.depth = np.bincount(self.cell, self.tissue.depth, len(self.lobules)) / full
        self.left = np.bincount(self.cell, self.lungs.left[self.tissue.at], len(self.lobules)) > full / 2
        self.upper = np.bincount(self.cell, self.lungs.upper[self.tissue.at], len(self.lobules)) > full / 2

    def _take(self, name: str) -> Any:
        return self.spec.draw(self.rng, f"lesions.{name}")

    def paint(self, burden: Burden) -> list[Opacity]:
        """Infect a patient's lungs; ``truth`` has the infected lobules of the lung label."""
        wanted = self.spec.quantile("lesions.extent", burden.extent) * self.volume.sum()
        count = max(1, round(self.spec.quantile("lesions.count", burden.count)))
        sizes = self.rng.lognormal(0, self._take("unevenness"), count)
        kinds = self.spec.entry("lesions.kinds")["choice"]
        glass = self.spec.quantile("lesions.glass_fill", burden.glass)
        foci = []
        for number, size in enumerate(wanted * sizes / sizes.sum()):
            kind = kinds[int((burden.kind + number * STEP) % 1 * len(kinds))]
            peripheral = bool(self.rng.random() < self._take("peripheral_share"))
            start = self._start(peripheral)
            if start is not None and self._spread(start, number + 1, float(size), peripheral):
                foci.append((number + 1, kind, peripheral, start))
        levels = self._fill(foci, glass)
        return [self._record(focus, level) for focus, level in zip(foci, levels, strict=True)]

    def _start(self, peripheral: bool) -> int | None:
        """Choose a lobule: below the pleura or deeper, more often at the back and the base."""
        reach = self._take("rim_mm")
        free = (self.owner == 0) & (self.volume > 0.3 * self.lobules.size**3 / 1000)
        free &= (self.depth < reach) if peripheral else (self.depth > 1.4 * reach)
        found = np.flatnonzero(free)
        if not len(found):
            return None
        _, y, z = self.lobules.seeds[found].T
        weight = np.exp(y / self._take("posterior_mm") - z / self._take("basal_mm")).astype(float)
        return int(found[np.searchsorted(np.cumsum(weight), self.rng.random() * weight.sum())])

    def _spread(self, start: int, number: int, wanted: float, peripheral: bool) -> int:
        """Infect lobules in the order in which the disease reaches them, until they fill ``wanted`` ml."""
        along, fissure = self._take("along_pleura_mm"), self._take("fissure_delay")
        reached, queue, order = 0.0, [(0.0, start)], []
        while queue and (reached < wanted or not order):
            time, cell = heappop(queue)
            if self.owner[cell]:
                continue
            self.owner[cell] = number
            order.append((cell, time))
            reached += float(self.volume[cell])
            near = self.lobules.beside(cell)
            near = near[(self.volume[near] > 0) & (self.owner[near] == 0) & (self.left[near] == self.left[start])]
            apart = np.linalg.norm(self.lobules.seeds[near] - self.lobules.seeds[cell], axis=1) / self.lobules.size
            delay = self.rng.gamma(self._take("steps"), size=len(near)) * apart**3
            delay *= np.where(self.upper[near] == self.upper[cell], 1.0, fissure)
            if peripheral:
                delay *= np.exp(self.depth[near] / along)
            for item in zip(time + delay, near, strict=True):
                heappush(queue, (float(item[0]), int(item[1])))
        last = max(order[-1][1], 1e-9)
        for cell, time in order:
            self.age[cell] = time / last
        return len(order)

    def _fill(self, foci: list[tuple[int, str, bool, int]], glass: float) -> list[float]:
        """Fill the air of infected lobules with fluid; return every focus's intended HU."""
        count, fluid = len(self.lobules), self.spec.draw(self.rng, "hu.fluid")
        aerated = float(np.median(self.hu[self.tissue.at]))
        values = np.zeros((count, 3), np.float32)  # share of air filled, mottling, septal lines
        levels = []
        for number, kind, _, _ in foci:
            own = np.flatnonzero(self.owner == number)
            firm = self._take("firm_fill")
            fill = glass * np.exp(self._take("lobule_spread") * self.rng.standard_normal(len(own)))
            fill *= 1 - self._take("fading") * self.age[own]
            solid = np.zeros(len(own), bool)
            if kind == "consolidation":
                solid[:] = True
            elif kind == "mixed":
                solid = self.age[own] < self._take("core")
            elif kind == "halo":
                solid = self.age[own] > 1 - self._take("ring")
            fill[solid] = firm * (1 - 0.1 * self.rng.random(solid.sum()))
            values[own, 0] = np.clip(fill, self._take("least_fill"), 0.98)
            values[own, 1] = np.where(solid, 0, self._take("mottling"))
            values[own, 2] = self._take("septum_fill") if kind == "paving" else 0
            levels.append(aerated + (firm if kind == "consolidation" else glass) * (fluid - aerated))
        near = np.flatnonzero(self._close(self.owner > 0)[self.cell])
        if len(near):
            self._soak(near, values, float(fluid))
        return levels

    def _close(self, infected: np.ndarray) -> np.ndarray:
        """Return the infected cells and those beside them."""
        close = infected.copy()
        for cell in np.flatnonzero(infected):
            close[self.lobules.beside(int(cell))] = True
        return close

    def _soak(self, near: np.ndarray, values: np.ndarray, fluid: float) -> None:
        """Raise the HU of the samples ``near`` the infected lobules, and label what lies in these."""
        tissue = self.tissue.part(near)
        sharp = smooth_field(self.rng, self.space.axes, 28.0)[tissue.at]
        edge = np.float32(self._take("edge_mm")) * np.exp(np.float32(0.6) * sharp)
        fill, uneven, septa = self.lobules.mix(tissue, values, np.maximum(edge, 0.3)).T
        # Some acini are flooded and others spared, as many as the lobule's share of fluid asks for.
        acini = Cells(self.tissue, self._take("acinus_mm"), self.rng)
        drawn = self.rng.random((len(acini), 1)).astype(np.float32)
        chance = acini.mix(tissue, drawn, np.full(len(near), 0.5, np.float32))[:, 0]
        full = np.float32(self._take("flooded_fill"))
        flooded = full * np.clip((fill / full - chance) * np.float32(8) + np.float32(0.5), 0, 1)
        fill = fill + uneven * (flooded - fill)
        if septa.any():
            thin = acini.locate(tissue)[1]
            pixel, width = self.space.pixel, np.float32(self._take("septum_mm"))
            lines = np.maximum(sheet(self.wall[near], width, pixel), np.float32(0.7) * sheet(thin, width, pixel))
            fill += lines * septa * (1 - fill)
        hu = self.hu[tissue.at]
        cover = self.lungs.share[tissue.at] * (1 - self.air[tissue.at])
        hu += np.clip(fill, 0, 0.98) * cover * np.maximum(np.float32(fluid) - hu, 0)
        self.hu[tissue.at] = hu
        self.marked = self.on_slices(self.owner[self.cell], 0) * self.seen
        self.truth = self.marked > 0

    def on_slices(self, values: np.ndarray, outside: int) -> np.ndarray:
        """Return values of the samples of the lung, int32 (n,), as they are at the slices' centres."""
        found = np.full(self.seen.shape, outside, np.int32)
        z, y, x = self.tissue.at
        middle = z % SUB == SUB // 2
        found[z[middle] // SUB, y[middle], x[middle]] = values[middle]
        return found

    def _record(self, focus: tuple[int, str, bool, int], level: float) -> Opacity:
        number, kind, peripheral, start = focus
        inside = self.marked == number
        voxels = int(inside.sum())
        mean = float(self.hu[SUB // 2 :: SUB][inside].mean()) if voxels else 0.0
        x, y, z = self.space.locate(self.lobules.seeds[start][None].astype(float))[0].tolist()
        lobules = int((self.owner == number).sum())
        return Opacity(
            kind, peripheral, lobules, (x, y, z), level, mean, voxels, float(voxels * np.prod(self.spacing) / 1000)
        )


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
