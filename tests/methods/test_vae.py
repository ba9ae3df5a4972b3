"""The variational autoencoder and its two relatives: loss, published weights, view, code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from uasbench.datasets.case import Case
from uasbench.datasets.views.viewing import apply_view
from uasbench.methods.reconstruction.vae import VAE
from uasbench.methods.reconstruction.vae_original import VAEOriginal
from uasbench.methods.reconstruction.vae_spatial import VAESpatial


class Fixed(torch.nn.Module):
    """Reconstructs 0.5 and encodes every slice to the same mean and logarithm of the standard deviation."""

    def __init__(self, mean, log_std):
        super().__init__()
        self.mean, self.log_std = mean, log_std

    def forward(self, x):
        return torch.full_like(x, 0.5), self.mean.expand(len(x), -1), self.log_std.expand(len(x), -1)

    def draw(self, x, draws):
        return self(x)


def slices(n=4, size=32):
    return torch.rand((n, 1, size, size), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [1e-6, 0.3])
def test_loss_is_error_per_pixel_plus_divergence_summed_over_the_code(make_method, alpha):
    method = make_method(VAE, "smoke", {"alpha_kl": alpha})
    mean, log_std = torch.tensor([[0.5, -2.0, 0.0]]), torch.tensor([[0.0, 0.3, -1.0]])
    method.net = Fixed(mean, log_std)
    x = slices()
    losses = method.losses(x, torch.ones_like(x, dtype=torch.bool), torch.Generator())
    divergence = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum()
    assert list(losses) == ["loss", "l1", "kl"]
    assert losses["l1"].item() == pytest.approx((x - 0.5).abs().mean().item())
    assert losses["kl"].item() == pytest.approx(divergence.item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx(losses["l1"].item() + alpha * divergence.item(), rel=1e-5)


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


def test_the_spatial_code_has_a_vector_at_each_of_64_positions(make_method):
    with torch.no_grad():
        mean, log_std = make_method(VAESpatial, "paper").net.encode(torch.zeros(1, 1, 128, 128))
    assert mean.shape == log_std.shape == (1, 128, 8, 8)


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
