"""The stretched-noise generator equals the plain OpenCV recipe, and its anomalies avoid the known traps."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from uasbench.methods.synthesis import stretched_noise_cpu as cpu
from uasbench.methods.synthesis import stretched_noise_torch as device_path
from uasbench.methods.synthesis.shift import ShiftedRegions
from uasbench.methods.synthesis.stretched_noise import ShapeConfig, StretchedNoise


def plain_recipe(noise, recipe):
    """Stretched field and mask of uint8 noise, one OpenCV call per step."""
    blurred = cv2.GaussianBlur(noise, (0, 0), recipe.sigma)
    low, high = int(blurred.min()), int(blurred.max())
    field = ((blurred.astype(np.float64) - low) / max(high - low, 1) * 255).astype(np.uint8)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (recipe.ellipse, recipe.ellipse))
    opened = cv2.morphologyEx((field > recipe.threshold).astype(np.uint8), cv2.MORPH_OPEN, ellipse)
    return field, cv2.morphologyEx(opened, cv2.MORPH_CLOSE, ellipse).astype(bool)


@pytest.mark.parametrize(
    ("frame", "sigma", "ellipse"),
    [(256, 15.0, 9), (96, 5.6, 3), (200, 7.5, 5), (130, 2.0, 7), (256, 15.0, 1), (256, 20.0, 11), (64, 1.2, 1)],
)
@pytest.mark.parametrize("noise", ["uniform", "gaussian"])
def test_masks_and_fields_equal_opencv_bit_for_bit(frame, sigma, ellipse, noise):
    recipe = StretchedNoise(frame, sigma, 200, ellipse, noise)
    masks, fields = cpu.draw(recipe, 8, np.random.default_rng(5))
    words = np.empty((frame * frame + 7) // 8, np.uint64)
    for i, seed in enumerate(np.random.default_rng(5).integers(0, 2**64, 8, dtype=np.uint64)):
        cpu.fill_noise(seed, words)
        drawn = recipe.lut[words.view(np.uint8)[: frame * frame]].reshape(frame, frame)
        field, mask = plain_recipe(drawn, recipe)
        assert np.array_equal(fields[i], field)
        assert np.array_equal(masks[i], mask)


def test_noise_bytes_are_uniform():
    words = np.empty(1 << 15, np.uint64)
    cpu.fill_noise(np.uint64(1), words)
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 350  # chi-square, 255 degrees of freedom, p ≈ 7e-5


@pytest.mark.parametrize("noise", ["uniform", "gaussian"])
def test_device_draws_are_the_recipe_on_uniform_bytes(noise):
    recipe = StretchedNoise(noise=noise)
    masks, fields = device_path.draw(recipe, 3, torch.Generator().manual_seed(0), size=64)
    drawn = torch.randint(0, 256, (3, 256, 256), generator=torch.Generator().manual_seed(0)).numpy()
    for ours, our_field, each in zip(masks.numpy(), fields.numpy(), recipe.lut[drawn], strict=True):
        field, mask = plain_recipe(each, recipe)
        assert np.array_equal(our_field, field[2::4, 2::4])
        assert np.array_equal(ours, mask[2::4, 2::4])


@pytest.mark.gpu
def test_device_path_on_a_gpu():
    noise = torch.randint(0, 256, (4, 256, 256), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    on_cpu, on_gpu = (device_path.masks_of(StretchedNoise(), n) for n in (noise, noise.cuda()))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(on_cpu, on_gpu, strict=True))


def test_masks_shrink_without_changing_their_area():
    large = cpu.draw(StretchedNoise(), 100, np.random.default_rng(4))[0]
    assert 0.025 <= large.mean() <= 0.035
    small = cpu.draw(StretchedNoise(), 100, np.random.default_rng(4), size=64)[0]
    assert np.array_equal(small, large[:, 2::4, 2::4])


def disc(radius, size=256, value=128):
    y, x = np.ogrid[:size, :size]
    inside = (y - size / 2) ** 2 + (x - size / 2) ** 2 <= radius**2
    return torch.from_numpy(np.where(inside, value, 0).astype(np.uint8))


def repeated(image, count):
    images = image.expand(count, *image.shape).contiguous()
    return images, images > 0


def met(radius, count, **values):
    """The share of equal discs that a mask meets."""
    _, masks = ShiftedRegions(256, "cpu", 0, ShapeConfig(**values))(*repeated(disc(radius), count))
    return masks.flatten(1).any(dim=1).float().mean()


def test_a_mask_meets_one_disc_in_six_most_where_it_is_placed_on_the_roi_and_p_anomaly_where_it_may_not_miss():
    assert 0.12 <= met(25, 500) <= 0.20
    assert met(25, 80, placement="roi") > 0.9 > met(25, 80, placement="frame")
    assert 0.2 <= met(100, 100, rejection=True, p_anomaly=0.3) <= 0.4


@pytest.mark.parametrize("placement", ["frame", "roi"])
def test_rejection_gives_every_disc_a_mask_and_leaves_empty_slices_alone(placement):
    images, rois = repeated(disc(25), 40)
    images[0], rois[0] = 0, False
    augmented, masks = ShiftedRegions(256, "cpu", 0, ShapeConfig(rejection=True, placement=placement))(images, rois)
    assert masks[1:].any(dim=2).any(dim=1).all()
    assert not masks[0].any()
    assert not augmented[0].any()


@given(  # 255 is clipped to itself
    st.integers(0, 2**31), st.integers(1, 254), st.sampled_from(["shift", "control", "constant", "texture"])
)
def test_image_changes_only_inside_the_mask(seed, value, fill):
    images, rois = repeated(disc(30, 64, value), 6)
    augmented, masks = ShiftedRegions(64, "cpu", seed, ShapeConfig(rejection=True), fill=fill)(images, rois)
    clean = images.float() / 255
    assert torch.equal(augmented[~masks], clean[~masks])
    assert masks.flatten(1).any(dim=1).all()
    assert not (masks & ~rois).any()
    assert 0 <= augmented.min() <= augmented.max() <= 1
    if fill == "shift":
        assert (augmented != clean)[masks].all()


def test_a_controlled_texture_is_at_most_as_bright_as_the_tissues_mean_and_darker_than_that_inside_the_mask():
    images, rois = repeated(disc(100, value=128), 60)
    augmented, masks = ShiftedRegions(256, "cpu", 3, ShapeConfig(rejection=True), fill="control")(images, rois)
    shares = [
        (image[mask].min() / 128, image[mask].max() / 128) for image, mask in zip(augmented * 255, masks, strict=True)
    ]
    textured = [(low, high) for low, high in shares if low < high]
    assert len(textured) == pytest.approx(30, abs=10)
    # The mask keeps what exceeds 200 of 255, which closing widens a little.
    assert all(0.6 < low < high <= 1 for low, high in textured)


def test_regions_get_one_shift_per_slice_and_are_clipped():
    images, rois = repeated(disc(100, value=128), 60)
    augmented, masks = ShiftedRegions(256, "cpu", 3, ShapeConfig(rejection=True))(images, rois)
    for image, mask in zip(augmented * 255, masks, strict=True):
        values = image[mask].unique()
        assert len(values) == 1
        assert 60 - 1 <= abs(values.item() - 128) <= 100
    bright, _ = ShiftedRegions(256, "cpu", 3, ShapeConfig(rejection=True))(*repeated(disc(100, value=250), 60))
    assert bright.max() == 1.0


def test_shifts_lie_between_minimum_and_maximum_with_both_signs():
    shifts = ShiftedRegions(64, "cpu", 0).draw_shifts(20000)
    assert 60 <= np.abs(shifts).min() <= np.abs(shifts).max() <= 100
    assert abs((shifts > 0).mean() - 0.5) < 0.02
    assert abs(np.abs(shifts).mean() - 80) < 0.5
    assert np.abs(ShiftedRegions(64, "cpu", 0, ShapeConfig(min_shift=50.0)).draw_shifts(2000)).min() < 55
