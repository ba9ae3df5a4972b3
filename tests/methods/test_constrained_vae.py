"""The constrained autoencoder: squared error plus the distance of the codes."""

from __future__ import annotations

import pytest
import torch
from uasbench.methods.config import by_stage, resolve
from uasbench.methods.nets.seeded_dropout import seed_dropout
from uasbench.methods.reconstruction.ae import AE
from uasbench.methods.reconstruction.constrained_vae import ConstrainedVAE, ConstrainedVAEConfig
from uasbench.methods.state import parameter_count


def slices(n=4, size=32):
    return torch.rand((n, 1, size, size), generator=torch.Generator().manual_seed(0))


def losses_of(method, x):
    return method.losses(x, torch.ones_like(x, dtype=torch.bool), torch.Generator())


def test_published_settings():
    for anatomy in ("liver", "lung"):
        assert resolve(ConstrainedVAEConfig, "paper", anatomy).rho == 1.0
    fit, score = by_stage(ConstrainedVAEConfig())
    assert "rho" in fit
    assert set(score) == {"sign", "erode", "median"}


def test_it_is_the_autoencoder_s_network(make_method):
    paper = make_method(ConstrainedVAE, "paper")
    trunk = (25 * 32 + 25 * 32 * 64 + 25 * 64 * 128 + 25 * 128 * 128 + 3 * (32 + 64 + 128 + 128)) + (
        2 * 128 + 25 * 128 * 128 + 25 * 128 * 64 + 25 * 64 * 32 + 25 * 32 * 32 + 3 * (128 + 64 + 32 + 32) + 33
    )
    bottleneck = (128 * 16 + 16) + (1024 * 128 + 128) + (128 * 1024 + 1024) + (16 * 128 + 128)
    assert parameter_count(paper) == parameter_count(make_method(AE, "paper")) == trunk + bottleneck


@pytest.mark.parametrize("rho", [0.0, 1.0, 2.5])
def test_loss_is_squared_error_plus_squared_distance_of_the_codes(make_method, rho):
    method = make_method(ConstrainedVAE, "smoke", {"rho": rho, "norm": "affine"})
    x = slices()
    losses = losses_of(method, x)
    with torch.no_grad():
        reconstruction = method.net(x)
        distance = method.net.encode(reconstruction) - method.net.encode(x)
    assert list(losses) == ["loss", "l2", "code"]
    assert losses["l2"].item() == pytest.approx((reconstruction - x).square().mean().item(), rel=1e-5)
    assert losses["code"].item() == pytest.approx(distance.square().mean().item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx(losses["l2"].item() + rho * losses["code"].item(), rel=1e-5)


def test_the_codes_distance_reaches_encoder_and_decoder(make_method):
    method = make_method(ConstrainedVAE, "smoke", {"norm": "affine"})
    losses_of(method, slices())["code"].backward()
    assert method.net.encoder[0].weight.grad.abs().max() > 0
    assert method.net.decoder[-1].weight.grad.abs().max() > 0


class Echo(torch.nn.Module):
    def encode(self, x):
        return x.mean((2, 3))

    def decode(self, z):
        return slices()


def test_a_perfect_reconstruction_costs_nothing(make_method):
    method = make_method(ConstrainedVAE)
    method.net = Echo()
    assert losses_of(method, slices())["loss"] == 0


def test_dropout_does_not_enter_the_compared_codes(make_method):
    method = make_method(ConstrainedVAE, "smoke", {"dropout": 0.5, "norm": "affine"})
    seed_dropout(method.net, 0)
    method.net.train()
    x = slices()
    first, second = method.net.encode(x), method.net.encode(x)
    assert torch.equal(first, second)
    assert not torch.equal(method.net.decode(first), method.net.decode(first))
