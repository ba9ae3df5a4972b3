"""The chest: body wall, ribs, spine, mediastinum, diaphragm, and the two lungs with their parenchyma and fissures.

Centres and radii are millimetres of an average adult in anatomical coordinates (x to the patient's left, y to the back,
z to the head, origin in the body's centre at the height of the lung's hilum); every patient varies them.
"""

from dataclasses import dataclass, replace

import numpy as np

from .fields import smooth_field
from .shapes import Point, Space, column, ellipsoid, intersection, lay, occupancy, superellipse, union, vary
from .spec import Spec

SIDES = {"left": 1.0, "right": -1.0}
HILA: dict[str, Point] = {"left": (36.0, 8.0, 2.0), "right": (-34.0, 8.0, -4.0)}


@dataclass(frozen=True, eq=False)
class Lungs:
    """The lungs of a patient, on all samples.

    Attributes:
        distance: signed distance to the pleura in mm, negative inside a lung.
        share: share of lung in every sample.
        left: bool, samples nearer to the left lung.
        upper: bool, samples in front of or above the oblique fissure.
    """

    distance: np.ndarray
    share: np.ndarray
    left: np.ndarray
    upper: np.ndarray


class Chest:
    """Draws and paints the anatomy of one patient onto ``hu``, float32 on the samples of ``space``.

    Args:
        enhancement: 0 without contrast medium, 1 with it.
    """

    def __init__(self, space: Space, spec: Spec, rng: np.random.Generator, enhancement: float) -> None:
        self.space, self.spec, self.rng = space, spec, rng
        self.values = {name: spec.draw(rng, f"hu.{name}") for name in spec.entry("hu")}
        self.blood = self.values["blood"] + enhancement * self.values["enhancement"]
        self.hu = np.full(space.shape, self.values["air"], np.float32)
        self.half = (float(rng.uniform(148, 156)), float(rng.uniform(100, 108)))
        self.fat = float(rng.uniform(6, 16))

    def paint(self) -> Lungs:
        """Paint everything except what branches inside the lungs, and lesions."""
        envelope, bodies = self._envelope()
        self._wall(envelope)
        self._spine()
        lungs = self._lungs(envelope, bodies)
        self._mediastinum(envelope)
        self._belly(envelope)
        level, oblique = self._parenchyma(lungs)
        lay(self.hu, lungs.share, level)
        return replace(lungs, upper=oblique > 0)

    def _ellipsoid(self, centre: Point, radii: Point, *layers: tuple[float, float], within: np.ndarray) -> None:
        """Paint an ellipsoid in layers of (mm beyond its surface, HU), from outside to inside, where ``within``."""
        box = self.space.box(centre, radii)
        distance = ellipsoid(*self.space.at(box), centre, radii)
        for grow, value in layers:
            lay(self.hu[box], occupancy(distance - np.float32(grow), self.space.pixel) * within[box], value)

    def _column(self, centre: tuple[float, float], radii: tuple[float, float], value: float) -> None:
        box, share = self.space.column(centre, radii)
        lay(self.hu[box], share, value)

    def _envelope(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the signed distance to the inside of the rib cage, and to the bell-shaped body of each lung."""
        z, y, x = self.space.warped
        cavity = superellipse(x, y, (self.half[0] - 16.0, self.half[1] - 16.0), float(self.rng.uniform(2.2, 2.5)))
        bodies = {}
        for side, sign in SIDES.items():
            centre, radii = vary(self.rng, (sign * 62.0, 2.0, -38.0), (76.0, 98.0, 160.0), 3, 0.03)
            bodies[side] = intersection(ellipsoid(x, y, z, centre, radii), cavity, 10)
        return union(bodies["left"], bodies["right"], 45), bodies

    def _wall(self, envelope: np.ndarray) -> None:
        """Paint skin and fat, muscle, and ribs that hug the rib cage; only they follow its deformation."""
        z, y, x = self.space.axes
        y, x, pixel = y[:, None], x[None], self.space.pixel
        table = np.abs(y - np.float32(self.half[1] + self.fat + 12) + x**2 / np.float32(1100))
        plane = np.full(np.broadcast_shapes(y.shape, x.shape), self.values["air"], np.float32)
        plane += occupancy(table - 1.0, pixel) * np.float32(900) * (np.abs(x) < 165)
        for inset, value in ((-self.fat, self.values["fat"]), (0.0, self.values["muscle"])):
            outline = superellipse(x, y, (self.half[0] - inset, self.half[1] - 0.8 * inset), 2.3)
            lay(plane, occupancy(outline, pixel), value)
        self.hu[:] = plane
        where = np.nonzero(np.abs(envelope - 7) < 9)
        radial = envelope[where] - np.float32(7)
        angle = np.arctan2(np.abs(x[0])[where[2]], y[where[1], 0])
        along = np.abs((z[where[0]] + 58 * angle + self.rng.uniform(0, 27)) % 27 - 13.5) * np.float32(0.9)
        distance = np.sqrt(radial**2 + along**2)
        distance[(angle > 2.55) | (angle < 0.3)] = 99
        values = self.hu[where]
        for radius, value in ((5.0, 0.85 * self.values["bone_cortical"]), (2.6, self.values["bone_trabecular"])):
            lay(values, occupancy(distance - np.float32(radius), pixel), value)
        self.hu[where] = values
        sternum = self.space.box((0, -self.half[1] + 12, 15), (16, 5, 75))
        shape = ellipsoid(*self.space.at(sternum), (0, -self.half[1] + 12, 15), (16, 5, 75))
        lay(self.hu[sternum], occupancy(shape, pixel), self.values["bone_trabecular"])

    def _spine(self) -> None:
        self._column((0, 74), (19, 15), self.values["bone_cortical"])
        self._column((0, 74), (16.5, 12.5), self.values["bone_trabecular"])
        self._column((0, 97), (15, 10), 0.7 * self.values["bone_cortical"])
        self._column((0, 95), (8, 7), 28.0)

    def _dome(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the height of the diaphragm: a dome on each side, steep behind and at the flanks."""
        behind = np.maximum(y, 0) ** 2 * np.float32(56 / 72**2)
        front = np.minimum(y, 0) ** 2 * np.float32(52 / 120**2)
        right, left = self.rng.uniform(-66, -50), self.rng.uniform(-78, -60)
        domes = [
            np.float32(top) - 58 * ((x - np.float32(cx)) * np.float32(1 / 84)) ** 2 - behind - front
            for cx, top in ((-66, right), (70, left))
        ]
        return -union(-domes[0], -domes[1], 16)

    def _lungs(self, envelope: np.ndarray, bodies: dict[str, np.ndarray]) -> Lungs:
        z, y, x = self.space.warped
        self.below_dome = (z - self._dome(x, y)) * np.float32(0.75)
        self.heart = vary(self.rng, (26, -30, -46), (58, 46, 50), 4, 0.07)
        middle = union(column(x, y, (2, 8), (27, 60)), column(x, y, (0, 78), (27, 26)), 14)
        middle = union(middle, ellipsoid(x, y, z, *self.heart) - np.float32(3), 14)
        middle = union(middle, column(x, y, (25, 50), (15, 15)), 6)
        middle = union(middle, ellipsoid(x, y, z, (8, 0, 52), (33, 36, 24)), 10)
        outside = intersection(-middle, np.float32(2.5) - self.below_dome, 8)
        halves = {
            side: intersection(
                intersection(bodies[side] + np.float32(2), outside, 8), np.float32(2.5) - np.float32(sign) * x, 4
            )
            for side, sign in SIDES.items()
        }
        distance = np.minimum(halves["left"], halves["right"])
        left = halves["left"] < halves["right"]
        return Lungs(distance, occupancy(distance, self.space.pixel), left, left)

    def _mediastinum(self, envelope: np.ndarray) -> None:
        inside = occupancy(envelope - np.float32(1), self.space.pixel)
        _, y, x = self.space.warped
        spine = occupancy(column(x, y, (0.0, 76.0), (22.0, 18.0)), self.space.pixel)
        lay(self.hu, inside * (1 - spine), self.values["fat"] + 30)
        self._ellipsoid(*self.heart, (2.0, self.values["fat"]), (0.0, 0.9 * self.blood + 2), within=inside)
        self._column((25, 50), (12, 12), self.blood)
        self._column((5, 38), (9, 6), self.values["soft"])
        vessels = [
            ((-14, -18, 40), (16, 16, 44)),
            ((8, 8, 58), (19, 34, 13)),
            ((14, -12, 12), (26, 13, 13)),
            ((-30, -12, 62), (10, 10, 62)),
            ((0, 14, -20), (30, 20, 20)),
        ]
        for centre, radii in vessels:
            self._ellipsoid(*vary(self.rng, centre, radii, 2, 0.06), (0.0, self.blood), within=inside)
        for sign in SIDES.values():
            self._ellipsoid((sign * 18.0, 4, 105), (7, 7, 40), (0.0, self.blood), within=inside)

    def _belly(self, envelope: np.ndarray) -> None:
        below = occupancy(self.below_dome, self.space.pixel) * occupancy(envelope, self.space.pixel)
        muscle = occupancy(np.abs(self.below_dome) - np.float32(1.5), self.space.pixel)
        lay(self.hu, below, self.values["fat"])
        self._ellipsoid((-48, -4, -112), (100, 88, 66), (0.0, self.values["liver"]), within=below)
        self._ellipsoid((62, -26, -116), (46, 40, 48), (0.0, self.values["soft"]), within=below)
        self._ellipsoid((58, -42, -108), (26, 12, 26), (0.0, self.values["air"]), within=below)
        self._ellipsoid((92, 34, -112), (30, 42, 44), (0.0, self.values["liver"] - 5), within=below)
        lay(self.hu, muscle * occupancy(envelope, self.space.pixel), self.values["soft"])

    def _parenchyma(self, lungs: Lungs) -> tuple[np.ndarray, np.ndarray]:
        """Return the HU of the lung tissue between its branches, and the height above the oblique fissure in mm.

        The less a patient breathes in, the denser the lung, most of all at the back and the base.
        """
        spec, rng = self.spec, self.rng
        z, y, _ = self.space.warped
        self.exhaled = spec.draw(rng, "lung.exhaled")
        gradient = self.values["gravity"] + self.exhaled * spec.draw(rng, "lung.gravity_rise")
        level = np.clip((y + 84) * np.float32(1 / 168), 0, 1) ** 1.5 * np.float32(gradient)
        level -= np.clip((z + 20) * np.float32(1 / 120), -1, 1) * np.float32(spec.draw(rng, "lung.base_gradient"))
        level += np.float32(self.values["lung_front"] + self.exhaled * spec.draw(rng, "lung.exhaled_rise"))
        coarse = smooth_field(rng, self.space.axes, spec.draw(rng, "lung.coarse_scale_mm"))
        level += np.float32(spec.draw(rng, "lung.coarse_sd")) * coarse
        thick = np.float32(spec.draw(rng, "lung.fissure_mm"))
        wave = np.float32(5) * smooth_field(rng, self.space.axes, 48.0)
        steep = {side: float(rng.uniform(0.8, 1.15)) for side in SIDES}
        slope = np.where(lungs.left, np.float32(steep["left"]), np.float32(steep["right"]))
        oblique = (z - slope * y + np.float32(rng.uniform(0, 16)) + wave) / np.sqrt(1 + slope**2)
        lay(level, self._sheet(oblique, thick), self.values["fissure"])
        minor = z - np.float32(rng.uniform(-4, 10)) - np.float32(1.4) * wave
        middle_lobe = ~lungs.left & (oblique > 0)
        lay(level, self._sheet(minor, thick) * middle_lobe, self.values["fissure"])
        return level, oblique

    def _sheet(self, distance: np.ndarray, thick: np.float32) -> np.ndarray:
        """Return the share of a sheet thinner than a sample."""
        share = np.float32(1) - np.abs(distance) * np.float32(1 / self.space.pixel)
        return np.maximum(share, 0, out=share) * np.float32(min(1.0, thick / self.space.pixel))
