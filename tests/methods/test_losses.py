"""Losses against MONAI and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from uasbench.methods.losses import focal_loss, ssim_loss, ssim_map


def images(seed: int, shape=(2, 1, 32, 40)) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_focal_loss_equals_monai():
    from monai.losses import FocalLoss

    logits = 4 * torch.randn((2, 2, 16, 16), generator=torch.Generator().manual_seed(0))
    target = images(1, (2, 16, 16)) > 0.7
    one_hot = torch.stack([~target, target], dim=1).float()
    # MONAI averages over the two channels, of which one is 0 at every pixel.
    expected = 2 * FocalLoss(use_softmax=True, gamma=2.0)(logits, one_hot)
    assert focal_loss(logits, target, smooth=0.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_loss_without_focus_is_cross_entropy():
    logits = torch.randn((2, 2, 8, 8), generator=torch.Generator().manual_seed(3))
    target = images(4, (2, 8, 8)) > 0.5
    expected = functional.cross_entropy(logits, target.long())
    assert focal_loss(logits, target, gamma=0.0, smooth=0.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_label_smoothing_keeps_a_confident_error_finite():
    logits = torch.zeros((1, 2, 4, 4))
    logits[:, 0] = 200
    logits.requires_grad_()
    loss = focal_loss(logits, torch.ones((1, 4, 4)))
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(1e-5) * (1 - 1e-5) ** 2, rel=1e-4)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_focal_loss_takes_numbers_and_bools_alike():
    logits = torch.randn((1, 2, 8, 8), generator=torch.Generator().manual_seed(5))
    target = images(6, (1, 8, 8)) > 0.5
    assert focal_loss(logits, target) == focal_loss(logits, target.float()) == focal_loss(logits, target.long())


def test_ssim_equals_monai():
    from monai.losses import SSIMLoss

    a, b = images(7), images(8)
    expected = SSIMLoss(spatial_dims=2, data_range=1.0, win_size=11)
    # MONAI keeps the windows that lie inside the image; ours also reads zeros beyond the border.
    padded = [functional.pad(x, (5, 5, 5, 5)) for x in (a, b)]
    assert ssim_loss(a, b).item() == pytest.approx(expected(*padded).item(), abs=1e-5)


def test_ssim_of_equal_images_is_one_and_it_is_symmetric():
    a, b = images(9), images(10)
    assert torch.allclose(ssim_map(a, a), torch.ones_like(a), atol=1e-4)
    assert torch.allclose(ssim_map(a, b), ssim_map(b, a), atol=1e-5)
    assert ssim_loss(a, b) > ssim_loss(a, a + 0.05 * (b - a))


def test_losses_do_their_sums_in_single_precision():
    a, b = images(11), images(12)
    assert ssim_map(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert ssim_loss(a.bfloat16(), b.bfloat16()).item() == pytest.approx(ssim_loss(a, b).item(), abs=0.02)
