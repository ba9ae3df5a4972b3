"""The stretched-noise generator equals the plain OpenCV recipe, and its anomalies avoid the known traps."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from uasbench.methods.synthesis import stretched_noise_cpu as cpu
from uasbench.methods.synthesis import stretched_noise_kernels as kernels
from uasbench.methods.synthesis import stretched_noise_torch as device_path
from uasbench.methods.synthesis.shape_settings import ShapeConfig
from uasbench.methods.synthesis.shift import ShiftedRegions
from uasbench.methods.synthesis.stretched_noise import StretchedNoise


def plain_recipe(noise, recipe):
    """Stretched field and mask of uint8 noise, one OpenCV call per step."""
    blurred = cv2.GaussianBlur(noise, (0, 0), recipe.sigma)
    low, high = int(blurred.min()), int(blurred.max())
    field = ((blurred.astype(np.float64) - low) / max(high - low, 1) * 255).astype(np.uint8)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (recipe.ellipse, recipe.ellipse))
    opened = cv2.morphologyEx((field > recipe.threshold).astype(np.uint8), cv2.MORPH_OPEN, ellipse)
    return field, cv2.morphologyEx(opened, cv2.MORPH_CLOSE, ellipse).astype(bool)


def plain_masks(count, seed):
    recipe, rng = StretchedNoise(), np.random.default_rng(seed)
    return np.stack([plain_recipe(rng.integers(0, 256, (256, 256), dtype=np.uint8), recipe)[1] for _ in range(count)])


def component_areas(masks):
    """Areas of the connected components of each mask."""
    stats = (cv2.connectedComponentsWithStats(m.astype(np.uint8), connectivity=8)[2] for m in masks)
    return [s[1:, cv2.CC_STAT_AREA] for s in stats]


def areas_in_batches(draw, batches):
    """Component areas of many masks, drawn a batch at a time."""
    return [areas for _ in range(batches) for areas in component_areas(draw())]


def figures(areas):
    """Mean and median area share, mean component count, median component area, share of empty masks."""
    totals = np.array([a.sum() for a in areas]) / 256**2
    counts = np.array([len(a) for a in areas])
    return np.array(
        [totals.mean(), np.median(totals), counts.mean(), np.median(np.concatenate(areas)), (counts == 0).mean()]
    )


def summarise(areas):
    """The figures, each with its standard error (bootstrap over draws)."""
    rng = np.random.default_rng(0)
    again = [figures([areas[i] for i in rng.integers(0, len(areas), len(areas))]) for _ in range(100)]
    return figures(areas), np.std(again, axis=0)


def assert_same_statistics(ours, reference, standard_errors):
    (a, error_a), (b, error_b) = summarise(ours), summarise(reference)
    allowed = np.maximum(0.1 * b, standard_errors * np.hypot(error_a, error_b))
    assert (np.abs(a - b) <= allowed).all(), (a, b, allowed)


@pytest.mark.parametrize(
    ("frame", "sigma", "ellipse"), [(256, 15.0, 9), (96, 5.6, 3), (200, 7.5, 5), (130, 2.0, 7), (256, 15.0, 1)]
)
@pytest.mark.parametrize("noise", ["uniform", "gaussian"])
def test_masks_and_fields_equal_opencv_bit_for_bit(frame, sigma, ellipse, noise):
    recipe = StretchedNoise(frame, sigma, 200, ellipse, noise)
    masks, fields = cpu.draw(recipe, 8, np.random.default_rng(5))
    words = np.empty((frame * frame + 7) // 8, np.uint64)
    for i, seed in enumerate(np.random.default_rng(5).integers(0, 2**64, 8, dtype=np.uint64)):
        kernels.fill_noise(seed, words)
        drawn = recipe.lut[words.view(np.uint8)[: frame * frame]].reshape(frame, frame)
        field, mask = plain_recipe(drawn, recipe)
        assert np.array_equal(fields[i], field)
        assert np.array_equal(masks[i], mask)


@pytest.mark.parametrize("sigma", [1.2, 3.75, 15.0, 20.0])
def test_integer_taps_are_those_of_opencv(sigma):
    line = np.zeros((256, 256), np.uint8)
    line[:, 128] = 255
    taps = StretchedNoise(sigma=sigma).taps
    radius = len(taps) // 2
    response = cv2.GaussianBlur(line, (0, 0), sigma)[128, 128 - radius : 129 + radius]
    assert taps.sum() == 256
    assert np.array_equal(np.floor(taps * 255 / 256 + 0.5), response)


@pytest.mark.parametrize("ellipse", [1, 3, 5, 7, 9, 11])
def test_structuring_element_is_that_of_opencv(ellipse):
    rows = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (ellipse, ellipse)).sum(axis=1)
    assert np.array_equal(2 * StretchedNoise(ellipse=ellipse).halves + 1, rows)


def test_noise_bytes_are_uniform():
    words = np.empty(1 << 15, np.uint64)
    kernels.fill_noise(np.uint64(1), words)
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 350  # chi-square, 255 degrees of freedom, p ≈ 7e-5


def test_device_path_equals_compiled_path_on_the_same_noise():
    recipe = StretchedNoise()
    noise = np.random.default_rng(2).integers(0, 256, (4, 256, 256), dtype=np.uint8)
    masks, fields = device_path.masks_of(recipe, torch.from_numpy(noise))
    for i in range(4):
        field, mask = plain_recipe(noise[i], recipe)
        assert np.array_equal(fields[i].numpy(), field)
        assert np.array_equal(masks[i].numpy(), mask)


def test_statistics_of_the_device_path():
    masks, fields = device_path.draw(StretchedNoise(), 48, torch.Generator().manual_seed(0))
    reference, _ = cpu.draw(StretchedNoise(), 200, np.random.default_rng(1))
    assert fields.dtype == torch.uint8
    assert 0.025 <= reference.mean() <= 0.035
    assert_same_statistics(component_areas(masks.numpy()), component_areas(reference), 3)


@pytest.mark.slow
def test_statistics_of_two_thousand_device_draws():
    # The compiled path equals OpenCV bit for bit, and is fast enough for a reference with a small error of its own.
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(0)
    reference = areas_in_batches(lambda: cpu.draw(StretchedNoise(), 500, rng)[0], 40)
    ours = areas_in_batches(lambda: device_path.draw(StretchedNoise(), 25, generator)[0].numpy(), 80)
    assert_same_statistics(ours, reference, 2)


@pytest.mark.gpu
def test_device_path_on_a_gpu():
    recipe = StretchedNoise()
    generator = torch.Generator("cuda").manual_seed(0)
    noise = np.random.default_rng(2).integers(0, 256, (4, 256, 256), dtype=np.uint8)
    on_cpu, on_gpu = (
        device_path.masks_of(recipe, torch.from_numpy(noise)),
        device_path.masks_of(recipe, torch.from_numpy(noise).cuda()),
    )
    assert all(torch.equal(a, b.cpu()) for a, b in zip(on_cpu, on_gpu, strict=True))
    ours = areas_in_batches(lambda: device_path.draw(recipe, 100, generator)[0].cpu().numpy(), 4)
    assert_same_statistics(ours, component_areas(plain_masks(400, seed=1)), 3)


def test_masks_shrink_without_changing_their_area():
    large = cpu.draw(StretchedNoise(), 100, np.random.default_rng(4))[0]
    small = cpu.draw(StretchedNoise(), 100, np.random.default_rng(4), size=64)[0]
    assert np.array_equal(small, large[:, 2::4, 2::4])


@pytest.mark.parametrize("settings_", [{"ellipse": 4}, {"ellipse": 0}, {"frame": 40}])
def test_impossible_recipes_are_refused(settings_):
    with pytest.raises(ValueError, match=next(iter(settings_))):
        StretchedNoise(**settings_)


def disc(radius, size=256, value=128):
    y, x = np.ogrid[:size, :size]
    inside = (y - size / 2) ** 2 + (x - size / 2) ** 2 <= radius**2
    return torch.from_numpy(np.where(inside, value, 0).astype(np.uint8))


def repeated(image, count):
    images = image.expand(count, *image.shape).contiguous()
    return images, images > 0


def test_one_disc_of_radius_25_in_six_meets_a_mask():
    images, rois = repeated(disc(25), 500)
    _, masks = ShiftedRegions(256, "cpu", 0)(images, rois)
    assert 0.12 <= masks.any(dim=2).any(dim=1).float().mean() <= 0.20


@pytest.mark.parametrize("placement", ["frame", "roi"])
def test_rejection_gives_every_disc_a_mask(placement):
    images, rois = repeated(disc(25), 40)
    _, masks = ShiftedRegions(256, "cpu", 0, ShapeConfig(rejection=True, placement=placement))(images, rois)
    assert masks.any(dim=2).any(dim=1).all()


def test_rejection_leaves_empty_slices_alone():
    images, rois = repeated(torch.zeros(64, 64, dtype=torch.uint8), 3)
    augmented, masks = ShiftedRegions(64, "cpu", 0, ShapeConfig(rejection=True))(images, rois)
    assert not masks.any()
    assert not augmented.any()


def test_masks_placed_on_the_roi_meet_it_more_often():
    images, rois = repeated(disc(25), 80)
    met = [
        ShiftedRegions(256, "cpu", 0, ShapeConfig(placement=p))(images, rois)[1].any(dim=2).any(dim=1).float().mean()
        for p in ("frame", "roi")
    ]
    assert met[1] > 0.9 > met[0]


def test_p_anomaly_is_the_share_of_slices_with_a_mask():
    images, rois = repeated(disc(100), 100)
    _, masks = ShiftedRegions(256, "cpu", 0, ShapeConfig(rejection=True, p_anomaly=0.3))(images, rois)
    assert 0.2 <= masks.any(dim=2).any(dim=1).float().mean() <= 0.4


@given(seed=st.integers(0, 2**31), texture=st.booleans(), value=st.integers(1, 254))  # 255 is clipped to itself
def test_image_changes_only_inside_the_mask(seed, texture, value):
    images, rois = repeated(disc(30, 64, value), 6)
    augmented, masks = ShiftedRegions(64, "cpu", seed, ShapeConfig(rejection=True), control_texture=texture)(
        images, rois
    )
    clean = images.float() / 255
    assert torch.equal(augmented[~masks], clean[~masks])
    assert not (masks & ~rois).any()
    assert augmented.min() >= 0
    assert augmented.max() <= 1
    if not texture:
        assert (augmented != clean)[masks].all()


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
    assert np.abs(shifts).min() >= 60
    assert np.abs(shifts).max() <= 100
    assert abs((shifts > 0).mean() - 0.5) < 0.02
    assert abs(np.abs(shifts).mean() - 80) < 0.5
    assert np.abs(ShiftedRegions(64, "cpu", 0, ShapeConfig(min_shift=50.0)).draw_shifts(2000)).min() < 55


def test_identity_restoration_costs_mean_shift_times_area():
    """A net that returns its input pays mean |C|·area/255 against the clean slice, nothing against its own input."""
    images, rois = repeated(disc(90), 64)
    augmented, masks = ShiftedRegions(256, "cpu", 1, ShapeConfig(rejection=True))(images, rois)
    clean = images.float() / 255
    per_slice = (augmented - clean).abs().mean(dim=(1, 2))
    change = torch.tensor(
        [(a[m][0] * 255 - 128).abs() if m.any() else 0 for a, m in zip(augmented, masks, strict=True)]
    )
    assert torch.allclose(per_slice, change * masks.float().mean(dim=(1, 2)) / 255, atol=1e-6)


def test_impossible_shifts_are_refused():
    with pytest.raises(ValueError, match="min_shift"):
        ShiftedRegions(64, "cpu", 0, ShapeConfig(min_shift=120.0))
