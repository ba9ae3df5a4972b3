"""Textures of filtered salt noise for synthetic lesions (Yao et al. 2021, §III-C.2)."""

from dataclasses import dataclass

import numpy as np

from . import volume_kernels as kernels
from .smooth_fields import half_taps, smooth_nodes
from .stretched_noise_kernels import fill_noise


@dataclass(frozen=True, kw_only=True)
class SaltSettings:
    """What all textures of a generator have in common.

    Attributes:
        mean_threshold: filtered salt above it counts for the mean that is set to μ0.
        guard_share: share of voxels, the brightest, whose mean stands in where none is above ``mean_threshold``.
        probability: of salt, the same everywhere; None draws a map of it that varies in space.
    """

    mean_threshold: float
    guard_share: float = 0.01
    probability: float | None = None


@dataclass(frozen=True)
class Look:
    """The numbers of one texture, named as in the paper (§III-C.2)."""

    sigma_a: float
    a_low: float
    a_high: float
    sigma_b: float
    mu0: float


def filtered_salt(settings: SaltSettings, look: Look, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return the salt of one texture after its filter, float32 of the given ``shape`` (b2 of the paper)."""
    if settings.probability is not None:
        nodes = np.full((1, 1, 1), settings.probability)
    else:
        nodes = smooth_nodes(shape, look.sigma_a, rng)[0]
        low, high = nodes.min(), nodes.max()
        nodes = (nodes - low) * ((look.a_high - look.a_low) / max(high - low, np.finfo(float).tiny)) + look.a_low
    texture = np.empty(shape, np.float32)
    words = np.empty((texture.size + 1) // 2, np.uint64)
    fill_noise(rng.integers(0, 2**64, dtype=np.uint64), words)
    kernels.salt(nodes, words.view(np.uint32), texture)
    taps = half_taps(look.sigma_b, np.float32)
    kernels.smooth(texture, taps, taps, taps)
    return texture


def brightness_factor(settings: SaltSettings, look: Look, texture: np.ndarray) -> float | None:
    """Return β: μ0 over the mean of the filtered salt above the threshold; None where there is no salt.

    Without a voxel above the threshold, the brightest ``guard_share`` of the voxels stands in.
    """
    total, count = kernels.sum_above(texture, settings.mean_threshold)
    if not count:
        count = max(round(settings.guard_share * texture.size), 1)
        total = float(np.partition(texture.ravel(), -count)[-count:].sum(dtype=np.float64))
    return look.mu0 * count / total if total > 0 else None
