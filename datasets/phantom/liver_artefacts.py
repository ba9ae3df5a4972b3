"""What spoils a scan beside noise: streaks of hardened beams, and breathing during the scan."""

import numpy as np
from scipy.ndimage import shift

from ..case import Spacing
from .spec import Spec


def spoil(slices: np.ndarray, spec: Spec, style: str, rng: np.random.Generator, spacing: Spacing) -> np.ndarray:
    """Return slices (z, y, x) in HU with the streaks and the motion that a style of the specification draws."""
    moved = _breathed(slices, rng, spec.draw(rng, f"artefacts.{style}_motion_mm"), spacing)
    return moved + _streaks(spec, style, rng, slices.shape, spacing)


def _streaks(spec: Spec, style: str, rng: np.random.Generator, shape: tuple[int, ...], spacing: Spacing) -> np.ndarray:
    """Return dark and bright bands, most of them lying across the body, in HU."""
    z, y, x = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True))
    out = np.zeros(shape, np.float32)
    for _ in range(spec.draw(rng, f"artefacts.{style}_streaks")):
        angle = 0.35 * rng.standard_normal()
        height, middle = rng.uniform(-70, 60), rng.uniform(z[0], z[-1])
        width, reach = spec.draw(rng, "artefacts.streak_width_mm"), spec.draw(rng, "artefacts.streak_reach_mm")
        depth = spec.draw(rng, "artefacts.streak_hu")
        across = (y - height)[:, None] * np.cos(angle) - x[None] * np.sin(angle)
        band = np.exp(-0.5 * (across / width) ** 2) - 0.6 * np.exp(-0.5 * ((across - 2 * width) / width) ** 2)
        along = np.exp(-0.5 * ((z - middle) / reach) ** 2)
        out += (along[:, None, None] * (depth * band)[None]).astype(np.float32)
    return out


def _breathed(slices: np.ndarray, rng: np.random.Generator, way: float, spacing: Spacing) -> np.ndarray:
    """Blend some slices with a copy displaced by ``way`` mm to the front: double contours, as of a breath."""
    if way == 0:
        return slices
    z = np.arange(len(slices)) * spacing[0]
    middle, reach = rng.uniform(0.25, 0.75) * z[-1], rng.uniform(12, 30)
    weight = (0.45 * np.exp(-0.5 * ((z - middle) / reach) ** 2)).astype(np.float32)[:, None, None]
    displaced = shift(slices, (0, -way / spacing[1], 0), order=1, mode="nearest")
    return slices + weight * (displaced - slices)
