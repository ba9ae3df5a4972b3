"""The mixture model's network, and its divergences against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as d
from uasbench.methods.nets.gmvae_net import (
    BaurGMVAE,
    MixturePrior,
    categorical_kl,
    component_log_probabilities,
    gaussian_kl,
)


def parameters_by_the_layer_list(*, z: int, dim_c: int, dim_w: int, norm_parameters: int = 2) -> int:
    """Count for 128²: four stages each way, 1×1 convolutions to 16 channels, dense heads, the prior of z."""

    def conv(into: int, out: int, side: int) -> int:
        return into * out * side**2 + out

    def dense(into: int, out: int) -> int:
        return into * out + out

    down = sum(conv(a, b, 5) + norm_parameters * b for a, b in ((1, 32), (32, 64), (64, 128), (128, 128)))
    flat = 8 * 8 * 16
    heads = conv(128, 16, 1) + 2 * dense(flat, z) + 2 * dense(flat, dim_w)
    prior = dense(dim_w, 64) + 2 * dense(64, dim_c * z)
    back = dense(z, flat) + conv(16, 128, 1)
    up = sum(conv(a, b, 5) + norm_parameters * b for a, b in ((128, 128), (128, 64), (64, 32), (32, 32)))
    return down + heads + prior + back + norm_parameters * 128 + up + conv(32, 1, 1)


@pytest.mark.parametrize("sizes", [{"z": 128, "dim_c": 9, "dim_w": 1}, {"z": 64, "dim_c": 6, "dim_w": 2}])
def test_parameters_follow_the_layer_list(sizes):
    net = BaurGMVAE(**sizes)
    assert sum(p.numel() for p in net.parameters()) == parameters_by_the_layer_list(**sizes)


def test_shapes_of_posterior_prior_and_reconstruction():
    net = BaurGMVAE(size=32, z=6, dim_c=5, dim_w=2, width=8)
    q = net.posterior(torch.rand(3, 1, 32, 32))
    assert [tuple(part.shape) for part in q] == [(3, 6), (3, 6), (3, 2), (3, 2)]
    assert [tuple(part.shape) for part in net.prior(q.mean_w)] == [(3, 5, 6), (3, 5, 6)]
    assert net.decode(q.mean_z).shape == (3, 1, 32, 32)


def test_plain_reconstruction_uses_the_mean_code():
    net = BaurGMVAE(size=32, z=6, width=8).eval()
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(net(x)[0], net.decode(net.posterior(x).mean_z))


def test_components_of_the_prior_differ_from_the_start():
    torch.manual_seed(0)
    means, log_stds = MixturePrior(1, 9, 16)(torch.zeros(1, 1))
    assert len({tuple(component.tolist()) for component in means[0]}) == 9
    assert log_stds.exp().min() > 0.2


@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 3.0))
@settings(max_examples=25, deadline=None)
def test_gaussian_divergence_equals_torch_distributions(seed, scale):
    draws = torch.Generator().manual_seed(seed)
    mean, log_std, prior_mean, prior_log_std = (scale * torch.randn(4, 5, 7, generator=draws) for _ in range(4))
    expected = d.kl_divergence(d.Normal(mean, log_std.exp()), d.Normal(prior_mean, prior_log_std.exp())).sum(-1)
    assert torch.allclose(gaussian_kl(mean, log_std, prior_mean, prior_log_std), expected, rtol=1e-4, atol=1e-4)


def test_component_probabilities_equal_bayes_rule():
    draws = torch.Generator().manual_seed(0)
    z, means, log_stds = (torch.randn(*s, generator=draws) for s in ((3, 4), (3, 5, 4), (3, 5, 4)))
    density = d.Independent(d.Normal(means, log_stds.exp()), 1).log_prob(z[:, None])
    expected = density - density.logsumexp(1, keepdim=True)
    assert torch.allclose(component_log_probabilities(z, means, log_stds), expected, atol=1e-5)


def test_component_divergence_equals_torch_distributions():
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    expected = d.kl_divergence(d.Categorical(logits=logits), d.Categorical(logits=torch.zeros(6, 9)))
    assert torch.allclose(categorical_kl(torch.log_softmax(logits, 1)), expected, atol=1e-6)


def test_component_divergence_runs_from_zero_to_the_logarithm_of_the_count():
    sure = torch.log_softmax(torch.tensor([[200.0] + 8 * [0.0], 9 * [0.0]]), 1)
    assert categorical_kl(sure).tolist() == pytest.approx([math.log(9), 0.0], abs=1e-6)


def test_divergences_stay_single_precision_under_autocast():
    half = torch.randn(2, 3, dtype=torch.bfloat16)
    assert gaussian_kl(half, half, half, half).dtype == torch.float32
    assert component_log_probabilities(half, half[:, None], half[:, None]).dtype == torch.float32


@pytest.mark.slow
def test_paper_net_halves_128_four_times():
    net = BaurGMVAE().eval()
    q = net.posterior(torch.rand(1, 1, 128, 128))
    assert net.encoder(torch.rand(1, 1, 128, 128)).shape == (1, 128, 8, 8)
    assert q.mean_z.shape == (1, 128)
    assert net.decode(q.mean_z).shape == (1, 1, 128, 128)
