"""Simplex noise against a brute-force sum over the lattice, its moments, its seeds and its octaves."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from uasbench.methods.synthesis.simplex import VARIANCE, SimplexNoise, add_octave, simplex

EDGES = [
    (0, -1, -1), (0, 1, -1), (0, -1, 1), (0, 1, 1),
    (-1, 0, -1), (-1, 0, 1), (1, 0, -1), (1, 0, 1),
    (-1, -1, 0), (1, -1, 0), (-1, 1, 0), (1, 1, 0),
]  # fmt: skip


def mixed(seed: int, cell: tuple[int, ...]) -> int:
    """Hash a lattice point with plain whole numbers."""
    low = (1 << 32) - 1
    h = seed
    for c in cell:
        h = ((h ^ (c & low)) * 0x9E3779B1) & low
        h ^= h >> 15
    h = (h * 0x85EBCA6B) & low
    h ^= h >> 13
    h = (h * 0xC2B2AE35) & low
    return h ^ (h >> 16)


def brute_force(seed: int, point: np.ndarray) -> float:
    """Sum (1/2 − r²)⁴ g·r over all lattice points near a point; no simplex is looked for."""
    cell = np.floor(point + point.sum() / 3).astype(int)
    total = 0.0
    for step in itertools.product(range(-2, 4), repeat=3):
        lattice = cell + step
        r = point - (lattice - lattice.sum() / 6)
        falloff = 0.5 - r @ r
        if falloff > 0:
            total += falloff**4 * float(np.dot(EDGES[mixed(seed, tuple(int(v) for v in lattice)) % 12], r))
    return total


def points(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-300, 300, (count, 3))


def kernel(seed: int, where: np.ndarray) -> np.ndarray:
    out = np.zeros(len(where))
    add_octave(seed, np.zeros(3), 1.0, 1.0, where, out)
    return out


@pytest.mark.parametrize("seed", [0, 12345, 2**32 - 1])
def test_one_octave_equals_the_sum_over_the_lattice(seed):
    where = points(60, seed)
    expected = np.array([brute_force(seed, p) for p in where])
    assert np.abs(expected).max() > 0.005
    assert np.allclose(kernel(seed, where), expected, atol=1e-12)


def test_tensor_code_equals_the_kernel():
    seeds, where = [3, 77], points(4000, 1)
    found = simplex(torch.tensor(seeds), torch.from_numpy(np.stack([where, -where])))
    assert np.allclose(found[0].numpy(), kernel(3, where), atol=1e-12)
    assert np.allclose(found[1].numpy(), kernel(77, -where), atol=1e-12)


def test_tensor_code_sums_octaves_like_the_kernel():
    """The path of an accelerator, followed on the CPU: each octave halves the scale, which is in pixels."""
    from uasbench.methods.synthesis import simplex as module

    noise, seeds = SimplexNoise(3, 0.7, 5.0), torch.tensor([5, 6])
    compiled = noise.images(seeds, 12)
    grid = np.stack(np.meshgrid([0.0], np.arange(12.0), np.arange(12.0), indexing="ij"), -1).reshape(1, -1, 3)
    total = torch.zeros(2, 144, dtype=torch.float64)
    for i, amplitude in enumerate(noise.amplitudes):
        octave_seeds, offsets = module._octave(seeds, i)
        total += amplitude * simplex(octave_seeds, torch.from_numpy(grid) * 2**i / 5.0 + offsets[:, None])
    assert torch.allclose(total.float().view(2, 1, 12, 12), compiled, atol=1e-6)


def test_variance_is_the_integral_over_the_ball():
    integral, _ = quad(lambda r: 2 * (0.5 - r * r) ** 8 * (2 / 3) * r * r * 4 * math.pi * r * r, 0, math.sqrt(0.5))
    assert pytest.approx(integral, rel=1e-9) == VARIANCE
    assert kernel(9, points(40_000, 4)).var() == pytest.approx(VARIANCE, rel=0.03)


@pytest.mark.parametrize(("octaves", "persistence"), [(1, 0.8), (6, 0.8), (3, 0.4)])
def test_every_pixel_has_mean_0_and_variance_1_over_draws(octaves, persistence):
    draws = SimplexNoise(octaves, persistence, 16.0).images(torch.arange(1500), 8)[:, 0]
    assert draws.shape == (1500, 8, 8)
    assert draws.mean(0).abs().max() < 0.13
    assert (draws.var(0) - 1).abs().max() < 0.2
    assert draws.var().item() == pytest.approx(1, abs=0.05)
    assert 2 < draws.abs().max() < 6


def test_an_image_depends_on_its_own_seed_alone_and_seeds_next_to_each_other_are_unrelated():
    noise = SimplexNoise()
    together = noise.images(torch.tensor([4, 9, 4, 2**32 - 1]), 16)
    assert torch.equal(together[0], together[2])
    assert torch.equal(noise.images(torch.tensor([9]), 16)[0], together[1])
    correlation = np.corrcoef(together[[0, 1, 3], 0].flatten(1).numpy())
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 0.9
    assert together.dtype == torch.float32
    draws = SimplexNoise(1, 1.0, 4.0).images(torch.arange(2000), 2)[:, 0, 0, 0]
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.07


def test_octaves_follow_the_persistence():
    fine = SimplexNoise(6, 0.8, 32.0)
    ratios = np.divide(fine.amplitudes[1:], fine.amplitudes[:-1])
    assert np.allclose(ratios, 0.8)
    assert sum(a * a for a in fine.amplitudes) * VARIANCE == pytest.approx(1)


def test_points_in_space_agree_with_images():
    noise = SimplexNoise(4, 0.6, 10.0)
    y, x = np.mgrid[:9, :9]
    where = np.stack([np.zeros_like(y), y, x], -1).reshape(-1, 3)
    image = noise.images(torch.tensor([21]), 9).flatten().numpy()
    assert np.array_equal(noise.at(where, 21), image)
    assert not np.array_equal(noise.at(where + np.array([3, 0, 0]), 21), image)
    assert noise.at(where, 21).dtype == np.float32
