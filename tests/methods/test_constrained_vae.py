"""The constrained autoencoder: squared error plus the distance of the codes."""

from __future__ import annotations

import pytest
import torch
from uasbench.methods.nets.seeded_dropout import seed_dropout
from uasbench.methods.reconstruction.constrained_vae import ConstrainedVAE


def slices(n=4, size=32):
    return torch.rand((n, 1, size, size), generator=torch.Generator().manual_seed(0))


def losses_of(method, x):
    return method.losses(x, torch.ones_like(x, dtype=torch.bool), torch.Generator())


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
