"""The diffusion schedule: betas, moments, and the steps back against closed forms and the posterior."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from uasbench.methods.diffusion.parts.schedule import Diffusion, path


def image(seed: int = 0, n: int = 2) -> torch.Tensor:
    return torch.rand((n, 1, 4, 4), generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def test_betas_are_linear_and_the_product_is_kept():
    d = Diffusion(1000)
    assert d.betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    assert np.allclose(np.diff(d.betas), (0.02 - 1e-4) / 999)
    assert d.kept[199] == pytest.approx(math.prod(1 - (1e-4 + i * (0.02 - 1e-4) / 999) for i in range(200)))
    assert d.kept[-1] < 1e-4


def test_a_shorter_diffusion_ends_as_noisy():
    assert Diffusion(250).betas[0] == pytest.approx(4e-4)
    assert math.log(Diffusion(250).kept[-1]) == pytest.approx(math.log(Diffusion(1000).kept[-1]), rel=0.05)


def test_noisy_mixes_each_image_by_its_own_step():
    d, x, noise = Diffusion(), image(), torch.full((2, 1, 4, 4), 2.0)
    mixed = d.noisy(x, torch.tensor([0, 500]), noise)
    for i, t in enumerate((0, 500)):
        expected = math.sqrt(d.kept[t]) * x[i] + math.sqrt(1 - d.kept[t]) * 2
        assert torch.allclose(mixed[i], expected, atol=1e-6)


@pytest.mark.parametrize("t", [0, 199, 700])
def test_the_true_noise_gives_the_clean_image_back(t):
    d, x = Diffusion(), image()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(d.clean(d.noisy(x, torch.full((2,), t), noise), t, noise), x, atol=1e-4)


def test_the_prediction_is_cut_and_not_the_noisy_image():
    d, t = Diffusion(), 199
    x, noise = torch.full((1, 1, 1, 1), 0.9), torch.full((1, 1, 1, 1), 3.0)
    noisy = d.noisy(x, torch.tensor([t]), noise)
    assert noisy.item() > 1
    assert d.clean(noisy, t, noise).item() == pytest.approx(0.9, abs=1e-5)
    assert d.clean(noisy, t, -noise).item() == 1


@pytest.mark.parametrize("jumps", [1, 5, 200])
def test_the_implicit_path_with_the_true_noise_is_exact(jumps):
    d, x = Diffusion(), image()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    visited = path(200, jumps)
    moving = d.noisy(x, torch.full((2,), visited[0]), noise)
    for t, to in zip(visited, [*visited[1:], -1], strict=True):
        moving = d.implicit(moving, t, d.clean(moving, t, noise), to)
        if to >= 0:
            assert torch.allclose(moving, d.noisy(x, torch.full((2,), to), noise), atol=1e-4)
    assert torch.allclose(moving, x, atol=1e-4)


@pytest.mark.parametrize("t", [1, 40, 199])
def test_the_ancestral_mean_is_that_of_the_posterior(t):
    """Bayes: the product of two normal densities, q(x_t | x_{t−1}) and q(x_{t−1} | x_0)."""
    d, x0, xt = Diffusion(), 0.3, 0.7
    beta, before = d.betas[t], d.kept[t - 1]
    precision = (1 - beta) / beta + 1 / (1 - before)
    mean = (math.sqrt(1 - beta) * xt / beta + math.sqrt(before) * x0 / (1 - before)) / precision
    shape = (1, 1, 1, 1)
    found = d.ancestral(torch.full(shape, xt), t, torch.full(shape, x0), torch.zeros(shape)).item()
    assert found == pytest.approx(mean, rel=1e-4)
    fresh = d.ancestral(torch.full(shape, xt), t, torch.full(shape, x0), torch.ones(shape)).item()
    assert fresh - found == pytest.approx(math.sqrt(beta), rel=1e-3)


def test_the_last_ancestral_step_is_the_clean_image_without_noise():
    x = image()
    assert torch.allclose(Diffusion().ancestral(torch.zeros_like(x), 0, x, torch.ones_like(x)), x, atol=1e-5)


def test_paths_go_all_the_way_down_once():
    assert path(200, 200) == list(range(199, -1, -1))
    assert path(250, 1) == [249]
    for jumps in (2, 7, 50):
        visited = path(250, jumps)
        assert (visited[0], visited[-1], len(visited)) == (249, 0, jumps)
        assert max(-np.diff(visited)) - min(-np.diff(visited)) <= 1
    assert path(3, 50) == [2, 1, 0]
