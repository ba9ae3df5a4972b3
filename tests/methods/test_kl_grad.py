"""The gradient of the KL divergence: published settings, the gradient itself, smoothing, two scores of one training."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as d
from uasbench.datasets.views.volume_view import apply_view
from uasbench.methods.reconstruction.kl_grad import KLGrad, KLGradCombi
from uasbench.methods.reconstruction.parts.input_gradient import gradient_maps, min_max, pixel_gradient, smoothed

SPACING = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def trained(train):
    return train(KLGrad)[0]


@pytest.fixture(scope="module")
def seen(toy_case, trained):
    return apply_view(toy_case(9, lesion=True)[0], trained.view)


@pytest.mark.parametrize("bug", [False, True])
def test_the_width_of_the_code_is_exponentiated_once_unless_the_bug_is_asked_for(make_method, bug):
    method = make_method(KLGrad, "smoke", {"kl_bug": bug, "norm": "affine"})
    x = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, log_std = method.net.encode(x)
    width = log_std.exp().exp() if bug else log_std.exp()
    expected = d.kl_divergence(d.Normal(mean, width), d.Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(method.code_divergence(x), expected, rtol=1e-4, atol=1e-4)
    losses = method.losses(x, x > 0, torch.Generator().manual_seed(0))
    assert losses["kl"].item() == pytest.approx(expected.mean().item(), rel=1e-4, abs=1e-5)


def test_scoring_works_in_inference_mode_and_in_single_precision_under_autocast(trained, seen):
    expected = trained.score_view(seen.image, seen.roi, SPACING)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(trained.score_view(seen.image, seen.roi, SPACING), expected)
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in trained.net.parameters())


def test_the_gradient_leaves_the_input_and_the_parameters_alone():
    layer = torch.nn.Linear(4, 1)
    x = torch.ones(2, 1, 1, 4)
    gradient = pixel_gradient(lambda y: layer(y).flatten() * torch.tensor([1.0, 3.0]), x)
    assert torch.equal(gradient[1], 3 * gradient[0])
    assert torch.allclose(gradient[0, 0, 0], layer.weight[0])
    assert layer.weight.grad is None
    assert not x.requires_grad
    assert not gradient.requires_grad


def test_smoothing_is_a_normalised_window_of_seven_pixels():
    import cv2

    map_ = np.random.default_rng(0).random((2, 20, 20)).astype(np.float32)
    expected = np.stack([cv2.GaussianBlur(a, (7, 7), 3, borderType=cv2.BORDER_CONSTANT) for a in map_])
    assert np.allclose(smoothed(map_, 7, 3.0), expected, atol=1e-6)


@given(seed=st.integers(0, 1000), offset=st.floats(-5, 5), scale=st.floats(0.1, 100))
def test_scaling_spans_zero_to_one_in_every_slice_whatever_the_unit(seed, offset, scale):
    rng = np.random.default_rng(seed)
    map_, roi = rng.random((3, 6, 6)).astype(np.float32), rng.random((3, 6, 6)) < 0.6
    roi[:, 0, :2] = True
    scaled = min_max(map_, roi)
    assert not scaled[~roi].any()
    assert [(s[r].min(), s[r].max()) for s, r in zip(scaled, roi, strict=True)] == 3 * [(0, 1)]
    assert np.allclose(min_max(map_ * scale + offset, roi), scaled, atol=1e-3)


def test_scaling_survives_slices_without_organ_or_without_contrast():
    map_, roi = np.ones((2, 4, 4), np.float32), np.zeros((2, 4, 4), bool)
    roi[1] = True
    with np.errstate(all="raise"):
        assert not min_max(map_, roi).any()


def test_combi_is_the_gradient_scaled_then_smoothed_times_the_residual(trained, seen):
    combi = KLGradCombi(trained.config)
    combi.net = trained.net
    gradient = np.abs(gradient_maps(trained.code_divergence, seen.image, batch=8, device="cpu"))
    weight = np.zeros_like(gradient)
    for i, roi in enumerate(seen.roi):
        low, high = gradient[i][roi].min(), gradient[i][roi].max()
        weight[i][roi] = (gradient[i][roi] - low) / (high - low)
    error = np.abs(seen.image - trained.reconstruct(seen.image))
    expected = smoothed(weight, 7, 3.0) * error * seen.roi
    assert np.allclose(combi.score_view(seen.image, seen.roi, SPACING), expected, rtol=1e-3, atol=1e-5)


def test_maps_are_zero_outside_the_organ_and_nothing_leaks_in(trained, seen):
    scores = trained.score_view(seen.image, seen.roi, SPACING)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert not scores[~seen.roi].any()
    raw = np.abs(gradient_maps(trained.code_divergence, seen.image, batch=8, device="cpu"))
    assert np.allclose(scores, smoothed(raw * seen.roi, 7, 3.0) * seen.roi, rtol=1e-3, atol=1e-5 * raw.max())
