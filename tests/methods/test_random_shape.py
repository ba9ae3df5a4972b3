"""Random-shape pseudo outliers: settings, fillings, loss, training."""

import numpy as np
import pytest
import torch
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import by_stage, resolve
from uasbench.methods.context import FitContext
from uasbench.methods.pseudo_anomaly.random_shape import RandomShape, RandomShapeConfig, bce_and_dice
from uasbench.methods.state import parameter_count
from uasbench.methods.synthesis.shift import FilledRegions, ShiftedRegions
from uasbench.methods.synthesis.stretched_noise import StretchedNoise


@pytest.fixture(scope="module")
def healthy(toy_case):
    return HealthySet.from_cases([toy_case(i)[0] for i in range(3)])


@pytest.fixture(scope="module")
def slices():
    rng = np.random.default_rng(0)
    rois = np.zeros((6, 64, 64), bool)
    rois[:, 10:54, 12:50] = True
    images = np.where(rois, rng.integers(100, 140, rois.shape), 0).astype(np.uint8)
    return torch.from_numpy(images), torch.from_numpy(rois)


def train(make_method, healthy, limit=None, **values):
    method = make_method(RandomShape, "smoke", values)
    curve: list[dict[str, float]] = []
    method.fit(healthy, FitContext(seed=0, max_updates=limit, on_log=lambda _, v: curve.append(v)))
    return method, curve


def test_paper_profile():
    c = resolve(RandomShapeConfig, "paper", "liver")
    assert (c.frame, c.sigma, c.threshold, c.ellipse, c.min_shift, c.max_shift) == (256, 15, 200, 9, 60, 100)
    assert (c.fill, c.rejection, c.placement, c.p_anomaly) == ("shift", False, "frame", 1.0)
    assert (c.seg_base, c.batch, c.lr, c.epochs, c.updates, c.dice_smooth) == (64, 8, 1e-4, 20, None, 1)
    assert (c.size, c.window, c.equalise) == (256, (-200, 250), True)
    assert by_stage(c)[1] == {}
    assert RandomShape.native_threshold == 0.5
    assert RandomShape(resolve(RandomShapeConfig, "paper", "lung")).view.window == (-800, 100)


def test_parameters_of_the_paper_net(make_method):
    def unit(i, o):  # 3×3 convolution with bias and batch norm
        return 9 * i * o + o + 2 * o

    widths = [64, 128, 256, 512, 512, 512]
    encoder = sum(unit(i, w) + unit(w, w) for i, w in zip([1, *widths[:-1]], widths, strict=True))
    decoder, width = 0, 512
    for here, out in zip([512, 512, 256, 128, 64], [512, 256, 128, 64, 64], strict=True):
        decoder += unit(width, out) + unit(out + here, out) + unit(out, out)
        width = out
    assert parameter_count(make_method(RandomShape, "paper")) == encoder + decoder + 9 * 64 + 1


def fill(slices, mode, seed=3, **values):
    images, rois = slices
    make = FilledRegions(64, "cpu", seed, fill=mode, recipe=StretchedNoise(threshold=170), rejection=True, **values)
    return make(images, rois)


@pytest.mark.parametrize("mode", ["shift", "constant", "texture"])
def test_only_pixels_of_the_mask_change_and_masks_lie_inside(slices, mode):
    images, rois = slices
    made, masks = fill(slices, mode)
    assert masks.flatten(1).any(dim=1).all()
    assert not (masks & ~rois).any()
    assert torch.equal(made[~masks], (images.float() / 255)[~masks])
    assert made.min() >= 0
    assert made.max() <= 1


def test_shift_is_that_of_the_liver_paper(slices):
    images, rois = slices
    recipe = StretchedNoise(threshold=170)
    ours = FilledRegions(64, "cpu", 5, recipe=recipe)(images, rois)
    theirs = ShiftedRegions(64, "cpu", 5, recipe=recipe)(images, rois)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_constant_is_flat_and_far_from_the_tissue(slices):
    images, _ = slices
    made, masks = fill(slices, "constant")
    for image, out, mask in zip(images, made, masks, strict=True):
        level = (out[mask] * 255).unique()
        assert len(level) == 1
        assert 59 <= abs(float(level - image[image > 0].float().mean())) <= 101


def test_texture_varies_about_the_same_level_as_the_constant(slices):
    made, masks = fill(slices, "texture")
    flat, _ = fill(slices, "constant")
    for textured, constant, mask in zip(made, flat, masks, strict=True):
        assert len(textured[mask].unique()) > 1
        assert float(textured[mask].mean()) == pytest.approx(float(constant[mask].mean()), abs=0.03)


def test_loss_equals_independent_references():
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


def test_batch_without_outlier_has_a_finite_loss():
    logits = torch.full((2, 1, 4, 4), -20.0, requires_grad=True)
    losses = bce_and_dice(logits, torch.zeros(2, 1, 4, 4, dtype=torch.bool), 1.0)
    assert losses["dice"].item() == pytest.approx(0, abs=1e-5)
    sum(losses.values()).backward()
    assert torch.isfinite(logits.grad).all()


def test_length_is_counted_in_epochs(make_method, healthy):
    method = make_method(RandomShape, "smoke", {"updates": None, "epochs": 2, "batch": 10})
    method.fit(healthy, FitContext(seed=0))
    assert method.updates == 6  # 24 slices in batches of 10 are 3 updates


def test_optimiser_is_adam_with_the_rate_of_the_settings(make_method, healthy, optimisers):
    train(make_method, healthy, limit=1, lr=1e-4)
    assert (optimisers[0].defaults["lr"], optimisers[0].defaults["betas"]) == (1e-4, (0.9, 0.999))


def test_preview_shows_a_batch(make_method, healthy):
    shown = make_method(RandomShape).preview(healthy, FitContext(seed=0))
    assert [v.shape for v in shown.values()] == [(4, 32, 32)] * 3


def test_loss_falls(make_method, healthy):
    settings = {"updates": 60, "lr": 3e-3, "rejection": True, "placement": "roi", "threshold": 180}
    _, curve = train(make_method, healthy, **settings)
    assert np.mean([v["bce"] for v in curve[-10:]]) < 0.6 * np.mean([v["bce"] for v in curve[:3]])
