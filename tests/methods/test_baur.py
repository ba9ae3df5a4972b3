"""The networks of the comparative study: layer lists, codes, divergences against PyTorch's own, thinning."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from uasbench.methods.nets.baur import (
    Affine2d,
    BaurAE,
    BaurGMVAE,
    BaurVAE,
    MixturePrior,
    categorical_kl,
    component_log_probabilities,
    gaussian_kl,
    kl,
    thinned,
)
from uasbench.methods.nets.layers import SeededDropout, seed_dropout


def test_published_widths_and_bottleneck():
    for size in (16, 32, 64, 128):
        assert BaurAE(size, 8, width=8)(torch.zeros(2, 1, size, size)).shape == (2, 1, size, size)
    net = BaurAE(128, 128)
    assert [m.out_channels for m in net.encoder if isinstance(m, nn.Conv2d)] == [32, 64, 128, 128]
    assert [m.out_channels for m in net.decoder if isinstance(m, nn.ConvTranspose2d)] == [128, 64, 32, 32]
    assert net.encoder(torch.zeros(2, 1, 128, 128)).shape == (2, 128, 8, 8)
    assert (net.bottleneck.to_z.in_features, net.bottleneck.to_z.out_features) == (1024, 128)
    assert (net.bottleneck.from_z.in_features, net.bottleneck.from_z.out_features) == (128, 1024)
    assert {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)} == {0.3}
    assert [type(m) for m in net.decoder][:2] == [nn.BatchNorm2d, nn.ReLU]


def test_affine_is_batch_norm_with_fixed_statistics_and_the_output_is_not_squashed():
    x = torch.rand((2, 4, 5, 5), generator=torch.Generator().manual_seed(0))
    affine, norm = Affine2d(4), nn.BatchNorm2d(4, eps=0.0).eval()
    for module in (affine, norm):
        nn.init.constant_(module.weight, 1.5)
        nn.init.constant_(module.bias, -0.5)
    assert torch.allclose(affine(x), norm(x), atol=1e-6)
    net = BaurAE(32, 8, "affine", width=8)
    assert not list(net.buffers())
    assert list(BaurAE(32, 8, "batch", width=8).buffers())
    with torch.no_grad():
        net.decoder[-1].bias.fill_(7)
    assert net(torch.zeros(1, 1, 32, 32)).mean() > 2


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
        drawn = net(x, torch.Generator().manual_seed(2))
        assert torch.equal(drawn[0], net.decode(mean + log_std.exp() * noise))
        assert torch.equal(net(x)[0], net.decode(mean))
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


def test_dropout_follows_the_heads_of_w_too_and_the_prior_is_linear_in_w():
    net = BaurGMVAE(32, 16, dim_c=3, dim_w=40, norm="affine", dropout=0.5, width=8)
    seed_dropout(net, 0)
    q = net.posterior(torch.rand((4, 1, 32, 32), generator=torch.Generator().manual_seed(5)))
    for head in q:
        assert 0.2 < (head == 0).float().mean() < 0.8
    assert not torch.equal(q.mean_w == 0, q.log_std_w == 0)
    one, other = torch.randn((2, 5, 40), generator=torch.Generator().manual_seed(1))
    for halfway, *ends in zip(net.prior((one + other) / 2), net.prior(one), net.prior(other), strict=True):
        assert torch.allclose(halfway, (ends[0] + ends[1]) / 2, atol=1e-5)


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


def test_shapes_of_posterior_prior_and_reconstruction():
    net = BaurGMVAE(size=32, z=6, dim_c=5, dim_w=2, width=8)
    q = net.posterior(torch.rand(3, 1, 32, 32))
    assert [tuple(part.shape) for part in q] == [(3, 6), (3, 6), (3, 2), (3, 2)]
    assert [tuple(part.shape) for part in net.prior(q.mean_w)] == [(3, 5, 6), (3, 5, 6)]
    assert net.decode(q.mean_z).shape == (3, 1, 32, 32)
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(net.eval()(x)[0], net.decode(net.posterior(x).mean_z)), "plain reconstruction uses the mean code"


def test_components_of_the_prior_differ_and_divergences_run_up_to_their_count_in_single_precision():
    torch.manual_seed(0)
    means, log_stds = MixturePrior(1, 9, 16)(torch.zeros(1, 1))
    assert len({tuple(component.tolist()) for component in means[0]}) == 9
    assert log_stds.exp().min() > 0.2
    sure = torch.log_softmax(torch.tensor([[200.0] + 8 * [0.0], 9 * [0.0]]), 1)
    assert categorical_kl(sure).tolist() == pytest.approx([math.log(9), 0.0], abs=1e-6)
    half = torch.randn(2, 3, dtype=torch.bfloat16)
    assert gaussian_kl(half, half, half, half).dtype == torch.float32
    assert component_log_probabilities(half, half[:, None], half[:, None]).dtype == torch.float32


def test_dropout_follows_its_own_generator_and_rests_in_evaluation():
    layer = SeededDropout(0.3)
    net = nn.Sequential(nn.Linear(4, 4), layer)
    x = torch.ones(50, 40)
    seed_dropout(net, 1)
    first = layer(x)
    torch.manual_seed(123)
    seed_dropout(net, 1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert sorted(first.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert (first == 0).float().mean() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(layer.eval()(x), x)
