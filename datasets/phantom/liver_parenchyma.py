"""Liver tissue before any tumour: fat, perfusion and texture that differ between and within healthy livers.

What is painted here fills the HU range of the tumours, in healthy and ill livers alike, and differs from them in kind:
fat lies at its usual places with a washed-out border, perfusion differs in wedges that open to the capsule.
"""

import numpy as np
from scipy.special import expit

from .canvas import Canvas
from .fields import smooth_field
from .liver_anatomy import Liver
from .spec import Spec

# Gallbladder fossa, falciform ligament, porta hepatis: x, y, z in mm (docs/phantom.md, sources).
FAT_SITES = ((-36.0, -44.0, -40.0), (-6.0, -40.0, 10.0), (-14.0, -4.0, -18.0))
HILUM = np.array((-20.0, 0.0, -5.0))


def uneven(canvas: Canvas, liver: Liver, spec: Spec, rng: np.random.Generator) -> np.ndarray:
    """Return the change in HU at the samples of the liver's box: slow variation, fat and wedges, float32."""
    change = slow_variation(canvas, liver, spec, rng, "coarse")
    depth = np.clip(-liver.distance / np.float32(45), 0, 1)
    change -= np.float32(spec.draw(rng, "texture.centre_drop")) * depth
    for _ in range(spec.draw(rng, "uneven.fat_count")):
        change += _fat(canvas, liver, spec, rng)
    for _ in range(spec.draw(rng, "uneven.wedge_count")):
        change += _wedge(canvas, liver, spec, rng)
    return change


def slow_variation(canvas: Canvas, liver: Liver, spec: Spec, rng: np.random.Generator, scale: str) -> np.ndarray:
    """Return a smooth field in HU: ``coarse`` of the tissue, or ``broad``, which tumours share (beam, perfusion)."""
    field = smooth_field(rng, canvas.space.cut(liver.box), spec.draw(rng, f"texture.liver_{scale}_scale_mm"))
    return np.float32(spec.draw(rng, f"texture.liver_{scale}_sd")) * field


def _fat(canvas: Canvas, liver: Liver, spec: Spec, rng: np.random.Generator) -> np.ndarray:
    """Return focal fat: a geographic patch with a washed-out border."""
    x, y, z = canvas.space.at(liver.box)
    middle = np.asarray(FAT_SITES[int(rng.integers(len(FAT_SITES)))])
    if rng.random() < spec.draw(rng, "uneven.fat_elsewhere"):
        middle = HILUM + rng.uniform((-60, -45, -45), (40, 45, 45))
    middle = middle + rng.normal(0, 6, 3)
    reach, soft = spec.draw(rng, "uneven.fat_reach_mm"), spec.draw(rng, "uneven.fat_soft_mm")
    stretch = np.exp(0.4 * rng.standard_normal(3).clip(-1.5, 1.5))
    offsets = zip((x, y, z), middle, stretch, strict=True)
    far = np.sqrt(sum(((c - np.float32(m)) / np.float32(s)) ** 2 for c, m, s in offsets))
    wavy = np.float32(0.45 * reach) * smooth_field(rng, canvas.space.cut(liver.box), 0.9 * reach)
    share = expit((np.float32(reach) + wavy - far) / np.float32(soft))
    return np.float32(spec.draw(rng, "uneven.fat_change")) * share


def _wedge(canvas: Canvas, liver: Liver, spec: Spec, rng: np.random.Generator) -> np.ndarray:
    """Return a transient difference of perfusion: a cone from the inside of the liver, open to its capsule."""
    at = canvas.space.at(liver.box)
    surface = np.argwhere(np.abs(liver.distance) < 2.0)
    where = tuple(surface[int(rng.integers(len(surface)))])
    base = np.array([float(coordinate[where]) for coordinate in at])
    axis = base - HILUM
    axis /= np.linalg.norm(axis)
    apex = base - spec.draw(rng, "uneven.wedge_depth_mm") * axis
    offsets = [c - np.float32(a) for c, a in zip(at, apex, strict=True)]
    along = sum(offset * np.float32(part) for offset, part in zip(offsets, axis, strict=True))
    radial = np.sqrt(np.maximum(sum(offset**2 for offset in offsets) - along**2, 0))
    edge = along * np.float32(np.tan(spec.draw(rng, "uneven.wedge_half_angle"))) - radial
    return np.float32(spec.draw(rng, "uneven.wedge_change")) * np.clip(edge / np.float32(4.0) + 0.5, 0, 1)
