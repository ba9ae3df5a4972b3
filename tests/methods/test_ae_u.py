"""AE-U: its network's size, its likelihood, its score, and what keeps its loss from falling without end."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from uasbench.methods.nets.aeu_net import UncertainAutoencoder
from uasbench.methods.reconstruction.ae_u import AEU


def by_formula(widths: tuple[int, ...], hidden: int, z: int) -> int:
    """16·Cin·Cout per convolution, 2·C per normalisation, in·out + out per dense layer."""
    flat, down = 16 * widths[-1], [1, *widths]
    up = [*widths[::-1], 2]
    convolutions = sum(16 * a * b for chain in (down, up) for a, b in pairwise(chain))
    norms = 2 * (sum(widths) + sum(up[1:-1]))
    dense = (flat + 1) * hidden + 2 * hidden + (hidden + 1) * z + (z + 1) * hidden + 2 * hidden + (hidden + 1) * flat
    return convolutions + norms + dense


def test_the_network_has_the_published_size():
    with torch.device("meta"):
        net = UncertainAutoencoder()
    assert sum(p.numel() for p in net.parameters()) == by_formula((16, 32, 64, 64), 1024, 16) == 2_351_440


def test_a_larger_image_keeps_the_dense_layers():
    with torch.device("meta"):
        small, large = UncertainAutoencoder(64), UncertainAutoencoder(128)
    sizes = [sum(p.numel() for part in (net.to_z, net.from_z) for p in part.parameters()) for net in (small, large)]
    assert sizes[0] == sizes[1]
    assert [tuple(part.shape) for part in large.to("meta")(torch.empty(3, 1, 128, 128, device="meta"))] == [
        (3, 1, 128, 128)
    ] * 2


def predicting(make_method, toy_net, mean: float, log_variance: float, **settings) -> AEU:
    """A method whose network predicts the same mean and log variance everywhere, in [−1, 1]."""
    method = make_method(AEU, "smoke", settings)

    def formula(x, weight):
        return torch.full_like(x, mean) + weight, torch.full_like(x, log_variance) + weight

    method.net = toy_net(formula)
    return method


def losses(method: AEU, x: torch.Tensor, roi: torch.Tensor) -> dict[str, float]:
    return {name: value.item() for name, value in method.losses(x, roi, torch.Generator()).items()}


def test_loss_is_the_negative_log_likelihood_over_the_organ_alone(make_method, toy_net):
    rng = np.random.default_rng(0)
    x, roi = rng.random((2, 1, 8, 8)).astype(np.float32), rng.random((2, 1, 8, 8)) < 0.5
    method = predicting(make_method, toy_net, 0.25, -1.5)
    found = losses(method, torch.from_numpy(x), torch.from_numpy(roi))
    squared = ((2 * x - 1 - 0.25) ** 2)[roi]
    assert found["nll"] == pytest.approx((math.exp(1.5) * squared - 1.5).mean(), rel=1e-5)
    assert found["l2"] == pytest.approx(squared.mean(), rel=1e-5)
    assert next(iter(found)) == "nll"
    x[~roi] = 0.9  # what lies outside the organ counts nowhere
    assert losses(method, torch.from_numpy(x), torch.from_numpy(roi)) == found


@settings(max_examples=30, deadline=None)
@given(s=st.floats(-1e4, 50), mean=st.floats(-1, 1))
def test_loss_is_bounded_below_where_nothing_ever_changes(make_method, toy_net, s, mean):
    method = predicting(make_method, toy_net, mean, s)
    x = torch.full((1, 1, 8, 8), (mean + 1) / 2)
    loss = losses(method, x, torch.ones(1, 1, 8, 8, dtype=torch.bool))["nll"]
    assert method.config.floor - 1e-3 <= loss < math.inf


def test_score_is_the_squared_residual_over_the_variance_without_the_log_variance(make_method, toy_net):
    rng = np.random.default_rng(1)
    array, roi = rng.random((3, 32, 32)).astype(np.float32), rng.random((3, 32, 32)) < 0.7
    found = predicting(make_method, toy_net, -0.5, 1.0).score_view(array, roi, (1, 1, 1))
    wanted = math.exp(-1.0) * (2 * array + 0.5 - 1) ** 2
    assert np.allclose(found, wanted * roi, rtol=1e-4, atol=1e-6)
    brighter = predicting(make_method, toy_net, -0.5, 1.0, sign="positive").score_view(array, roi, (1, 1, 1))
    assert np.allclose(brighter, wanted * roi * (array > 0.25), rtol=1e-4, atol=1e-6)


def test_the_score_has_the_floor_of_the_loss(make_method, toy_net):
    array, roi = np.full((1, 32, 32), 0.75, np.float32), np.ones((1, 32, 32), bool)
    found = predicting(make_method, toy_net, 0.0, -100.0).score_view(array, roi, (1, 1, 1))
    assert np.allclose(found, math.exp(8) * 0.25, rtol=1e-4)


def test_a_lesion_where_the_network_expects_to_err_scores_less(make_method, toy_net):
    method = make_method(AEU, "smoke")

    def unsure_on_the_left(x, weight):
        s = torch.zeros_like(x)
        s[..., :16] = 4.0
        return torch.zeros_like(x), s + weight

    method.net = toy_net(unsure_on_the_left)
    map_ = method.score_view(np.full((1, 32, 32), 0.9, np.float32), np.ones((1, 32, 32), bool), (1, 1, 1))
    assert map_[0, :, :16] == pytest.approx(map_[0, :, 16:] * math.exp(-4), rel=1e-4)


def test_restorations_are_slices_and_what_they_may_be_off_by(train, healthy):
    method, _ = train(AEU)
    array, roi = healthy.array(method.view).take(np.arange(3))
    shown = method.restore_view(array, roi, np.zeros_like(array), (1, 1, 1))
    assert set(shown) == {"reconstruction", "expected error"}
    assert all(part.shape == array.shape and part.dtype == np.float32 for part in shown.values())
    assert (shown["expected error"] >= math.exp(method.config.floor / 2) / 2 - 1e-7).all()
