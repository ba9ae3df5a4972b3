"""Liver tumours: rough implicit surfaces with soft edges, rims and uneven insides.

The process differs from every method's training synthesis: no thresholded noise image and no constant shift. A tumour
is a signed distance (merged balls, displaced by noise on two scales) with an edge of its own softness, and its HU
follow the distance from that surface.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .canvas import Canvas, central, mark
from .fields import Axes, smooth_field
from .liver_anatomy import LABELS, Liver
from .shapes import Point, ellipsoid, occupancy, union
from .spec import Spec, Stratified, rounded


@dataclass(frozen=True)
class Lesion:
    """What was drawn for one tumour, and what came of it.

    Attributes:
        kind: ``dark``, ``rim`` (dark with a bright rim) or ``bright``.
        radius_mm: radius of the ball of the intended size.
        centre_mm: x, y, z from the centre of the body.
        contrast_hu: intended difference between the tumour's body and the liver.
        mean_contrast_hu: mean difference over the labelled voxels, without noise, liver texture and blur.
        voxels: labelled voxels.
        volume_ml: their volume.
    """

    kind: str
    radius_mm: float
    centre_mm: Point
    contrast_hu: float
    mean_contrast_hu: float
    voxels: int
    volume_ml: float

    def to_json(self) -> dict[str, Any]:
        return rounded(self, radius_mm=2, contrast_hu=2, mean_contrast_hu=2, volume_ml=4)


@dataclass(frozen=True)
class Strata(Stratified):
    """Quantiles of a patient's number of tumours, and of the first one's size, contrast and kind."""

    count: float
    radius: float
    contrast: float
    kind: float


@dataclass(eq=False)
class TumourPainter:
    """Paints tumours into the liver of one patient; ``truth`` has their voxels, on slices of ``spacing`` (z, y, x)."""

    canvas: Canvas
    liver: Liver
    spec: Spec
    rng: np.random.Generator
    spacing: tuple[float, float, float]

    def __post_init__(self) -> None:
        self.seen = self.canvas.labels == LABELS["liver"]
        self.truth = np.zeros(self.seen.shape, bool)

    def paint(self, index: Strata) -> list[Lesion]:
        """Paint a patient's tumours: at least one, and no more than find a place of their own.

        ``index`` are the strata of the first tumour; the others are drawn freely.
        """
        spec, rng = self.spec, self.rng
        count = round(spec.quantile("tumours.count", index.count))
        lesions: list[Lesion] = []
        while len(lesions) < count:
            strata = index if not lesions else Strata(*(float(value) for value in rng.uniform(size=4)))
            radius = max(
                spec.quantile("tumours.radius_mm", strata.radius), 0.8 * self.spacing[0], 1.2 * self.spacing[1]
            )
            centre = self._place(radius, lesions)
            if centre is None:
                break
            lesions.append(self._tumour(strata, radius, centre))
        return lesions

    def _place(self, radius: float, others: list[Lesion]) -> Point | None:
        """Choose a slice-centre voxel of the liver, deep enough for the radius and away from the other tumours."""
        slices, middle = central(self.liver.box)
        depth = np.where(self.seen[slices], -self.liver.distance[middle], -np.inf)
        z, y, x = np.nonzero(depth >= min(0.7 * radius, 0.8 * float(depth.max())))
        zs, ys, xs = self.canvas.space.cut(self.liver.box)
        candidates = np.stack([xs[x], ys[y], zs[middle][z]], 1)
        for other in others:
            distance = np.sqrt(((candidates - np.asarray(other.centre_mm)) ** 2).sum(1))
            candidates = candidates[distance >= 1.3 * (radius + other.radius_mm)]
        if not len(candidates):
            return None
        cx, cy, cz = candidates[int(self.rng.integers(len(candidates)))]
        return float(cx), float(cy), float(cz)

    def _tumour(self, strata: Strata, radius: float, centre: Point) -> Lesion:
        canvas = self.canvas
        box = canvas.space.box(centre, (1.9 * radius, 1.9 * radius, 1.9 * radius), margin=6.0)
        axes = canvas.space.cut(box)
        distance = self._surface(axes, centre, radius)
        kind, contrast, target = self._inside(strata, axes, distance, radius)
        edge = max(self.spec.draw(self.rng, "tumours.edge_mm"), canvas.space.pixel)
        share = occupancy(distance, edge)
        share = share * share * (3 - 2 * share)
        hu = canvas.hu[box]
        hu += share * canvas.liver[box] * (np.float32(self.liver.hu) + target - hu)
        marked = mark(self.truth, self.seen, box, share, share * target, self.spacing)
        return Lesion(kind, radius, centre, contrast, *marked)

    def _surface(self, axes: Axes, centre: Point, radius: float) -> np.ndarray:
        """Return the signed distance of a lumpy, rough shape of about ``radius``."""
        spec, rng = self.spec, self.rng
        z, y, x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None]
        lobes = spec.draw(rng, "tumours.lobes")
        main = radius * (1.0 if lobes == 1 else 0.86)
        stretch = np.exp(0.14 * rng.standard_normal(3).clip(-2, 2))
        distance = ellipsoid(x, y, z, centre, tuple(main * stretch))
        for _ in range(lobes - 1):
            way = rng.standard_normal(3)
            way *= radius * rng.uniform(0.45, 0.8) / np.linalg.norm(way)
            radii = tuple(radius * rng.uniform(0.4, 0.65) * np.exp(0.1 * rng.standard_normal(3).clip(-2, 2)))
            lobe = ellipsoid(x, y, z, tuple(np.asarray(centre) + way), radii)
            distance = union(distance, lobe, 0.35 * radius)
        roughness = radius * spec.draw(rng, "tumours.roughness")
        coarse = smooth_field(rng, axes, 0.75 * radius)
        fine = smooth_field(rng, axes, 0.36 * radius)
        return distance + np.float32(roughness) * (np.float32(0.75) * coarse + np.float32(0.4) * fine).clip(-1.8, 1.8)

    def _inside(self, strata: Strata, axes: Axes, distance: np.ndarray, radius: float) -> tuple[str, float, np.ndarray]:
        """Return the kind, the intended contrast, and the HU relative to the liver at every sample."""
        spec, rng = self.spec, self.rng
        dark = spec.quantile("tumours.contrast", strata.contrast)
        bright = spec.draw(rng, "tumours.brighter_contrast")
        is_bright = strata.kind < spec.draw(rng, "tumours.brighter_share")
        has_rim = rng.random() < spec.draw(rng, "tumours.rim_share")
        has_core = rng.random() < spec.draw(rng, "tumours.core_share")
        rim, width = spec.draw(rng, "tumours.rim_contrast"), spec.draw(rng, "tumours.rim_width") * radius
        core = spec.draw(rng, "tumours.core_contrast")
        sd, iso = spec.draw(rng, "tumours.texture_sd"), spec.draw(rng, "tumours.iso_share")

        contrast = bright if is_bright else dark
        kind = "bright" if is_bright else "rim" if has_rim else "dark"
        target = np.full(distance.shape, contrast, np.float32)
        if has_core:
            depth = np.clip((-distance / np.float32(radius) - 0.35) / 0.4, 0, 1)
            target += np.float32(core if not is_bright else -core) * depth
        if kind == "rim":
            at_rim = np.exp(-0.5 * ((distance + np.float32(0.5 * width)) / np.float32(0.5 * width)) ** 2)
            target += np.float32(rim - contrast) * at_rim
        # Parts of many tumours are as bright as the liver and known by texture and outline alone.
        patchy = smooth_field(rng, axes, max(5.0, 0.8 * radius))
        target *= 1 - np.clip(patchy + np.float32(2.2 * iso - 1.1), 0, 1)
        target += np.float32(sd) * smooth_field(rng, axes, max(3.0, 0.3 * radius))
        return kind, contrast, target
