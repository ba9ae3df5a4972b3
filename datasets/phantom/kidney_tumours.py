"""Kidney tumours: lumpy bodies at the surface of a kidney, partly outside it, as bright as the medulla and patchy.

The shape is that of the liver phantom's tumours; what is inside differs: a level between medulla and cortex, a dead
centre, parts that enhance like cortex, and a capsule.
"""

from dataclasses import dataclass

import numpy as np

from .abdomen import drawn_apart
from .canvas import central, mark
from .fields import Axes, smooth_field
from .kidney_anatomy import Kidney, Phase
from .liver_anatomy import Liver
from .liver_tumours import Lesion, Strata, TumourPainter
from .shapes import Point, occupancy


@dataclass(eq=False)
class KidneyTumourPainter(TumourPainter):
    """Paints tumours into one kidney after the other; ``truth`` has their voxels, within kidney and fat."""

    phase: Phase
    kidneys: list[Kidney]

    def __post_init__(self) -> None:
        self.seen = np.ones(self.canvas.labels.shape, bool)
        self.truth = np.zeros(self.seen.shape, bool)

    def paint(self, index: Strata) -> list[Lesion]:
        """Paint a patient's tumours: at least one; ``index`` are the strata of the first one."""
        count = round(self.spec.quantile("tumours.count", index.count))
        lesions: list[Lesion] = []
        while len(lesions) < count:
            strata = index if not lesions else Strata(*(float(value) for value in self.rng.uniform(size=4)))
            radius = self.spec.quantile("tumours.radius_mm", strata.radius)
            radius = max(radius, 0.9 * self.spacing[0], 1.3 * self.spacing[1])
            kidney = self.kidneys[int(self.rng.integers(len(self.kidneys)))]
            self.liver = Liver(self.phase.medulla, kidney.box, kidney.distance)
            centre = self._place(radius, lesions)
            if centre is None:
                break
            lesions.append(self._tumour(strata, radius, centre))
        return lesions

    def _place(self, radius: float, others: list[Lesion]) -> Point | None:
        """Choose a voxel near the surface of the kidney, away from the sinus and from the other tumours."""
        _, middle = central(self.liver.box)
        depth = -self.liver.distance[middle]
        out = self.spec.draw(self.rng, "tumours.outside_share") * radius
        z, y, x = np.nonzero((depth >= -out) & (depth <= -out + max(4.0, 0.5 * radius)))
        zs, ys, xs = self.canvas.space.cut(self.liver.box)
        candidates = np.stack([xs[x], ys[y], zs[middle][z]], 1)
        inside = (candidates[:, 2] > zs[0] + 0.5 * radius) & (candidates[:, 2] < zs[-1] - 0.5 * radius)
        candidates = candidates[inside]
        return drawn_apart(candidates, radius, others, self.rng)

    def _tumour(self, strata: Strata, radius: float, centre: Point) -> Lesion:
        canvas = self.canvas
        box = canvas.space.box(centre, (1.9 * radius, 1.9 * radius, 1.9 * radius), margin=6.0)
        axes = canvas.space.cut(box)
        distance = self._surface(axes, centre, radius)
        kind, contrast, target = self._inside(strata, axes, distance, radius)
        edge = max(self.spec.draw(self.rng, "tumours.edge_mm"), canvas.space.pixel)
        share = occupancy(distance, edge)
        hu = canvas.hu[box]
        # It grows into the kidney and the fat around it, not into other organs.
        room = np.maximum(canvas.liver[box], np.clip(2 - np.abs(hu - self.phase.fat) / 40, 0, 1))
        share = share * share * (3 - 2 * share) * room
        hu += share * (np.float32(self.phase.medulla) + target - hu)
        marked = mark(self.truth, self.seen, box, share, share * target, self.spacing)
        return Lesion(kind, radius, centre, contrast, *marked)

    def _inside(self, strata: Strata, axes: Axes, distance: np.ndarray, radius: float) -> tuple[str, float, np.ndarray]:
        """Return the kind, the intended contrast, and the HU relative to the medulla at every sample."""
        spec, rng = self.spec, self.rng
        level = spec.quantile("tumours.level", strata.contrast)
        clear = strata.kind < spec.draw(rng, "tumours.clear_cell_share")
        core, depth = spec.draw(rng, "tumours.core_change"), np.clip((-distance / np.float32(radius) - 0.3) / 0.4, 0, 1)
        has_core = rng.random() < spec.draw(rng, "tumours.core_share")
        sd = spec.draw(rng, "tumours.texture_sd")
        target = np.full(distance.shape, level, np.float32)
        if has_core:
            target += np.float32(core) * depth
        if clear:  # parts of it enhance like cortex
            patchy = smooth_field(rng, axes, max(5.0, 0.5 * radius))
            bright = np.float32(self.phase.cortex - self.phase.medulla - level)
            target += bright * np.clip(patchy - np.float32(spec.draw(rng, "tumours.bright_from")), 0, 1) * (1 - depth)
        target += np.float32(sd) * smooth_field(rng, axes, max(3.0, 0.3 * radius))
        return "clear cell" if clear else "other", level, target
