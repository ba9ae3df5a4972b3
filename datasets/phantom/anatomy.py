"""The upper abdomen around the liver: body wall, spine, ribs, lungs and the neighbouring organs.

Centres and radii are millimetres of an average adult in anatomical coordinates (x to the patient's left, y to the back,
z to the head, origin in the body's centre at the height of the liver's hilum); every patient varies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from .canvas import Canvas
from .shapes import Box, Point, Space, column, ellipsoid, intersection, occupancy, union
from .spec import Spec

LABELS = {
    "spleen": 1,
    "right kidney": 2,
    "left kidney": 3,
    "gallbladder": 4,
    "oesophagus": 5,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior vena cava": 9,
    "portal vein": 10,
    "pancreas": 11,
}


@dataclass(frozen=True, eq=False)
class Liver:
    """The liver of a patient: parenchymal HU, its box of samples and the signed distance to its surface there."""

    hu: float
    box: Box
    distance: np.ndarray


class Body:
    """Draws and paints the anatomy of one patient.

    Args:
        enhancement: factor on the contrast enhancement of every organ.
    """

    def __init__(self, canvas: Canvas, spec: Spec, rng: np.random.Generator, enhancement: float) -> None:
        self.canvas, self.space, self.rng = canvas, canvas.space, rng
        self.spec = spec
        self.enhancement = enhancement
        self.hu = {name: spec.draw(rng, f"hu.{name}") for name in spec.entry("hu")}
        self.liver_hu = self.hu["liver_unenhanced"] + enhancement * self.hu["liver_enhancement"]
        self.wall = float(rng.uniform(13, 18))
        self.half = (float(rng.uniform(140, 152)), float(rng.uniform(98, 108)))
        self.fat = float(rng.uniform(10, 26))
        self.domes = ((-66.0, -8.0, float(rng.uniform(56, 70))), (72.0, -4.0, float(rng.uniform(46, 60))))

    def paint(self) -> Liver:
        """Paint everything except the vessels and tumours inside the liver."""
        self._wall()
        self._ribs()
        self._spine()
        self._chest()
        self._bowel()
        liver = self._liver()
        self._neighbours()
        return liver

    def _vary(self, centre: Point, radii: Point, shift: float = 4.0, stretch: float = 0.08) -> tuple[Point, Point]:
        moved = np.asarray(centre) + shift * self.rng.standard_normal(3).clip(-2, 2)
        scaled = np.asarray(radii) * (1 + stretch * self.rng.standard_normal(3).clip(-2, 2))
        return tuple(moved), tuple(scaled)

    def _paint(self, centre: Point, radii: Point, hu: float, label: str = "", grow: float = 0.0) -> None:
        reach = (radii[0] + grow, radii[1] + grow, radii[2] + grow)
        box = self.space.box(centre, reach)
        share = occupancy(ellipsoid(*self.space.at(box), centre, reach), self.space.pixel)
        self.canvas.paint(box, share, hu, LABELS.get(label, 0))

    def _column(self, centre: tuple[float, float], radii: tuple[float, float], hu: float, label: str = "") -> None:
        box = self.space.box((*centre, 0.0), (*radii, 1e4))
        x, y, _ = self.space.at(box)
        share = occupancy(column(x, y, centre, radii), self.space.pixel)
        self.canvas.paint(box, share, hu, LABELS.get(label, 0))

    def _wall(self) -> None:
        _, y, x = self.space.axes
        plane = partial(column, x[None, None], y[None, :, None], (0.0, 0.0))
        full = np.ones((self.space.shape[0], 1, 1), np.float32)
        for inset, hu in ((-self.fat, self.hu["fat"]), (0.0, self.hu["muscle"]), (self.wall, self.hu["fat"])):
            share = occupancy(plane((self.half[0] - inset, self.half[1] - inset)), self.space.pixel) * full
            self.canvas.paint(everywhere(self.space), share, hu)
        self.cavity = plane((self.half[0] - self.wall, self.half[1] - self.wall))

    def _ribs(self) -> None:
        z, y, x = (axis.astype(np.float32) for axis in self.space.axes)
        x, y, z = x[None, None], y[None, :, None], z[:, None, None]
        middle = (self.half[0] - 0.55 * self.wall, self.half[1] - 0.55 * self.wall)
        radial = column(x, y, (0.0, 0.0), middle)
        angle = np.arctan2(np.abs(x), y)  # 0 at the back, pi in front
        pitch, phase = 30.0, float(self.rng.uniform(0, 30))
        height = z + 34 * angle + phase
        off = np.abs((height % pitch) - pitch / 2) * 0.8
        distance = np.sqrt(radial**2 + off**2)
        reach = (angle < 2.25) & (angle > 0.35)
        box = everywhere(self.space)
        self.canvas.paint(
            box, occupancy(distance - 5.0, self.space.pixel) * reach, np.float32(0.8 * self.hu["bone_cortical"])
        )
        self.canvas.paint(box, occupancy(distance - 2.8, self.space.pixel) * reach, self.hu["bone_trabecular"])

    def _spine(self) -> None:
        muscle, bone = self.hu["muscle"], self.hu["bone_cortical"]
        self._column((0, 80), (60, 22), muscle)
        for side in (-1, 1):
            self._column((side * 33.0, 62), (13, 12), muscle)
        self._column((0, 90), (17, 13), 0.75 * bone)
        self._column((0, 105), (4, 9), 0.7 * bone)
        self._column((0, 64), (21, 16), bone)
        self._column((0, 64), (18.5, 13.5), self.hu["bone_trabecular"])
        self._column((0, 88), (8.5, 7.5), 28.0)
        z = self.space.axes[0]
        disc = np.abs(((z + self.rng.uniform(0, 34)) % 34) - 17) < 3.5
        box = self.space.box((0, 64, 0), (18.5, 13.5, 1e4), margin=0)
        x, y, _ = self.space.at(box)
        share = occupancy(column(x, y, (0, 64), (18.5, 13.5)), self.space.pixel) * disc[box[0], None, None]
        self.canvas.paint(box, share, 85.0)

    def _dome(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        heights = [
            top - 62 * ((x - cx) / np.float32(82)) ** 2 - 50 * ((y - cy) / np.float32(84)) ** 2
            for cx, cy, top in self.domes
        ]
        return -union(-heights[0], -heights[1], 16)

    def _chest(self) -> None:
        z, y, x = self.space.warped
        self.below_dome = (z - self._dome(x, y)) * np.float32(0.75)
        spine = column(x, y, (0.0, 66.0), (34.0, 30.0))
        lungs = intersection(self.cavity, -self.below_dome - 1.5, 6)
        lungs = intersection(lungs, -spine, 8)
        self.canvas.paint(everywhere(self.space), occupancy(lungs, self.space.pixel), self.hu["lung"])
        self._paint((22, -28, 92), (58, 46, 50), self.hu["fat"] + 30)
        self._paint((24, -28, 95), (54, 42, 48), self.hu["heart"])

    def _bowel(self) -> None:
        for _ in range(16):
            centre = (self.rng.uniform(-95, 100), self.rng.uniform(-72, 10), self.rng.uniform(-110, -28))
            radii = tuple(self.rng.uniform(11, 22, 3))
            hu = self.spec.draw(self.rng, "hu.bowel")
            gas = self.rng.random() < 0.3
            self._paint(centre, radii, hu + 25)
            self._paint(centre, tuple(r - 3 for r in radii), hu)
            if gas:
                up = (centre[0], centre[1] - radii[1] * 0.4, centre[2])
                self._paint(up, tuple(r * 0.5 for r in radii), self.hu["air"])

    def _liver(self) -> Liver:
        space, rng = self.space, self.rng
        right = self._vary((-64, -2, -8), (72, 78, 84), 5, 0.07)
        left = self._vary((18, -46, 20), (66, 36, 42), 8, 0.14)
        front = self._vary((-34, -50, 0), (52, 34, 56), 6, 0.12)
        caudate = self._vary((-8, 8, 14), (24, 18, 28), 3, 0.10)
        box = space.box((-40, -8, 0), (118, 100, 110))
        x, y, z = space.at(box)
        distance = ellipsoid(x, y, z, *right)
        for lobe, blend in ((front, 30.0), (left, 26.0), (caudate, 18.0)):
            distance = union(distance, ellipsoid(x, y, z, *lobe), blend)
        cavity = np.broadcast_to(self.cavity, space.shape)[box]
        distance = intersection(distance, cavity + np.float32(2.5), 10)
        distance = intersection(distance, self.below_dome[box] + np.float32(2.0), 10)
        hilum = ellipsoid(x, y, z, *self._vary((-14, 8, -20), (22, 15, 22), 3, 0.12))
        distance = intersection(distance, -hilum, 10)
        tilt = rng.uniform(-0.25, 0.25)
        sheet = np.abs(x - np.float32(rng.uniform(-8, 10)) - np.float32(tilt) * (y + 50)) - np.float32(1.2)
        fissure = intersection(sheet, y + np.float32(rng.uniform(34, 48)), 3)
        fissure = intersection(fissure, z - np.float32(rng.uniform(5, 22)), 3)
        distance = intersection(distance, -fissure, 4)
        back = column(x, y, (0.0, 66.0), (30.0, 26.0))
        distance = intersection(distance, -back, 8)
        self.canvas.paint_liver(box, occupancy(distance, space.pixel), self.liver_hu, LABELS["liver"])
        return Liver(self.liver_hu, box, distance)

    def _neighbours(self) -> None:
        fat, rng = self.hu["fat"], self.rng
        spleen = self._vary((96, 28, 14), (25, 42, 46), 5, 0.12)
        self._paint(*spleen, fat, grow=3)
        self._paint(*spleen, self.liver_hu + self.hu["spleen_above_liver"], "spleen")
        for side, centre in (("right kidney", (-56, 40, -62)), ("left kidney", (60, 42, -44))):
            kidney = self._vary(centre, (26, 23, 50), 4, 0.07)
            self._paint(*kidney, fat, grow=6)
            self._paint(*kidney, self.hu["kidney"], side)
            inner = -1 if centre[0] > 0 else 1
            sinus = (kidney[0][0] + inner * 14, kidney[0][1] - 2, kidney[0][2])
            self._paint(sinus, (15, 9, 22), fat + 40, side)
        stomach = self._vary((60, -30, 22), (42, 34, 46), 6, 0.12)
        self._paint(*stomach, fat, grow=2.5)
        self._paint(*stomach, self.hu["stomach_wall"], "stomach")
        self._paint(*stomach, self.hu["stomach_content"], "stomach", grow=-4)
        gas = (stomach[0][0], stomach[0][1] - 0.48 * stomach[1][1], stomach[0][2])
        self._paint(gas, (0.6 * stomach[1][0], 0.3 * stomach[1][1], 0.6 * stomach[1][2]), self.hu["air"], "stomach")
        for centre in ((52, 12, -22), (30, 2, -26), (8, -2, -34)):
            self._paint(*self._vary(centre, (19, 10, 11), 2, 0.1), 0.85 * self.liver_hu, "pancreas")
        self._column((16, 36), (self.spec.draw(rng, "vessels.aorta_radius_mm"),) * 2, self.hu["aorta"], "aorta")
        radius = self.spec.draw(rng, "vessels.ivc_radius_mm")
        self._column((-24, 34), (radius, 0.85 * radius), self.liver_hu + self.hu["ivc_above_liver"], "inferior vena cava")
        self._paint((14, 12, 60), (9, 7, 34), self.hu["muscle"], "oesophagus")
        bladder = self._vary((-44, -30, -38), (15, 17, 28), 4, 0.15)
        self._paint(*bladder, self.hu["muscle"], grow=2)
        self._paint(*bladder, self.hu["gallbladder"], "gallbladder")


def everywhere(space: Space) -> Box:
    """Return the box of all samples."""
    z, y, x = space.shape
    return slice(0, z), slice(0, y), slice(0, x)
