"""Tiny scans made in memory for ``bench check``: quick to score, with lesions that a trained method should find."""

import numpy as np
from scipy.ndimage import gaussian_filter

from ...common.errors import DataError
from ...datasets.anatomy import Tissue, find_anatomy
from ...datasets.case import Case

SHAPE = (8, 64, 64)
SPACING = (5.0, 2.5, 2.5)


def tissue_of(anatomy: str) -> Tissue:
    """Return what the scans of an anatomy are made of.

    Raises:
        DataError: unknown anatomy, or one without ``tissue``.
    """
    tissue = find_anatomy(anatomy).tissue
    if tissue is None:
        raise DataError(f"anatomy {anatomy!r} names no tissue; give its Anatomy(tissue=…), or check another anatomy")
    return tissue


def healthy_cases(anatomy: str = "liver", count: int = 4, *, filled: bool = False) -> list[Case]:
    """Return scans without lesions, each of its own patient; ``filled`` ones show organ and nothing else."""
    return [_case(anatomy, f"healthy-{i}", i, None, filled)[0] for i in range(count)]


def lesion_cases(anatomy: str = "liver", *, filled: bool = False) -> list[tuple[Case, np.ndarray]]:
    """Return a scan with dark lesions and one with bright lesions, with their masks (bool)."""
    contrasts = tissue_of(anatomy).lesions
    return [_case(anatomy, f"lesion-{i}", 100 + i, contrast, filled) for i, contrast in enumerate(contrasts)]


def labelled_cases(anatomy: str = "liver", *, filled: bool = False) -> list[tuple[Case, np.ndarray]]:
    """Return scans with lesions of both kinds to learn from, with their masks; nobody of :func:`lesion_cases`."""
    contrasts = tissue_of(anatomy).lesions * 2
    return [_case(anatomy, f"labelled-{i}", 200 + i, contrast, filled) for i, contrast in enumerate(contrasts)]


def _case(anatomy: str, name: str, seed: int, contrast: float | None, filled: bool) -> tuple[Case, np.ndarray]:
    tissue = tissue_of(anatomy)
    rng = np.random.default_rng(seed)
    organ = np.ones(SHAPE, bool) if filled else _organ(rng)
    image = np.full(SHAPE, tissue.organ, np.float32)
    for value in (tissue.bright, tissue.dark):
        image[organ & _tubes(rng)] = value
    lesion = np.zeros(SHAPE, bool)
    if contrast is not None:
        lesion = _lesions(rng, organ)
        image[lesion] = tissue.organ + contrast
    image = np.where(organ, gaussian_filter(image, (0.3, 0.8, 0.8)), tissue.outside)
    image += tissue.noise * 2.5 * gaussian_filter(rng.standard_normal(SHAPE), (0, 0.7, 0.7)).astype(np.float32)
    return Case(id=name, patient=name, image=image.astype(np.float32), spacing=SPACING, roi=organ), lesion


def _organ(rng: np.random.Generator) -> np.ndarray:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    angle = np.arctan2(y, x)
    waves = sum(rng.uniform(-0.06, 0.06) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    radius = np.hypot(y / rng.uniform(0.68, 0.78), x / rng.uniform(0.74, 0.84))
    return radius < (1 + waves) * np.sqrt(1 - 0.45 * z**2)


def _tubes(rng: np.random.Generator) -> np.ndarray:
    """Return oblique tubes of a few pixels."""
    z, y, x = np.indices(SHAPE).astype(float)
    found = np.zeros(SHAPE, bool)
    for _ in range(6):
        across = (x - rng.uniform(14, 50)) + rng.uniform(-3, 3) * (z - SHAPE[0] / 2)
        down = (y - rng.uniform(14, 50)) + rng.uniform(-3, 3) * (z - SHAPE[0] / 2)
        found |= np.hypot(across, down) < rng.uniform(1.2, 2.2)
    return found


def _lesions(rng: np.random.Generator, organ: np.ndarray) -> np.ndarray:
    z, y, x = np.indices(SHAPE).astype(float)
    found = np.zeros(SHAPE, bool)
    for side in (-1, 1):
        centre = (rng.uniform(2.5, 4.5), 32 + rng.uniform(-6, 6), 32 + side * rng.uniform(9, 13))
        radius = rng.uniform(4.5, 6.0)
        flat = np.hypot(y - centre[1], x - centre[2]) / radius
        found |= np.hypot(flat, (z - centre[0]) / 2.2) < 1
    return found & organ
