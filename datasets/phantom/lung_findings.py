"""What lungs without pneumonia have: dependent density, atelectasis, scars, reticulation, emphysema.

Healthy and ill patients draw them alike. All but emphysema fill air with tissue, so that they reach the HU of ground
glass and consolidation; what tells them from pneumonia is their shape and place (docs/phantom.md).
"""

from dataclasses import dataclass

import numpy as np

from .fields import smooth_field
from .lung_lobules import Cells, Tissue
from .shapes import Space, sheet
from .spec import Spec


@dataclass(eq=False)
class Findings:
    """Draws one patient's findings onto ``hu``, float32 (n,), the samples of ``tissue``.

    Attributes:
        left: bool (n,), samples of the left lung.
        lobules, cell, wall, middle: secondary lobules, each sample's lobule, its mm from the wall and from the middle.
        exhaled: share of the vital capacity that the patient did not breathe in.
    """

    hu: np.ndarray
    space: Space
    tissue: Tissue
    left: np.ndarray
    lobules: Cells
    located: tuple[np.ndarray, np.ndarray, np.ndarray]
    exhaled: float
    spec: Spec
    rng: np.random.Generator

    def paint(self) -> None:
        """Paint everything that the patient happens to have."""
        fluid = self.spec.draw(self.rng, "hu.fluid")
        fill = np.zeros_like(self.hu)
        for side in (self.left, ~self.left):
            self._dependent(fill, side)
        for _ in range(self.rng.poisson(self.spec.draw(self.rng, "findings.bands"))):
            self._keep(fill, self._band())
        if self._has("scar"):
            self._keep(fill, self._scar())
        if self._has("reticulation"):
            self._keep(fill, self._reticulation())
        self.hu += fill * (np.float32(fluid) - self.hu)
        if self._has("emphysema"):
            self._emphysema()

    def _take(self, name: str) -> np.float32:
        return np.float32(self.spec.draw(self.rng, f"findings.{name}"))

    def _has(self, name: str) -> bool:
        return bool(self.rng.random() < self._take(f"{name}_probability"))

    def _field(self, scale: float) -> np.ndarray:
        return smooth_field(self.rng, self.space.axes, scale)[self.tissue.at]

    @staticmethod
    def _keep(fill: np.ndarray, more: np.ndarray) -> None:
        np.maximum(fill, more, out=fill)

    def _dependent(self, fill: np.ndarray, side: np.ndarray) -> None:
        """Gravity: haze below the posterior pleura that fades without an edge, and a firm crescent in some lungs."""
        _, y, z = self.tissue.points
        lying = 1 - self.tissue.depth / (self._take("dependent_depth_mm") * np.float32(0.75 + self.exhaled))
        back = y - np.quantile(y[side], 0.72)
        behind = np.clip(back * np.float32(1 / 28), 0, 1)
        low = np.clip(np.float32(0.75) - z * np.float32(1 / 160), np.float32(0.35), np.float32(1.2))
        uneven = np.clip(np.float32(0.8) + np.float32(0.4) * self._field(60.0), 0, 1)
        haze = self._take("dependent_fill") * np.float32(0.75 + self.exhaled)
        soft = np.exp(np.minimum(lying - 1, 0)) * behind * low * uneven
        self._keep(fill, np.where(side, haze * soft, 0))
        if self._has("crescent"):
            thick = self._take("crescent_mm") * np.clip(np.float32(0.5) + np.float32(0.6) * self._field(40.0), 0, 1)
            thick *= np.clip((back - 14) * np.float32(1 / 12), 0, 1) * np.clip((10 - z) * np.float32(1 / 30), 0, 1)
            inside = np.clip((thick - self.tissue.depth) / self._take("crescent_edge_mm") + np.float32(0.5), 0, 1)
            self._keep(fill, np.where(side & (thick > 1), self._take("crescent_fill") * inside, 0))

    def _band(self) -> np.ndarray:
        """Return a discoid atelectasis: a thin plate that ends at the pleura, mostly low and nearly level."""
        x, y, z = self.tissue.points
        rim = np.flatnonzero((self.tissue.depth < 12) & (z < self._take("band_below_mm")))
        centre = rim[int(self.rng.integers(len(rim)))]
        normal = self.rng.standard_normal(3) * (0.35, 0.35, 0.1) + (0, 0, 1)
        normal /= np.linalg.norm(normal)
        offset = [axis - axis[centre] for axis in (x, y, z)]
        across = sum(o * np.float32(n) for o, n in zip(offset, normal, strict=True))
        radial = np.sqrt(np.maximum(sum(o**2 for o in offset) - across**2, 0))
        across = across + np.float32(4) * self._field(30.0)
        thick, reach = self._take("band_mm"), self._take("band_reach_mm")
        taper = np.clip((reach - radial) * np.float32(1 / 10), 0, 1)
        own = self.left == self.left[centre]
        return (
            sheet(np.abs(across), thick * np.maximum(taper, np.float32(0.3)), self.space.pixel)
            * taper
            * own
            * self._take("band_fill")
        )

    def _scar(self) -> np.ndarray:
        """Return the fibrous caps of the apices."""
        _, _, z = self.tissue.points
        top = np.float32(np.quantile(z, 0.995)) - self._take("scar_height_mm")
        thick = self._take("scar_mm") * np.clip((z - top) * np.float32(1 / 12), 0, 1)
        thick = thick * np.clip(np.float32(0.5) + np.float32(0.6) * self._field(16.0), 0, 1)
        return np.clip((thick - self.tissue.depth) * np.float32(1 / 2.5), 0, 1) * self._take("scar_fill")

    def _reticulation(self) -> np.ndarray:
        """Return septal lines below the pleura, low and at the back, with a few small cysts in the worst."""
        _, y, z = self.tissue.points
        _, wall, _ = self.located
        where = np.clip((self._take("reticulation_depth_mm") - self.tissue.depth) * np.float32(1 / 6), 0, 1)
        where *= np.clip(np.float32(0.4) + np.float32(0.6) * self._field(38.0), 0, 1)
        where *= np.clip((20 - z) * np.float32(1 / 50), 0, 1) * np.clip((y + 50) * np.float32(1 / 60), 0, 1)
        near = np.flatnonzero(where > 0.02)
        lines = np.zeros_like(self.hu)
        lines[near] = sheet(wall[near], self._take("septum_mm"), self.space.pixel)
        if len(near):
            small = Cells(self.tissue, float(self._take("honeycomb_mm")), self.rng)
            _, thin, _ = small.locate(self.tissue.part(near))
            lines[near] = np.maximum(
                lines[near], np.float32(0.8) * sheet(thin, self._take("septum_mm"), self.space.pixel)
            )
            if self._has("honeycomb"):
                cyst = where[near] > 0.6
                self.hu[near[cyst]] += np.float32(0.7) * (np.float32(-960) - self.hu[near[cyst]])
        return lines * where * self._take("septum_fill")

    def _emphysema(self) -> None:
        """Dig holes into the middle of lobules, more of them towards the apex."""
        cell, _, middle = self.located
        chance = self._take("emphysema_share") * np.clip(self.lobules.seeds[:, 2] * np.float32(1 / 80) + 0.6, 0.1, 1.6)
        hit = self.rng.random(len(self.lobules)) < chance
        radius = (self.rng.uniform(0.22, 0.5, len(self.lobules)) * self.lobules.size * hit).astype(np.float32)
        hole = np.clip((radius[cell] - middle) / np.float32(max(self.space.pixel, 1.5)) + np.float32(0.5), 0, 1)
        hole *= hit[cell]
        self.hu += hole * (self._take("emphysema_hu") - self.hu) * (self.hu < -600)
