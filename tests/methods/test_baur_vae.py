"""The variational network against the layer list of the comparative study, and the divergence against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from uasbench.methods.nets.baur import BaurAE
from uasbench.methods.nets.baur_vae import BaurVAE, kl, thinned
from uasbench.methods.nets.seeded_dropout import SeededDropout, seed_dropout


def expected_parameters(size: int, z: int, width: int, *, spatial: bool) -> int:
    """Count from the layer list: the trunk's 5×5 stages, then two dense heads and a way back, or two 1×1 heads."""
    stages = {16: 1, 32: 2, 64: 3, 128: 4}[size]
    total, channels = 0, 1
    for wider in (min(4 * width, width * 2**i) for i in range(stages)):
        total += 25 * channels * wider + wider + 2 * wider
        channels = wider
    if spatial:
        total += 2 * (channels * z + z)
        channels = z
    else:
        code, flat = channels // 8, channels // 8 * 64
        total += channels * code + code + 2 * (flat * z + z) + z * flat + flat + code * channels + channels
    total += 2 * channels
    for narrower in (max(width, 4 * width // 2**i) for i in range(stages)):
        total += 25 * channels * narrower + narrower + 2 * narrower
        channels = narrower
    return total + channels + 1


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("norm", ["batch", "affine"])
@pytest.mark.parametrize(("size", "z", "width"), [(128, 128, 32), (64, 32, 8), (16, 8, 32)])
def test_parameter_count_follows_the_layer_list(size, z, width, norm, spatial):
    net = BaurVAE(size, z, norm, width=width, spatial=spatial)
    assert count(net) == expected_parameters(size, z, width, spatial=spatial)


def test_a_second_head_is_all_that_the_autoencoder_lacks():
    assert count(BaurVAE(128, 128)) - count(BaurAE(128, 128)) == 1024 * 128 + 128


@pytest.mark.parametrize(("spatial", "code"), [(False, (2, 128)), (True, (2, 128, 8, 8))])
def test_shapes_at_the_published_size(spatial, code):
    net = BaurVAE(spatial=spatial).eval()
    x = torch.rand((2, 1, 128, 128), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean, log_std = net.encode(x)
        reconstruction, *_ = net(x)
    assert mean.shape == log_std.shape == code
    assert net.decode(mean).shape == reconstruction.shape == x.shape


@pytest.mark.parametrize("spatial", [False, True])
def test_the_code_is_mean_plus_standard_deviation_times_noise(spatial):
    net = BaurVAE(32, 8, "affine", width=8, spatial=spatial).eval()
    x = torch.rand((3, 1, 32, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mean, log_std = net.encode(x)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
        expected = net.decode(mean + log_std.exp() * noise)
        assert torch.equal(net(x, noise)[0], expected)
        assert torch.equal(net(x)[0], net.decode(mean))
        drawn = net.draw(x, torch.Generator().manual_seed(3))
        again = net.draw(x, torch.Generator().manual_seed(3))
    assert torch.equal(drawn[0], again[0])
    assert not torch.equal(drawn[0], net.decode(mean))
    assert torch.equal(drawn[1], mean)
    assert torch.equal(drawn[2], log_std)


@pytest.mark.parametrize("shape", [(5, 7), (5, 3, 8, 8)])
def test_the_divergence_takes_the_logarithm_of_the_standard_deviation_once(shape):
    draws = torch.Generator().manual_seed(4)
    mean, log_std = torch.randn(shape, generator=draws), torch.randn(shape, generator=draws)
    reference = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    assert torch.allclose(kl(mean, log_std), reference, rtol=1e-5)
    assert kl(mean, log_std).shape == (5,)
    assert torch.equal(kl(torch.zeros(shape), torch.zeros(shape)), torch.zeros(5))
    assert kl(mean.bfloat16(), log_std.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(("spatial", "layers"), [(False, 3), (True, 2)])
def test_dropout_follows_both_heads(spatial, layers):
    net = BaurVAE(32, 16, "affine", 0.5, width=8, spatial=spatial)
    seed_dropout(net, 0)
    found = [m for m in net.modules() if isinstance(m, SeededDropout)]
    assert len(found) == layers
    assert {m.p for m in found} == {0.5}
    mean, log_std = net.encode(torch.rand((4, 1, 32, 32), generator=torch.Generator().manual_seed(5)))
    for head in (mean, log_std):
        assert 0.2 < (head == 0).float().mean() < 0.8
    assert not torch.equal(mean == 0, log_std == 0)


def test_a_thinned_network_is_one_network_for_all_slices_and_calls():
    net = BaurVAE(32, 16, "batch", 0.5, width=8)
    x = torch.rand((4, 1, 32, 32), generator=torch.Generator().manual_seed(6))
    plain = net.eval()(x)[0]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad(), thinned(net, 1) as forward:
        whole, again, last = forward(x)[0], forward(x)[0], forward(x[3:])[0]
    with torch.no_grad(), thinned(net, 2) as forward:
        other = forward(x)[0]
    assert torch.equal(whole, again)
    assert torch.allclose(whole[3:], last, atol=1e-6)
    assert not torch.allclose(whole, other, atol=1e-4)
    assert not torch.allclose(whole, plain, atol=1e-4)
    assert torch.equal(net(x)[0], plain)
    assert not any(m.shared for m in net.modules() if isinstance(m, SeededDropout))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_every_parameter_learns():
    for spatial in (False, True):
        net = BaurVAE(32, 16, "batch", 0.0, width=8, spatial=spatial)
        x = torch.rand((4, 1, 32, 32), generator=torch.Generator().manual_seed(7))
        reconstruction, mean, log_std = net.draw(x, torch.Generator().manual_seed(8))
        ((reconstruction - x).square().mean() + kl(mean, log_std).mean()).backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.code.parameters())
