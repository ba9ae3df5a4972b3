"""The variational autoencoder and its relatives on the same trunk: losses, view, code, sampling by dropout."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.nets.layers import seed_dropout
from uasbench.methods.reconstruction.constrained_vae import ConstrainedVAE
from uasbench.methods.reconstruction.gmvae import GMVAE
from uasbench.methods.reconstruction.kl_grad import KLGrad
from uasbench.methods.reconstruction.vae import VAE, BayesianVAE, VAEConfig, VAEOriginal, VAESpatial
from uasbench.methods.reconstruction.vae_restoration import VAERestoration


def slices(n=4, size=32):
    return torch.rand((n, 1, size, size), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("cls", "alpha"), [(VAE, 1e-6), (VAE, 0.3), (KLGrad, 2.0)])
def test_loss_is_the_error_per_pixel_or_slice_plus_divergence_summed_over_the_code(make_method, toy_net, cls, alpha):
    method = make_method(cls, "smoke", {"alpha_kl": alpha})
    mean, log_std = torch.tensor([[0.5, -2.0, 0.0]]), torch.tensor([[0.0, 0.3, -1.0]])
    method.net = toy_net(lambda x, _: (torch.full_like(x, 0.5), mean.expand(len(x), -1), log_std.expand(len(x), -1)))
    x = slices()
    losses = method.losses(x, torch.ones_like(x, dtype=torch.bool), torch.Generator())
    divergence = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum()
    assert list(losses) == ["loss", "l1", "kl"]
    assert losses["l1"].item() == pytest.approx((x - 0.5).abs().mean().item())
    assert losses["kl"].item() == pytest.approx(divergence.item(), rel=1e-5)
    error = losses["l1"].item() * (32**2 if cls is KLGrad else 1)
    assert losses["loss"].item() == pytest.approx(error + alpha * divergence.item(), rel=1e-5)


@pytest.mark.parametrize("cls", [VAE, VAERestoration])
def test_the_loss_of_a_slice_is_that_of_its_mean_code(make_method, cls):
    method = make_method(cls, "smoke", {"alpha_kl": 3.0, "norm": "affine", "dropout": 0.0})
    x = slices(3)
    reconstruction, mean, log_std = method.net(x)
    divergence = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(1)
    error = (reconstruction - x).abs().flatten(1)
    expected = (error.sum(1) if method.summed else error.mean(1)) + 3.0 * divergence
    assert torch.allclose(method.slice_losses(x), expected, rtol=1e-4)


def test_training_samples_the_code_and_scoring_does_not(make_method):
    method = make_method(VAE, "smoke", {"dropout": 0.0})
    x = slices()
    roi = torch.ones_like(x, dtype=torch.bool)
    first, second = (method.losses(x, roi, torch.Generator().manual_seed(i))["l1"] for i in (0, 1))
    assert first != second
    array = x[:, 0].numpy()
    assert np.array_equal(method.reconstruct(array), method.reconstruct(array))
    with torch.no_grad():
        mean, _ = method.net.encode(x)
        assert np.allclose(method.reconstruct(array), method.net.decode(mean)[:, 0].numpy(), atol=1e-6)


def test_a_change_in_a_corner_moves_the_spatial_code_there_only(make_method):
    net = make_method(VAESpatial, "smoke", {"norm": "affine", "size": 128}).net.eval()
    x = slices(1, 128)
    changed = x.clone()
    changed[..., :4, :4] += 1
    with torch.no_grad():
        moved = (net.encode(changed)[0] - net.encode(x)[0]).abs().amax((0, 1)) > 1e-6
    assert moved[0, 0]
    assert not moved[4:].any()
    assert not moved[:, 4:].any()


def test_whole_slices_are_seen_but_scored_in_the_organ_only(make_method, toy_case):
    method, masked = make_method(VAEOriginal), make_method(VAE)
    assert not method.view.mask_roi
    assert masked.view.mask_roi
    case, _ = toy_case(9)
    seen = apply_view(case, method.view)
    assert seen.image[~seen.roi].any()
    assert not method.score_view(seen.image, seen.roi, case.spacing)[~seen.roi].any()
    image = np.where(case.roi, case.image, case.image + 100).astype(np.float32)
    other = Case(case.id, case.patient, image, case.spacing, case.roi)
    assert not np.array_equal(method.score(case)[case.roi], method.score(other)[case.roi])
    assert np.array_equal(masked.score(case), masked.score(other))


@pytest.mark.parametrize("rho", [0.0, 1.0, 2.5])
def test_loss_is_squared_error_plus_squared_distance_of_the_codes(make_method, rho):
    method = make_method(ConstrainedVAE, "smoke", {"rho": rho, "norm": "affine"})
    x = slices()
    losses = method.losses(x, x >= 0, torch.Generator())
    with torch.no_grad():
        reconstruction = method.net(x)
        distance = method.net.encode(reconstruction) - method.net.encode(x)
    assert list(losses) == ["loss", "l2", "code"]
    assert losses["l2"].item() == pytest.approx((reconstruction - x).square().mean().item(), rel=1e-5)
    assert losses["code"].item() == pytest.approx(distance.square().mean().item(), rel=1e-5)
    losses["code"].backward()
    for layer in (method.net.encoder[0], method.net.decoder[-1]):
        assert layer.weight.grad.abs().max() > 0, "the distance of the codes reaches encoder and decoder"
    assert losses["loss"].item() == pytest.approx(losses["l2"].item() + rho * losses["code"].item(), rel=1e-5)


def test_dropout_does_not_enter_the_compared_codes(make_method):
    method = make_method(ConstrainedVAE, "smoke", {"dropout": 0.5, "norm": "affine"})
    seed_dropout(method.net, 0)
    method.net.train()
    x = slices()
    first, second = method.net.encode(x), method.net.encode(x)
    assert torch.equal(first, second)
    assert not torch.equal(method.net.decode(first), method.net.decode(first))


@pytest.fixture(scope="module")
def trained(make_method, toy_case):
    method = make_method(BayesianVAE, "smoke", {"norm": "affine", "dropout": 0.3, "samples": 5})
    healthy = HealthySet.from_cases([toy_case(i)[0] for i in range(2)])
    method.fit(healthy, FitContext(seed=0, max_updates=5))
    return method


def test_a_state_of_either_serves_the_other(trained, toy_case, tmp_path):
    case, _ = toy_case(9, lesion=True)
    plain = VAE(dataclasses.replace(resolve(VAEConfig, "smoke", "liver"), norm="affine", dropout=0.3))
    trained.save(tmp_path / "bayesian.pt")
    plain.load(tmp_path / "bayesian.pt")
    plain.save(tmp_path / "plain.pt")
    back = BayesianVAE(trained.config)
    back.load(tmp_path / "plain.pt")
    assert np.array_equal(back.score(case), trained.score(case))
    assert not np.allclose(plain.score(case), trained.score(case), atol=1e-5)
    back.dropout_seed += 1
    assert not np.array_equal(back.score(case), trained.score(case)), "the seed of the fit decides the networks"


def test_the_map_is_the_mean_residual_not_the_residual_of_the_mean(trained):
    array = np.random.default_rng(0).random((3, 32, 32)).astype(np.float32)
    passes = np.stack([trained.thinned(array, i) for i in range(5)])
    assert len({p.tobytes() for p in passes}) == 5
    scores = trained.score_view(array, np.ones(array.shape, bool), (1.0, 1.0, 1.0))
    assert np.allclose(scores, np.abs(array - passes).mean(0), atol=1e-6)
    assert not np.allclose(scores, np.abs(array - passes.mean(0)), atol=1e-5)


def gaussian(mean, log_std):
    return Normal(mean, log_std.exp())


@pytest.mark.parametrize(("c_lambda", "alpha_kl"), [(0.0, 1.0), (1.0, 1.0), (5.0, 1.0), (1.0, 0.01)])
def test_loss_is_the_negative_lower_bound_with_a_floor_per_slice(make_method, c_lambda, alpha_kl):
    sizes = {"dim_c": 4, "dim_w": 2, "norm": "affine"}
    method = make_method(GMVAE, "smoke", {"c_lambda": c_lambda, "alpha_kl": alpha_kl, **sizes})
    net = method.net
    assert (net.prior.shape, net.to_mean_w.out_features) == ((4, 16), 2)
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
    kl_z = (p_c * kl_divergence(posterior, prior).sum(-1)).sum(1)
    kl_w = kl_divergence(gaussian(q.mean_w, q.log_std_w), Normal(0.0, 1.0)).sum(1)
    kl_c = (p_c * torch.log(4 * p_c + 1e-12)).sum(1)
    l1 = (net.decode(z) - x).abs().sum((1, 2, 3))
    expected = (l1 + alpha_kl * (kl_z + kl_w + torch.clamp(kl_c, min=c_lambda))).mean()
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses["kl_c"].item() == pytest.approx(kl_c.mean().item(), abs=1e-4)
    assert list(losses) == ["loss", "l1", "kl_z", "kl_w", "kl_c"]


def test_half_precision_trains(train, toy_case):
    method, curve = train(GMVAE, precision="bf16", limit=3)
    assert all(np.isfinite(v) for values in curve for v in values.values())
    assert np.isfinite(method.score(toy_case(9)[0])).all()
