"""The Gaussian mixture autoencoder: published settings, its loss term by term, training."""

import numpy as np
import pytest
import torch
from torch import distributions as d
from uasbench.methods.nets.baur import BaurGMVAE
from uasbench.methods.reconstruction.gmvae import GMVAE


def test_the_net_has_the_sizes_of_the_settings(make_method):
    net = make_method(GMVAE, "smoke", {"dim_c": 4, "dim_w": 2}).net
    assert isinstance(net, BaurGMVAE)
    assert net.prior.shape == (4, 16)
    assert net.to_mean_w.out_features == 2


def gaussian(mean, log_std):
    return d.Normal(mean, log_std.exp())


@pytest.mark.parametrize(("c_lambda", "alpha_kl"), [(0.0, 1.0), (1.0, 1.0), (5.0, 1.0), (1.0, 0.01)])
def test_loss_is_the_negative_lower_bound_with_a_floor_per_slice(make_method, c_lambda, alpha_kl):
    method = make_method(GMVAE, "smoke", {"c_lambda": c_lambda, "alpha_kl": alpha_kl, "norm": "affine"})
    net = method.net
    for parameter in net.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    x = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    losses = method.losses(x, torch.ones_like(x, dtype=torch.bool), torch.Generator().manual_seed(3))

    draws = torch.Generator().manual_seed(3)
    q = net.posterior(x)
    z = q.mean_z + q.log_std_z.exp() * torch.empty_like(q.mean_z).normal_(generator=draws)
    w = q.mean_w + q.log_std_w.exp() * torch.empty_like(q.mean_w).normal_(generator=draws)
    prior = gaussian(*net.prior(w))
    p_c = torch.softmax(prior.log_prob(z[:, None]).sum(-1), 1)
    posterior = gaussian(q.mean_z[:, None], q.log_std_z[:, None])
    kl_z = (p_c * d.kl_divergence(posterior, prior).sum(-1)).sum(1)
    kl_w = d.kl_divergence(gaussian(q.mean_w, q.log_std_w), d.Normal(0.0, 1.0)).sum(1)
    kl_c = (p_c * torch.log(9 * p_c + 1e-12)).sum(1)
    l1 = (net.decode(z) - x).abs().sum((1, 2, 3))
    expected = (l1 + alpha_kl * (kl_z + kl_w + torch.clamp(kl_c, min=c_lambda))).mean()
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses["kl_c"].item() == pytest.approx(kl_c.mean().item(), abs=1e-4)
    assert list(losses) == ["loss", "l1", "kl_z", "kl_w", "kl_c"]


def test_below_its_floor_the_component_divergence_has_no_gradient(make_method):
    gradients = {}
    for floor in (0.0, 10.0):
        method = make_method(GMVAE, "smoke", {"c_lambda": floor, "norm": "affine"})
        x = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        method.losses(x, x > 0, torch.Generator().manual_seed(1))["loss"].backward()
        gradients[floor] = method.net.prior.to_mean.weight.grad.clone()
    assert not torch.allclose(gradients[0.0], gradients[10.0])


def test_half_precision_trains(train, toy_case):
    method, curve = train(GMVAE, precision="bf16", limit=3)
    assert all(np.isfinite(v) for values in curve for v in values.values())
    assert np.isfinite(method.score(toy_case(9)[0])).all()
