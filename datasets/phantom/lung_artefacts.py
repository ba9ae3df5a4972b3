"""What breathing, heartbeat and dense shoulders add to a chest scan: double contours, blur and streaks."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter1d

from .canvas import SUB
from .lung_anatomy import Chest
from .shapes import Space, ellipsoid
from .spec import Spec


@dataclass(frozen=True)
class Motion:
    """How far, in mm, the diaphragm and the heart's border moved during the scan, and how far up both are seen."""

    diaphragm: float
    heart: float
    reach: float

    @classmethod
    def draw(cls, spec: Spec, rng: np.random.Generator) -> Self:
        return cls(*(spec.draw(rng, f"artefacts.{name}_mm") for name in ("diaphragm", "heart", "reach")))

    def smear(self, hu: np.ndarray, space: Space, chest: Chest) -> np.ndarray:
        """Return the samples averaged over two moments near the diaphragm and the heart; labels keep the first."""
        z, y, x = space.warped
        above = np.clip(1 - np.maximum(chest.below_dome * np.float32(1 / 0.75), 0) / np.float32(self.reach), 0, 1)
        up = round(self.diaphragm / float(space.axes[0][1] - space.axes[0][0]))
        if up:
            moved = np.concatenate([np.repeat(hu[:1], up, 0), hu[:-up]])
            hu = hu + np.float32(0.5) * above * (moved - hu)
        pixels = self.heart / space.pixel
        beating = np.clip(1 - np.abs(ellipsoid(x, y, z, *chest.heart)) / np.float32(self.reach), 0, 1)
        aside = uniform_filter1d(hu, 1 + 2 * max(1, round(pixels / 2)), axis=2, mode="nearest")
        return hu + np.float32(min(1.0, pixels)) * beating * (aside - hu)


def streaks(spec: Spec, rng: np.random.Generator, space: Space, slices: np.ndarray) -> np.ndarray:
    """Return streaks from side to side through the shoulders, HU, shape of ``slices``; the arms add some further down.

    Their strength follows how much dense matter lies along a row.
    """
    z = space.axes[0][SUB // 2 :: SUB]
    long, thin = spec.draw(rng, "artefacts.streak_length_mm"), spec.draw(rng, "artefacts.streak_width_mm")
    noise = gaussian_filter(
        rng.standard_normal(slices.shape, dtype=np.float32), (0, thin / space.pixel, long / space.pixel), mode="wrap"
    )
    noise /= np.float32(noise.std() + 1e-6)
    low, high = (spec.draw(rng, f"artefacts.{name}") for name in ("arm_streaks", "shoulder_streaks"))
    level = low + high * np.clip((z - 55) / 50, 0, 1)
    dense = gaussian_filter((slices > 150).mean(2, dtype=np.float32), (1, 6 / space.pixel))
    dense /= max(float(dense.mean()), 1e-6)
    return noise * level[:, None, None].astype(np.float32) * np.clip(dense, 0.3, 2.0)[:, :, None]
