"""Synthetic lesions for choosing settings, unlike those that any method trains on: lumps of Gaussian hills.

Their law is this benchmark's own. It shares nothing with the syntheses of the methods, so that no method is tuned on
what it was taught.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...common.boxes import bounding_box
from ..case import Spacing

MOST = 4
RADIUS_MM = (3.0, 18.0)
CONTRAST_SD = (0.75, 2.5)
HILLS = (3, 6)
TEXTURE = 0.35
EDGE_MM = (0.8, 2.5)
GRAIN_MM = 1.5
REACH = 3.0
IQR_OF_NORMAL = 1.349


@dataclass(frozen=True, eq=False)
class Grown:
    """A scan in which lesions grew: HU, float32, and where they are, bool; both (z, y, x)."""

    image: np.ndarray
    lesion: np.ndarray


def grow(image: np.ndarray, roi: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> Grown:
    """Let one to four lesions grow inside the region of interest.

    The volume of each is that of a ball of 3 to 18 mm radius (uniform in its logarithm), its shape a level set of a sum
    of 3 to 6 Gaussian hills. It is darker or brighter than what it replaces by 0.75 to 2.5 times the spread of the
    organ (interquartile range over 1.349), with a coarse texture of a third of that and a soft edge of 0.8 to 2.5 mm.
    What reaches beyond the region of interest is cut off.

    Args:
        image: float32 (z, y, x), HU.
        roi: bool, same shape, not empty.
        spacing: mm, z, y, x.
    """
    grown, lesion = image.astype(np.float32, copy=True), np.zeros(roi.shape, np.bool_)
    box = bounding_box(roi)
    inside = np.argwhere(roi[box]) + [part.start for part in box]
    low, high = np.percentile(image[roi], [25, 75])
    spread = max(float(high - low) / IQR_OF_NORMAL, 1.0)
    for _ in range(rng.integers(1, MOST + 1)):
        centre = inside[rng.integers(len(inside))]
        radius = float(np.exp(rng.uniform(*np.log(RADIUS_MM))))
        where, lump = _lump(roi.shape, centre, spacing, radius, rng)
        edge = rng.uniform(*EDGE_MM)
        soft = ndimage.gaussian_filter(lump.astype(np.float32), [edge / step for step in spacing])
        texture = ndimage.gaussian_filter(rng.standard_normal(lump.shape), [GRAIN_MM / step for step in spacing])
        texture *= TEXTURE / max(float(texture.std()), 1e-6)
        contrast = rng.choice([-1.0, 1.0]) * rng.uniform(*CONTRAST_SD) * spread
        grown[where] += (contrast * (1 + texture) * soft * roi[where]).astype(np.float32)
        lesion[where] |= lump & roi[where]
    grown[roi] = grown[roi].clip(-1024, 3071)
    return Grown(grown, lesion)


def _lump(
    shape: tuple[int, ...], centre: np.ndarray, spacing: Spacing, radius: float, rng: np.random.Generator
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Return a box around a voxel, and which of its voxels a lump covers: that one always, and a ball's volume."""
    reach = np.ceil(REACH * radius / np.asarray(spacing)).astype(int) + 1
    start, stop = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, shape)
    places = [(np.arange(a, b) - c) * step for a, b, c, step in zip(start, stop, centre, spacing, strict=True)]
    field = np.zeros([len(place) for place in places])
    for _ in range(rng.integers(HILLS[0], HILLS[1] + 1)):
        hill, width = rng.normal(0, 0.5 * radius, 3), radius * rng.uniform(0.45, 0.9)
        z, y, x = (np.exp(-0.5 * ((place - h) / width) ** 2) for place, h in zip(places, hill, strict=True))
        field += z[:, None, None] * y[:, None] * x
    count = int(np.clip(4 / 3 * np.pi * radius**3 / np.prod(spacing), 1, field.size))
    lump = field >= np.partition(field.ravel(), -count)[-count]
    lump[tuple(centre - start)] = True
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True)), lump
