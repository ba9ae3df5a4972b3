"""What the phantoms of kidneys and pancreas do alike: a lower scan, its texture, artefacts and noise, tumours apart."""

from collections.abc import Callable, Sequence

import numpy as np

from ..case import Spacing
from .canvas import Canvas
from .fields import tissue_texture
from .liver_anatomy import Body
from .liver_artefacts import spoil
from .liver_tumours import Lesion
from .scanner import Scanner, add_noise, average_slices, blur
from .shapes import Point, Space
from .spec import Spec


def moved(space: Space, height: float) -> Space:
    """Return the samples of a scan whose middle lies ``height`` mm above the liver's hilum."""
    (z, y, x), (wz, wy, wx) = space.axes, space.warped
    up = np.float32(height)
    return Space((z + up, y, x), (wz + up, wy, wx), space.pixel)


def scanned(
    canvas: Canvas,
    body: Body,
    spec: Spec,
    organ: str,
    stream: Callable[[str], np.random.Generator],
    scanner: Scanner,
    spacing: Spacing,
    style: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scan of what was painted, int16 HU (z, y, x), and the noise in it, HU.

    The organ of the canvas and the other tissues get a fine texture each; ``organ`` is its part of the specification.
    """
    clean = blur(scanner, average_slices(canvas.hu))
    clean += _texture(canvas, clean, spec, organ, stream("texture"), spacing)
    clean = spoil(clean, spec, style, stream("artefacts"), spacing)
    outer = (body.half[0] + body.fat, body.half[1] + body.fat)
    noisy = add_noise(scanner, clean, stream("noise"), outer)
    return np.clip(np.rint(noisy), -1024, 3071).astype(np.int16), noisy - clean


def _texture(
    canvas: Canvas, clean: np.ndarray, spec: Spec, organ: str, rng: np.random.Generator, spacing: Spacing
) -> np.ndarray:
    own = average_slices(canvas.liver)
    shape = (clean.shape[0], clean.shape[1], clean.shape[2])
    fine = tissue_texture(rng, shape, spacing, spec.draw(rng, f"{organ}.fine_scale_mm"))
    tissue = (clean > -400) * (1 - own)
    sd = np.float32(spec.draw(rng, f"{organ}.fine_sd"))
    return sd * fine * own + np.float32(spec.draw(rng, f"{organ}.tissue_sd")) * fine[::-1, ::-1, ::-1] * tissue


def drawn_apart(
    candidates: np.ndarray, radius: float, others: Sequence[Lesion], rng: np.random.Generator
) -> Point | None:
    """Draw one of the places, (n, 3) in mm, x first, that keeps clear of the other tumours; None where none does."""
    for other in others:
        apart = np.sqrt(((candidates - np.asarray(other.centre_mm)) ** 2).sum(1))
        candidates = candidates[apart >= 1.3 * (radius + other.radius_mm)]
    if not len(candidates):
        return None
    cx, cy, cz = candidates[int(rng.integers(len(candidates)))]
    return float(cx), float(cy), float(cz)
