"""The context-encoding variational autoencoder: squares, clean target, weights, the three scores."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.context import FitContext
from uasbench.methods.reconstruction.context_vae import ContextVAE, cut_squares
from uasbench.methods.reconstruction.vae import VAE


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ones_and_roi(n, size=128):
    roi = torch.zeros((n, 1, size, size), dtype=torch.bool)
    roi[:, :, size // 2 : size // 2 + size // 4, size // 4 : size // 2] = True
    return torch.ones((n, 1, size, size)), roi


def test_one_to_three_squares_of_32_pixels_around_the_organ_as_often_as_each_other():
    x, roi = ones_and_roi(300)
    cut = cut_squares(x, roi, 32, 3, generator())
    assert (x == 1).all()
    areas = (cut == 0).sum((1, 2, 3))
    assert 0 < areas.min() <= areas.max() <= 3 * 32**2
    single = cut_squares(x, roi, 32, 1, generator(1))[:, 0] == 0
    for hole in single.numpy():
        (rows, columns), found = ndimage.find_objects(hole.astype(int))[0], ndimage.label(hole)[1]
        assert found == 1
        assert (rows.stop - rows.start, columns.stop - columns.start) == (32, 32)
        assert hole[rows, columns].all()
        assert 64 <= rows.start + 16 < 96
        assert 32 <= columns.start + 16 < 64
    x, roi = ones_and_roi(1200, 32)
    roi[:] = True
    counts = np.bincount([ndimage.label(h)[1] for h in (cut_squares(x, roi, 1, 3, generator())[:, 0] == 0).numpy()])
    assert counts[0] == 0
    assert np.allclose(counts[1:] / 1200, 1 / 3, atol=0.06)


@given(seed=st.integers(0, 10**6), side=st.integers(1, 40), most=st.integers(1, 5))
def test_cutting_only_sets_pixels_to_zero_and_follows_its_generator(seed, side, most):
    x = torch.rand((3, 1, 32, 32), generator=generator(seed)) + 0.1
    roi = torch.rand((3, 1, 32, 32), generator=generator(seed + 1)) > 0.98
    roi[0] = False
    cut = cut_squares(x, roi, side, most, generator(seed))
    assert torch.equal(cut[cut > 0], x[cut > 0])
    assert (cut == 0).any()
    assert torch.equal(cut, cut_squares(x, roi, side, most, generator(seed)))


def echo(x, _):
    """Reconstruct the input; the code is standard normal."""
    return x, torch.zeros(len(x), 2), torch.zeros(len(x), 2)


def test_filled_in_slices_are_compared_with_the_clean_slice(make_method, toy_net):
    method = make_method(ContextVAE)
    method.net = toy_net(echo)
    x, roi = ones_and_roi(16, 32)
    losses = method.losses(x, roi, generator())
    hidden = (cut_squares(x, roi, 8, 3, generator()) == 0).float().mean()
    assert list(losses) == ["loss", "l1", "kl", "context"]
    assert losses["l1"] == 0
    assert losses["context"].item() == pytest.approx(hidden.item())
    assert losses["context"] > 0
    assert losses["loss"].item() == pytest.approx(0.5 * hidden.item())


def test_both_halves_have_the_weights_of_the_card(make_method):
    x, roi = ones_and_roi(4, 32)
    for context in (0.0, 0.25, 1.0):
        method = make_method(ContextVAE, "smoke", {"context": context, "dropout": 0.0, "alpha_kl": 0.1})
        losses = method.losses(x, roi, generator())
        plain = VAE.losses(method, x, roi, generator())
        assert losses["l1"].item() == pytest.approx(plain["l1"].item())
        expected = (1 - context) * plain["loss"] + context * losses["context"]
        assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_side_of_a_square_follows_the_view(make_method, toy_net):
    for size in (32, 64):
        method = make_method(ContextVAE, "smoke", {"size": size, "most_squares": 1})
        method.net = toy_net(echo)
        x = torch.ones((1, 1, size, size))
        roi = torch.zeros_like(x, dtype=torch.bool)
        roi[..., size // 2, size // 2] = True
        assert method.losses(x, roi, generator())["context"].item() == pytest.approx((size / 4) ** 2 / size**2)


def test_gradient_and_product_equal_finite_differences(make_method, toy_case):
    values = {"norm": "affine", "alpha_kl": 0.1, "score": "grad"}
    method = make_method(ContextVAE, "smoke", values)
    method.fit(HealthySet.from_cases([toy_case(1)[0]]), FitContext(seed=0, max_updates=5))
    array = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    roi = np.ones(array.shape, bool)
    gradient = method.score_view(array, roi, (1.0, 1.0, 1.0))
    net = method.net.double().eval()
    x = torch.from_numpy(array).double()[:, None]

    def objective(x):
        reconstruction, mean, log_std = net(x)
        prior = torch.distributions.Normal(0.0, 1.0)
        kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, log_std.exp()), prior).sum(1)
        return (x - reconstruction).abs().mean((1, 2, 3)) + 0.1 * kl

    with torch.no_grad():
        for row, column in ((5, 7), (20, 11), (31, 0)):
            step = torch.zeros_like(x)
            step[1, 0, row, column] = 1e-6
            slope = (objective(x + step)[1] - objective(x - step)[1]).item() / 2e-6
            assert gradient[1, row, column] == pytest.approx(abs(slope), rel=1e-3, abs=1e-7)
    method.net.float()
    maps = {}
    for score in ("rec", "grad", "product"):
        method.config = dataclasses.replace(method.config, score=score)
        maps[score] = method.score_view(array, roi, (1.0, 1.0, 1.0))
    assert np.array_equal(maps["grad"], gradient)
    assert np.allclose(maps["product"], maps["rec"] * maps["grad"], rtol=1e-5)
    assert np.ptp(maps["product"]) > 0
