"""Masses of the pancreas: dark, ill-defined adenocarcinomas, cysts, and bright neuroendocrine tumours.

The shape is that of the liver phantom's tumours. An adenocarcinoma may close the duct: behind it the duct is wide and
the gland thin, which belongs to the pancreas and not to the mass.
"""

from dataclasses import dataclass

import numpy as np

from .abdomen import drawn_apart
from .canvas import central, mark
from .fields import Axes, smooth_field
from .liver_anatomy import Liver
from .liver_tumours import Lesion, Strata, TumourPainter
from .pancreas_anatomy import HEAD, PAPILLA, Gland, Obstruction
from .shapes import Point, occupancy
from .spec import Spec

KINDS = ("adenocarcinoma", "cyst", "neuroendocrine")


def kind_of(spec: Spec, stratum: float) -> str:
    """Return the kind of a mass from its stratum in [0, 1]."""
    bounds = np.cumsum(spec.entry("tumours.kinds")["value"])
    return KINDS[int(np.searchsorted(bounds, stratum, side="right").clip(0, 2))]


def draw_obstruction(spec: Spec, rng: np.random.Generator, index: Strata) -> tuple[float, Obstruction | None]:
    """Return where the first mass of a patient lies, as a share of the axis' length, and what it does to the gland."""
    kind = kind_of(spec, index.kind)
    in_head = rng.random() < spec.draw(rng, "tumours.head_share")
    at = float(rng.uniform(0.12, HEAD) if in_head else rng.uniform(HEAD, 0.95))
    obstructs = rng.random() < spec.draw(rng, f"tumours.{kind}_obstructs") and PAPILLA < at < 0.85
    duct, shrink = spec.draw(rng, "tumours.wide_duct_radius_mm"), spec.draw(rng, "tumours.shrink")
    bile = spec.draw(rng, "tumours.wide_bile_radius_mm")
    return at, Obstruction(at, duct, shrink, bile if in_head else 0.0) if obstructs else None


@dataclass(eq=False)
class PancreasTumourPainter(TumourPainter):
    """Paints masses into the gland; ``truth`` has their voxels, within gland and fat.

    Attributes:
        at: place of the first mass, as a share of the gland's axis.
        fat: HU of the fat around the gland.
    """

    gland: Gland
    at: float
    fat: float

    def __post_init__(self) -> None:
        self.seen = np.ones(self.canvas.labels.shape, bool)
        self.truth = np.zeros(self.seen.shape, bool)

    def _place(self, radius: float, others: list[Lesion]) -> Point | None:
        """Choose a voxel of the gland: for the first mass near its place, for another one away from the first."""
        _, middle = central(self.liver.box)
        depth = -self.liver.distance[middle]
        z, y, x = np.nonzero(depth >= 0.5 * min(radius, float(depth.max())))
        zs, ys, xs = self.canvas.space.cut(self.liver.box)
        candidates = np.stack([xs[x], ys[y], zs[middle][z]], 1)
        if not others and len(candidates):
            wanted = self.canvas.space.locate(np.array([self.gland.axis.at(self.at)]))[0]
            apart = ((candidates - wanted) ** 2).sum(1)
            candidates = candidates[np.argsort(apart, kind="stable")[:8]]
        return drawn_apart(candidates, radius, others, self.rng)

    def _tumour(self, strata: Strata, radius: float, centre: Point) -> Lesion:
        canvas = self.canvas
        box = canvas.space.box(centre, (1.9 * radius, 1.9 * radius, 1.9 * radius), margin=6.0)
        axes = canvas.space.cut(box)
        distance = self._surface(axes, centre, radius)
        kind, contrast, target = self._inside(strata, axes, distance, radius)
        share = occupancy(distance, max(self.spec.draw(self.rng, f"tumours.{kind}_edge_mm"), canvas.space.pixel))
        hu = canvas.hu[box]
        # It grows into the gland and the fat around it, not into vessels and gut.
        room = np.maximum(canvas.liver[box], np.clip(2 - np.abs(hu - self.fat) / 40, 0, 1))
        share = share * share * (3 - 2 * share) * room
        hu += share * (np.float32(self.liver.hu) + target - hu)
        marked = mark(self.truth, self.seen, box, share, share * target, self.spacing)
        return Lesion(kind, radius, centre, contrast, *marked)

    def _inside(self, strata: Strata, axes: Axes, distance: np.ndarray, radius: float) -> tuple[str, float, np.ndarray]:
        """Return the kind, the intended contrast, and the HU relative to the gland's tissue at every sample."""
        spec, rng, kind = self.spec, self.rng, kind_of(self.spec, strata.kind)
        contrast = spec.quantile(f"tumours.{kind}_contrast", strata.contrast)
        if kind == "adenocarcinoma" and rng.random() < spec.draw(rng, "tumours.iso_share"):
            contrast = spec.draw(rng, "tumours.iso_contrast")
        target = np.full(distance.shape, contrast, np.float32)
        depth = np.clip((-distance / np.float32(radius) - 0.3) / 0.4, 0, 1)
        core = spec.draw(rng, f"tumours.{kind}_core")
        target += np.float32(core) * depth
        if kind == "cyst":  # thin walls between its chambers
            walls = np.abs(smooth_field(rng, axes, max(5.0, 0.7 * radius)))
            target += np.float32(spec.draw(rng, "tumours.septa_hu")) * np.clip(1 - walls / np.float32(0.25), 0, 1)
        sd = spec.draw(rng, f"tumours.{kind}_texture_sd")
        target += np.float32(sd) * smooth_field(rng, axes, max(3.0, 0.3 * radius))
        return kind, contrast, target


def as_organ(gland: Gland) -> Liver:
    """Return the gland as the organ that a painter of tumours knows."""
    return Liver(gland.tissue, gland.box, gland.distance)
