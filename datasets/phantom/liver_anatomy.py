"""The upper abdomen around the liver: body wall, spine, ribs, lungs and the neighbouring organs.

Centres and radii are millimetres of an average adult in anatomical coordinates (x to the patient's left, y to the back,
z to the head, origin in the body's centre at the height of the liver's hilum); every patient varies them.
"""

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .shapes import Box, Point, column, ellipsoid, intersection, lay, occupancy, superellipse, union, vary
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
        self.hu = {name: spec.draw(rng, f"hu.{name}") for name in spec.entry("hu")}
        self.enhancement = enhancement
        self.liver_hu = self.hu["liver_unenhanced"] - self.hu["liver_fat_drop"]
        self.liver_hu += enhancement * self.hu["liver_enhancement"]
        self.wall = float(rng.uniform(13, 18))
        self.half = (float(rng.uniform(140, 150)), float(rng.uniform(94, 104)))
        self.fat = float(rng.uniform(8, 24))
        self.power = float(rng.uniform(2.05, 2.4))
        self.domes = ((-62.0, 4.0, float(rng.uniform(56, 70))), (70.0, 6.0, float(rng.uniform(48, 60))))

    def blood(self, above: float, arrived: float) -> float:
        """Return the HU of a vessel ``above`` the lean portal-venous liver when a share of its contrast ``arrived``."""
        full = self.hu["liver_unenhanced"] + self.hu["liver_enhancement"] + above - self.hu["blood"]
        return self.hu["blood"] + arrived * full

    def vessel_levels(self, rng: np.random.Generator) -> list[float]:
        """Return the HU of portal and hepatic veins; contrast reaches the hepatic veins last."""
        arrived = self.enhancement
        above = [self.spec.draw(rng, f"hu.{name}_above_liver") for name in ("portal", "hepatic_vein")]
        return [self.blood(above[0], arrived), self.blood(above[1], arrived**2 if arrived < 1 else arrived)]

    def paint(self) -> Liver:
        """Paint everything except the vessels and tumours inside the liver."""
        self._wall()
        self._spine()
        self._chest()
        self._bowel()
        liver = self._liver()
        self._neighbours()
        return liver

    def _paint(self, centre: Point, radii: Point, *layers: tuple[float, float], label: str = "") -> None:
        """Paint an ellipsoid in layers of (mm beyond its surface, HU), from outside to inside.

        Layers beyond the surface are its surroundings and get no label.
        """
        beyond = max(0.0, layers[0][0])
        box = self.space.box(centre, (radii[0] + beyond, radii[1] + beyond, radii[2] + beyond))
        distance = ellipsoid(*self.space.at(box), centre, radii)
        for grow, hu in layers:
            number = 0 if grow > 0 else LABELS.get(label, 0)
            self.canvas.paint(box, occupancy(distance - np.float32(grow), self.space.pixel), hu, number)

    def _column(self, centre: tuple[float, float], radii: tuple[float, float], hu: float, label: str = "") -> None:
        self.canvas.paint(*self.space.column(centre, radii), hu, LABELS.get(label, 0))

    def _wall(self) -> None:
        """Paint skin and fat, muscle, ribs and the inside of the body; none of it follows the organs' deformation."""
        z, y, x = self.space.axes
        y, x, pixel = y[:, None], x[None], self.space.pixel
        plane = np.full((len(y), x.shape[1]), self.hu["air"], np.float32)
        table = np.abs(y - np.float32(self.half[1] + self.fat + 14) + x**2 / np.float32(1100))
        plane += occupancy(table - 1.0, pixel) * np.float32(1300) * (np.abs(x) < 165)
        middle = np.zeros_like(plane)
        for inset, hu in ((-self.fat, self.hu["fat"]), (0.0, self.hu["muscle"]), (self.wall, self.hu["fat"])):
            middle = superellipse(x, y, (self.half[0] - inset, self.half[1] - 0.8 * inset), self.power)
            lay(plane, occupancy(middle, pixel), hu)
        self.cavity = middle[None]
        self.canvas.hu[:] = plane
        self._ribs(z, np.arctan2(np.abs(x), y), middle - np.float32(0.5 * self.wall))

    def _ribs(self, z: np.ndarray, angle: np.ndarray, radial: np.ndarray) -> None:
        """Paint oblique ribs into the wall: they run from the back (angle 0) downwards to the front (angle pi)."""
        where = np.nonzero((np.abs(radial) < 12) & (angle < 2.3) & (angle > 0.3))
        pitch, phase = 31.0, float(self.rng.uniform(0, 31))
        height = z[:, None] + 62 * angle[where] + phase
        along = np.abs((height % pitch) - pitch / 2) * np.float32(0.9)
        distance = np.sqrt(radial[where] ** 2 + along.astype(np.float32) ** 2)
        hu = self.canvas.hu[:, where[0], where[1]]
        for radius, value in ((5.2, 0.85 * self.hu["bone_cortical"]), (2.6, self.hu["bone_trabecular"])):
            lay(hu, occupancy(distance - np.float32(radius), self.space.pixel), value)
        self.canvas.hu[:, where[0], where[1]] = hu

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
        """Return the height of the diaphragm: a dome on each side, steep behind, high in front under the heart."""
        behind = np.maximum(y, 0) ** 2 * np.float32(1 / 72**2)
        heights = []
        for cx, cy, top in self.domes:
            front = np.minimum(y - np.float32(cy), 0) ** 2 * np.float32(1 / 130**2)
            side = ((x - np.float32(cx)) * np.float32(1 / 84)) ** 2
            heights.append(np.float32(top) - 58 * side - 55 * behind - 60 * front)
        middle = np.float32(self.domes[1][2] - 6) - 60 * ((x + 2) * np.float32(1 / 60)) ** 2 - 90 * behind
        dome = -union(-heights[0], -heights[1], 16)
        return np.maximum(-union(-dome, -middle, 16), np.float32(-34))

    def _chest(self) -> None:
        _, y, x = self.space.axes
        x, y = x[None], y[:, None]
        self.below_dome = (self.space.warped[0] - self._dome(x, y)) * np.float32(0.75)
        spine = column(x, y, (0.0, 66.0), (34.0, 30.0))
        chest = intersection(self.cavity, -spine, 8)
        box = self.space.box((0, 0, 500), (1e4, 1e4, 540))
        lungs = intersection(np.broadcast_to(chest, self.space.shape)[box], -self.below_dome[box] - np.float32(1.5), 6)
        self.canvas.paint(box, occupancy(lungs, self.space.pixel), self.hu["lung"])
        self._paint((18, -30, 90), (61, 46, 45), (4, self.hu["fat"] + 30), (0, self.hu["heart"]))

    def _bowel(self) -> None:
        for _ in range(26):
            centre = (self.rng.uniform(-60, 110), self.rng.uniform(-74, 8), self.rng.uniform(-110, -22))
            radii: Point = tuple(self.rng.uniform(11, 22, 3))
            hu = self.spec.draw(self.rng, "hu.bowel")
            gas = self.rng.random() < 0.3
            self._paint(centre, radii, (0, hu + 25), (-3, hu))
            if gas:
                up = (centre[0], centre[1] - radii[1] * 0.4, centre[2])
                self._paint(up, (radii[0] * 0.5, radii[1] * 0.5, radii[2] * 0.5), (0, self.hu["air"]))

    def _liver(self) -> Liver:
        space, rng = self.space, self.rng
        right = vary(self.rng, (-64, -2, -8), (72, 78, 84), 5, 0.07)
        left = vary(self.rng, (18, -46, 20), (66, 36, 42), 8, 0.14)
        front = vary(self.rng, (-34, -50, 10), (52, 32, 46), 6, 0.12)
        caudate = vary(self.rng, (-8, 8, 14), (24, 18, 28), 3, 0.10)
        box = space.box((-40, -8, 0), (118, 100, 110))
        x, y, z = space.at(box)
        distance = ellipsoid(x, y, z, *right)
        for lobe, blend in ((front, 30.0), (left, 26.0), (caudate, 18.0)):
            distance = union(distance, ellipsoid(x, y, z, *lobe), blend)
        cavity = np.broadcast_to(self.cavity, space.shape)[box]
        distance = intersection(distance, cavity + np.float32(2.5), 10)
        distance = intersection(distance, self.below_dome[box] + np.float32(2.0), 10)
        hilum = ellipsoid(x, y, z, *vary(self.rng, (0, 12, -22), (27, 12, 17), 3, 0.12))
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
        spleen = vary(self.rng, (96, 26, 6), (24, 40, 42), 5, 0.12)
        self._paint(*spleen, (3, fat), (0, self.liver_hu + self.hu["spleen_above_liver"]), label="spleen")
        for side, centre in (("right kidney", (-53, 48, -66)), ("left kidney", (60, 42, -44))):
            kidney = vary(self.rng, centre, (26, 23, 50), 4, 0.07)
            self._paint(*kidney, (6, fat), (0, self.hu["kidney"]), label=side)
            inner = -1 if centre[0] > 0 else 1
            sinus = (kidney[0][0] + inner * 18, kidney[0][1] - 2, kidney[0][2])
            self._paint(sinus, (13, 7, 18), (0, fat + 60), label=side)
        stomach = vary(self.rng, (60, -30, 4), (42, 32, 42), 6, 0.12)
        wall, content = self.hu["stomach_wall"], self.hu["stomach_content"]
        self._paint(*stomach, (2.5, fat), (0, wall), (-4, content), label="stomach")
        gas = (stomach[0][0], stomach[0][1] - 0.48 * stomach[1][1], stomach[0][2])
        bubble = (0.6 * stomach[1][0], 0.3 * stomach[1][1], 0.6 * stomach[1][2])
        self._paint(gas, bubble, (0, self.hu["air"]), label="stomach")
        for centre in ((52, 12, -22), (30, 2, -26), (8, -2, -34)):
            self._paint(*vary(self.rng, centre, (19, 10, 11), 2, 0.1), (0, 0.85 * self.liver_hu), label="pancreas")
        self._column((16, 36), (self.spec.draw(rng, "vessels.aorta_radius_mm"),) * 2, self.hu["aorta"], "aorta")
        radius = self.spec.draw(rng, "vessels.ivc_radius_mm")
        cava = self.blood(self.hu["ivc_above_liver"], self.enhancement)
        self._column((-24, 34), (radius, 0.85 * radius), cava, "inferior vena cava")
        self._paint((14, 12, 60), (9, 7, 34), (0, self.hu["muscle"]), label="oesophagus")
        bladder = vary(self.rng, (-36, -46, -46), (14, 16, 27), 4, 0.15)
        self._paint(*bladder, (2, self.hu["muscle"]), (0, self.hu["gallbladder"]), label="gallbladder")
