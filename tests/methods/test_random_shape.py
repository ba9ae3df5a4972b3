"""Random-shape pseudo outliers: settings, fillings, loss, training."""

import numpy as np
import pytest
import torch
from uasbench.methods.context import FitContext
from uasbench.methods.pseudo_anomaly.random_shape import RandomShape, bce_and_dice
from uasbench.methods.synthesis.shift import ShiftedRegions
from uasbench.methods.synthesis.stretched_noise import ShapeConfig


@pytest.fixture(scope="module")
def slices():
    rng = np.random.default_rng(0)
    rois = np.zeros((6, 64, 64), bool)
    rois[:, 10:54, 12:50] = True
    images = np.where(rois, rng.integers(100, 140, rois.shape), 0).astype(np.uint8)
    return torch.from_numpy(images), torch.from_numpy(rois)


def fill(slices, mode, seed=3, **values):
    images, rois = slices
    make = ShiftedRegions(64, "cpu", seed, ShapeConfig(threshold=170, rejection=True, **values), fill=mode)
    return make(images, rois)


def test_masks_of_the_liver_paper_ignore_the_region_of_interest(slices):
    images, rois = slices
    shapes = ShapeConfig(threshold=170, rejection=True)
    inner = rois & (torch.arange(64) < 30)
    (_, whole), (_, kept) = (
        ShiftedRegions(64, "cpu", 3, shapes, in_roi=inside)(images, inner) for inside in (False, True)
    )
    assert (whole & ~inner).any()
    assert kept.any()
    assert not (kept & ~inner).any()


def test_constant_is_flat_and_far_from_the_tissue_and_texture_varies_about_its_level(slices):
    images, _ = slices
    made, masks = fill(slices, "constant")
    for image, out, mask in zip(images, made, masks, strict=True):
        level = (out[mask] * 255).unique()
        assert len(level) == 1
        assert 59 <= abs(float(level - image[image > 0].float().mean())) <= 101
    for textured, constant, mask in zip(fill(slices, "texture")[0], made, masks, strict=True):
        assert len(textured[mask].unique()) > 1
        assert float(textured[mask].mean()) == pytest.approx(float(constant[mask].mean()), abs=0.03)


def test_loss_equals_independent_references_and_is_finite_without_outliers():
    import monai.losses as monai

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 8, 8, generator=generator)
    target = torch.rand(3, 1, 8, 8, generator=generator) < 0.2
    found = bce_and_dice(logits, target, 1.0)
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    t = target.numpy()
    assert float(found["bce"]) == pytest.approx(-np.log(np.where(t, p, 1 - p)).mean(), rel=1e-5)
    dice = monai.DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)
    assert float(found["dice"]) == pytest.approx(float(dice(logits, target.float())), rel=1e-5)
    logits = torch.full((2, 1, 4, 4), -20.0, requires_grad=True)
    losses = bce_and_dice(logits, torch.zeros(2, 1, 4, 4, dtype=torch.bool), 1.0)
    assert losses["dice"].item() == pytest.approx(0, abs=1e-5)
    sum(losses.values()).backward()
    assert torch.isfinite(logits.grad).all()


def test_preview_shows_a_batch(make_method, healthy):
    shown = make_method(RandomShape).preview(healthy, FitContext(seed=0))
    assert [v.shape for v in shown.values()] == [(4, 32, 32)] * 3
