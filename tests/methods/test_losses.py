"""Losses against MONAI and against their definitions."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from uasbench.methods.losses import focal_loss, soft_dice, ssim_loss, ssim_map


def images(seed: int, shape=(2, 1, 32, 40)) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_focal_loss_equals_monai_and_label_smoothing_keeps_a_confident_error_finite():
    from monai.losses import FocalLoss

    logits = 4 * torch.randn((2, 2, 16, 16), generator=torch.Generator().manual_seed(0))
    target = images(1, (2, 16, 16)) > 0.7
    one_hot = torch.stack([~target, target], dim=1).float()
    # MONAI averages over the two channels, of which one is 0 at every pixel.
    expected = 2 * FocalLoss(use_softmax=True, gamma=2.0)(logits, one_hot)
    assert focal_loss(logits, target, smooth=0.0).item() == pytest.approx(expected.item(), rel=1e-5)
    logits = torch.zeros((1, 2, 4, 4))
    logits[:, 0] = 200
    logits.requires_grad_()
    loss = focal_loss(logits, torch.ones((1, 4, 4)))
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(2e-5) * (1 - 2e-5) ** 2, rel=1e-4)
    assert focal_loss(logits, torch.zeros((1, 4, 4)), gamma=1.5).item() == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_soft_dice_equals_monai(per_sample, smooth):
    from monai.losses import DiceLoss

    chance, mask = images(1, (3, 1, 16, 20)), images(2, (3, 1, 16, 20)) > 0.8
    mask[1] = False
    # MONAI's batch option sums over the batch; without it the loss is the mean over samples.
    expected = DiceLoss(smooth_nr=smooth, smooth_dr=smooth, batch=not per_sample)(chance, mask.float())
    found = soft_dice(chance, mask, smooth, per_sample=per_sample)
    assert found.shape == ((3,) if per_sample else ())
    assert 1 - found.mean().item() == pytest.approx(expected.item(), abs=1e-6)


def test_soft_dice_of_empty_masks_is_one_and_of_separate_ones_is_the_smoothing():
    left, right = torch.zeros((2, 1, 4, 4)), torch.zeros((2, 1, 4, 4))
    assert soft_dice(left, right).item() == 1
    left[0, ..., :2], right[0, ..., 2:] = 1, 1
    assert soft_dice(left, right, 1.0).item() == pytest.approx(1 / 17)
    assert soft_dice(left, right, 1.0, per_sample=True).tolist() == pytest.approx([1 / 17, 1])


def test_ssim_equals_monai():
    from monai.losses import SSIMLoss

    a, b = images(7), images(8)
    expected = SSIMLoss(spatial_dims=2, data_range=1.0, win_size=11)
    # MONAI keeps the windows that lie inside the image; ours also reads zeros beyond the border.
    padded = [functional.pad(x, (5, 5, 5, 5)) for x in (a, b)]
    assert ssim_loss(a, b).item() == pytest.approx(expected(*padded).item(), abs=1e-5)


def test_losses_do_their_sums_in_single_precision():
    a, b = images(11), images(12)
    assert soft_dice(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert ssim_map(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert ssim_loss(a.bfloat16(), b.bfloat16()).item() == pytest.approx(ssim_loss(a, b).item(), abs=0.02)
