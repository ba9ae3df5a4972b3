"""Kidneys in a body: cortex, pyramids, sinus with calyces and vessels, and simple cysts, which are no lesions."""

from dataclasses import dataclass

import numpy as np

from .canvas import SUB, Canvas
from .fields import smooth_field
from .liver_anatomy import LABELS
from .shapes import Box, Point, ellipsoid, intersection, lay, occupancy, union, vary
from .spec import Spec

CENTRES = {"right kidney": (-53.0, 48.0, -66.0), "left kidney": (60.0, 42.0, -52.0)}
RADII = (27.0, 24.0, 54.0)
ROWS = ((-0.62, 3), (0.0, 4), (0.62, 3))
"""Pyramids: their height as a share of the half length, and how many stand around the axis there."""


@dataclass(frozen=True)
class Phase:
    """HU of the parts of the kidneys of one scan; the medulla fills later than the cortex."""

    cortex: float
    medulla: float
    fat: float


@dataclass(frozen=True, eq=False)
class Kidney:
    """One kidney: its box of samples, the signed distance to its surface there, and its axes.

    Attributes:
        inner: 1 where the sinus opens towards the patient's left (of the right kidney), −1 towards the right.
    """

    label: int
    centre: Point
    radii: Point
    box: Box
    distance: np.ndarray
    inner: int


def paint_kidneys(canvas: Canvas, spec: Spec, rng: np.random.Generator, phase: Phase, blood: float) -> list[Kidney]:
    """Paint both kidneys over what is there and make them the organ of the canvas; ``blood`` is the HU of vessels."""
    canvas.liver[:] = 0
    for number in (LABELS["right kidney"], LABELS["left kidney"]):
        canvas.labels[canvas.labels == number] = 0
    return [_kidney(canvas, spec, rng, phase, blood, side, centre) for side, centre in CENTRES.items()]


def paint_cysts(canvas: Canvas, spec: Spec, rng: np.random.Generator, kidneys: list[Kidney]) -> np.ndarray:
    """Paint simple cysts at the surface of kidneys; return their voxels, bool on the slices."""
    found = np.zeros(canvas.labels.shape, bool)
    for _ in range(spec.draw(rng, "cysts.count")):
        kidney = kidneys[int(rng.integers(len(kidneys)))]
        surface = np.argwhere(np.abs(kidney.distance) < 3.0)
        if not len(surface):
            continue
        where = tuple(surface[int(rng.integers(len(surface)))])
        x, y, z = canvas.space.at(kidney.box)
        centre = (float(x[where]), float(y[where]), float(z[where]))
        radius = spec.draw(rng, "cysts.radius_mm")
        share = occupancy(ellipsoid(x, y, z, centre, (radius,) * 3), canvas.space.pixel)
        lay(canvas.hu[kidney.box], share, spec.draw(rng, "cysts.hu"))
        whole = np.zeros(canvas.space.shape, np.float32)
        whole[kidney.box] = share
        found |= whole[SUB // 2 :: SUB] >= 0.5
    return found


def _kidney(
    canvas: Canvas, spec: Spec, rng: np.random.Generator, phase: Phase, blood: float, side: str, place: Point
) -> Kidney:
    space = canvas.space
    centre, radii = vary(rng, place, RADII, 5, 0.07)
    box = space.box(centre, (radii[0] + 34, radii[1] + 20, radii[2] + 14))
    x, y, z = space.at(box)
    inner = -1 if centre[0] > 0 else 1
    smooth = ellipsoid(x, y, z, centre, radii)
    lumpy = np.float32(spec.draw(rng, "kidney.lobulation_mm")) * smooth_field(rng, space.cut(box), 16.0).clip(-2, 2)
    mouth = (centre[0] + inner * 0.86 * radii[0], centre[1] - 3, centre[2])
    distance = intersection(smooth + lumpy, -ellipsoid(x, y, z, mouth, (15, 9, 21)), 6)
    canvas.paint(box, occupancy(smooth - np.float32(spec.draw(rng, "kidney.fat_mm")), space.pixel), phase.fat)
    canvas.paint_liver(box, occupancy(distance, space.pixel), phase.cortex, LABELS[side])
    pyramids = _pyramids(canvas, spec, rng, box, smooth, centre, radii, inner)
    share = occupancy(pyramids, max(2.0, space.pixel)) * canvas.liver[box]
    lay(canvas.hu[box], share, phase.medulla)
    _sinus(canvas, spec, rng, box, centre, radii, inner, phase, blood)
    kidney = Kidney(LABELS[side], centre, radii, box, distance, inner)
    canvas.hu[box] += _variation(canvas, spec, rng, kidney) * canvas.liver[box]
    return kidney


def _pyramids(
    canvas: Canvas,
    spec: Spec,
    rng: np.random.Generator,
    box: Box,
    smooth: np.ndarray,
    centre: Point,
    radii: Point,
    inner: int,
) -> np.ndarray:
    """Return the signed distance to the medulla: rounded bodies below the cortex, all but on the side of the sinus."""
    x, y, z = canvas.space.at(box)
    cortex = spec.draw(rng, "kidney.cortex_mm")
    found = np.full(smooth.shape, 1e3, np.float32)
    for height, count in ROWS:
        slim = np.sqrt(1 - height**2)
        for number in range(count):
            turn = np.pi * (number + 0.5 + 0.3 * rng.standard_normal()) / count - np.pi / 2  # 0 points to the outside
            way = (-inner * np.cos(turn) * slim, np.sin(turn) * slim, height + 0.06 * rng.standard_normal())
            cx, cy, cz = (float(c + 0.6 * r * w) for c, r, w in zip(centre, radii, way, strict=True))
            size = spec.draw(rng, "kidney.pyramid_mm")
            body = ellipsoid(x, y, z, (cx, cy, cz), (size, size, 1.15 * size))
            found = union(found, body, 1.5)
    return intersection(found, smooth + np.float32(cortex), 2)


def _sinus(
    canvas: Canvas,
    spec: Spec,
    rng: np.random.Generator,
    box: Box,
    centre: Point,
    radii: Point,
    inner: int,
    phase: Phase,
    blood: float,
) -> None:
    """Paint sinus fat, calyces with urine, and an artery and a vein that leave through the hilum."""
    x, y, z = canvas.space.at(box)
    middle = (centre[0] + inner * 0.5 * radii[0], centre[1] - 2, centre[2])
    size = spec.draw(rng, "kidney.sinus_mm")
    share = occupancy(ellipsoid(x, y, z, middle, (size, 0.6 * size, 1.7 * size)), canvas.space.pixel)
    canvas.paint(box, share, phase.fat + spec.draw(rng, "kidney.sinus_above_fat"))
    urine = spec.draw(rng, "kidney.urine")
    for step in (-0.9, 0.0, 0.9):
        cup = (middle[0] - inner * 0.35 * size, middle[1], middle[2] + step * size)
        canvas.paint(box, occupancy(ellipsoid(x, y, z, cup, (4.0, 3.2, 4.5)), canvas.space.pixel), urine)
    for rise, radius in ((4.0, 3.2), (-3.0, 4.6)):
        near = (middle[0], middle[1] - 2, middle[2] + rise)
        far = (centre[0] + inner * (radii[0] + 30), middle[1] - 12, middle[2] + rise + 6)
        canvas.paint(box, occupancy(_tube(x, y, z, near, far) - np.float32(radius), canvas.space.pixel), blood)


def _variation(canvas: Canvas, spec: Spec, rng: np.random.Generator, kidney: Kidney) -> np.ndarray:
    """Return the change in HU over a kidney: slow, and scars, where the cortex is darker down from the surface."""
    change = np.float32(spec.draw(rng, "kidney.slow_sd")) * smooth_field(rng, canvas.space.cut(kidney.box), 28.0)
    x, y, z = canvas.space.at(kidney.box)
    surface = np.argwhere(np.abs(kidney.distance) < 2.0)
    for _ in range(spec.draw(rng, "kidney.scars")):
        if not len(surface):
            break
        where = tuple(surface[int(rng.integers(len(surface)))])
        far = np.sqrt((x - x[where]) ** 2 + (y - y[where]) ** 2 + (z - z[where]) ** 2)
        reach = np.float32(spec.draw(rng, "kidney.scar_mm"))
        change += np.float32(spec.draw(rng, "kidney.scar_change")) * np.clip((reach - far) / np.float32(4) + 0.5, 0, 1)
    return change


def _tube(x: np.ndarray, y: np.ndarray, z: np.ndarray, a: Point, b: Point) -> np.ndarray:
    """Return the distance to a straight line from ``a`` to ``b``."""
    start, way = np.asarray(a, np.float32), np.asarray(b, np.float32) - np.asarray(a, np.float32)
    offsets = [axis - part for axis, part in zip((x, y, z), start, strict=True)]
    along = sum(offset * part for offset, part in zip(offsets, way, strict=True)) / np.float32(way @ way)
    along = np.clip(along, 0, 1)
    return np.sqrt(sum((offset - along * part) ** 2 for offset, part in zip(offsets, way, strict=True)))
