"""Screener in small: crops and their pairs, masks, VICReg, the density, cells, score."""

from itertools import pairwise
from math import log, pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from uasbench.common.boxes import bounding_box
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.context import FitContext
from uasbench.methods.losses import vicreg
from uasbench.methods.nets.voxel_descriptors import ConditionalGaussian, VoxelDescriptors
from uasbench.methods.normalcy.parts.crop_pairs import (
    CropPairs,
    Jitter,
    block_mask,
    common_voxels,
    equalised,
    places,
)
from uasbench.methods.normalcy.parts.density_training import crop_batches, moments
from uasbench.methods.normalcy.parts.descriptor_training import expanded, pair_batches
from uasbench.methods.normalcy.parts.masked_cells import pooled, spread, waves
from uasbench.methods.normalcy.screener_lite import ScreenerLite

WIDTHS = (16, 32, 64, 128, 256)


def unet(inputs: int, width: int = 32) -> int:
    """Parameters of the U-Net by its layers, without the expander."""

    def stage(i: int, o: int) -> int:
        return 27 * i * o + 27 * o * o + 4 * o

    down = sum(stage(i, o) for i, o in pairwise((inputs, *WIDTHS)))
    up = sum(8 * i * o + stage(2 * o, o) for i, o in pairwise(WIDTHS[::-1]))
    return down + up + WIDTHS[0] * width + width


def test_the_networks_have_the_parameters_of_their_layers(make_method):
    with torch.device("meta"):
        method = make_method(ScreenerLite, "paper")
    expander = 32 * 512 + 512 + 2 * 512 + 512 * 2048 + 2048
    density = 27 * 32 * 64 + 64 + 27 * 64 * 64 + 64
    counts = {
        name: sum(p.numel() for p in getattr(method, name).parameters())
        for name in ("descriptor", "context", "density")
    }
    assert counts == {"descriptor": unet(1) + expander, "context": unet(2) + expander, "density": density}
    assert sum(counts.values()) == 13_596_880


@pytest.fixture
def pairs(make_method, healthy_volumes) -> CropPairs:
    return make_method(ScreenerLite, "smoke", {"equalise": False, "spacing": (2.5, 2.0, 2.0), "size": 48}).pairs(
        healthy_volumes
    )


def test_two_crops_share_an_organ_voxel_and_their_common_voxels_are_the_same(pairs):
    rng = np.random.default_rng(0)
    origins = []
    for case in [0, 1, 2] * 10:
        (image, one), (other_image, other) = pairs.pair(case, rng)
        first, second = common_voxels(one, other, 50, rng)
        assert first.dtype == second.dtype == np.int64
        assert one.roi.flat[first].all()
        assert other.roi.flat[second].all()
        assert np.array_equal(image.flat[first], other_image.flat[second])
        volume = pairs.crops.stack.image(one.run.case)
        at = np.array(np.unravel_index(first, image.shape)) + one.origin[:, None]
        assert np.array_equal(volume[tuple(at)], image.flat[first])
        origins.append(one.origin - other.origin)
    assert (np.std(origins, axis=0) > 0).all()


def test_without_changes_positive_pairs_are_equal_in_the_batch(make_method, healthy_volumes):
    method = make_method(ScreenerLite, "smoke", {"jitter": 0.0})
    draw = pair_batches(method.pairs(healthy_volumes), FitContext(0), method.config, False, "fit")
    for _ in range(4):
        views, first, second = draw()
        assert first.shape == second.shape == (2, 32)
        flat = views[:, 0].flatten(1)
        assert torch.equal(flat[:2].gather(1, first), flat[2:].gather(1, second))
        assert not torch.equal(views[:2], views[2:])


def test_with_changes_they_are_not(make_method, healthy_volumes):
    method = make_method(ScreenerLite)
    views, first, second = pair_batches(method.pairs(healthy_volumes), FitContext(0), method.config, False, "fit")()
    flat = views[:, 0].flatten(1)
    assert not torch.allclose(flat[:2].gather(1, first), flat[2:].gather(1, second), atol=1e-3)


def test_expanded_descriptors_are_those_of_the_chosen_voxels():
    net = VoxelDescriptors((4, 8), 3, (4, 6)).eval()
    views = torch.rand(4, 1, 4, 6, 6)
    first, second = torch.randint(144, (2, 5)), torch.randint(144, (2, 5))
    one, other = expanded(net, views, first, second)
    assert one.shape == other.shape == (10, 6)
    maps = net(views)
    z, y, x = np.unravel_index(int(second[1, 3]), (4, 6, 6))
    assert torch.allclose(other[8], net.expander(maps[3, :, z, y, x][None])[0], atol=1e-5)
    z, y, x = np.unravel_index(int(first[0, 2]), (4, 6, 6))
    assert torch.allclose(one[2], net.expander(maps[0, :, z, y, x][None])[0], atol=1e-5)


def test_vicreg_is_the_plain_sum():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(7, 4, generator=generator) * torch.tensor([0.1, 0.5, 1.0, 2.0])
    other = one + 0.3 * torch.randn(7, 4, generator=generator)
    found = vicreg(one, other)
    a, b = one.double().numpy(), other.double().numpy()
    invariance = sum((a[n, i] - b[n, i]) ** 2 for n in range(7) for i in range(4)) / (7 * 4)
    variance = covariance = 0.0
    for side in (a, b):
        c = np.cov(side.T)
        variance += sum(max(0, 1 - np.sqrt(c[i, i] + 1e-4)) for i in range(4)) / 4
        covariance += sum(c[i, j] ** 2 for i in range(4) for j in range(4) if i != j) / 4
    assert float(found["invariance"]) == pytest.approx(invariance, rel=1e-5)
    assert float(found["variance"]) == pytest.approx(variance, rel=1e-5)
    assert float(found["covariance"]) == pytest.approx(covariance, rel=1e-5)


def test_the_loss_weighs_the_terms_25_25_and_1(train, healthy_volumes):
    _, curve = train(ScreenerLite, healthy_volumes)
    for name in ("descriptor", "condition"):
        for values in (v for v in curve if f"{name}/loss" in v):
            parts = [values[f"{name}/{term}"] for term in ("invariance", "variance", "covariance")]
            assert values[f"{name}/loss"] == pytest.approx(np.dot((25, 25, 1), parts), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), low=st.floats(0.05, 0.5))
def test_masks_are_blocks_over_the_share_that_is_asked_for(seed, low):
    mask = block_mask((8, 16, 16), (2, 4), (low, low + 0.1), np.random.default_rng(seed))
    assert low <= mask.mean() <= low + 0.1 + 4**3 / mask.size
    padded = np.pad(mask, 1)
    inner = np.lib.stride_tricks.sliding_window_view(padded, (2, 2, 2)).all(axis=(3, 4, 5))
    covered = np.zeros_like(padded)
    for z, y, x in np.argwhere(inner):
        covered[z : z + 2, y : y + 2, x : x + 2] = True
    assert np.array_equal(covered, padded)  # no part is thinner than the smallest block


def test_the_condition_learns_what_is_masked_by_a_second_channel_and_sees_nothing_there(make_method, healthy_volumes):
    method = make_method(ScreenerLite)
    views, *_ = pair_batches(method.pairs(healthy_volumes), FitContext(0), method.config, True, "fit")()
    image, mask = views.unbind(1)
    assert set(np.unique(mask)) == {0, 1}
    assert not image[mask > 0].any()
    assert image[mask == 0].any()
    shares = mask.flatten(1).mean(1)
    assert (shares >= 0.25).all()
    assert (shares < 0.6).all()
    assert method.context.inputs == 2
    assert method.descriptor.inputs == 1


def test_at_test_nothing_is_masked(make_method, monkeypatch):
    method, seen = make_method(ScreenerLite), []
    forward = method.context.forward
    monkeypatch.setattr(method.context, "forward", lambda x: (seen.append(x), forward(x))[1])
    roi = np.ones((8, 16, 16), bool)
    method.score_view(np.random.default_rng(0).random(roi.shape).astype(np.float32), roi, (8.0, 10.0, 10.0))
    assert seen
    assert all(x.shape[1] == 2 and not x[:, 1].any() for x in seen)


def test_surprise_is_minus_the_log_density_and_the_variance_is_bounded():
    density = ConditionalGaussian(3, 2, 4)
    y, c = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 2, 4, 4, 4)
    mean, log_variance = density(c)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    wanted = -normal.log_prob(y).sum(1, keepdim=True) - 3 * log(2 * pi) / 2
    assert torch.allclose(density.surprise(y, c), wanted, atol=1e-4)
    for bias in (100.0, -100.0):
        with torch.no_grad():
            density.layers[-1].bias.fill_(bias)
        assert torch.equal(density(c)[1], torch.full_like(y, np.clip(bias, -6, 6)))


def test_one_gaussian_for_all_does_not_look_at_anything():
    density = ConditionalGaussian(3, 0, 4)
    assert [name for name, _ in density.named_parameters()] == ["everywhere"]
    mean, log_variance = density(torch.empty(2, 0, 4, 5, 6))
    assert mean.shape == log_variance.shape == (2, 3, 4, 5, 6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_cells_are_means_of_organ_voxels_and_nothing_else(seed):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(1, 2, 5, 6, 6, generator=generator)
    roi = (torch.rand(1, 1, 5, 6, 6, generator=generator) > 0.7).float()
    found, filled = pooled(maps, roi, (2, 3, 2))
    assert found.shape == (1, 2, 3, 2, 3)
    for z, y, x in np.ndindex(3, 2, 3):
        cell = (slice(2 * z, 2 * z + 2), slice(3 * y, 3 * y + 3), slice(2 * x, 2 * x + 2))
        inside = roi[0, 0][cell] > 0
        assert bool(filled[0, 0, z, y, x]) == bool(inside.any())
        wanted = maps[0][(slice(None), *cell)][:, inside].mean(1) if inside.any() else torch.zeros(2)
        assert torch.allclose(found[0, :, z, y, x], wanted, atol=1e-4)
    other, _ = pooled(torch.where(roi > 0, maps, 99.0), roi, (2, 3, 2))
    assert torch.equal(other, found)


def test_empty_cells_do_not_reach_their_neighbours():
    filled = torch.zeros(1, 1, 2, 3, 3)
    filled[..., :2] = 1
    cells = torch.where(filled > 0, 5.0, -1000.0)
    found = spread(cells, filled, (4, 6, 6))
    assert torch.allclose(found[..., :5], torch.tensor(5.0))
    assert not found[..., 5].any()


def test_places_and_their_waves_are_relative_to_the_organ():
    roi = np.zeros((6, 8, 8), bool)
    roi[1:5, 2:6, 4:8] = True
    found = places(bounding_box(roi), np.array([1, 2, 4]), (4, 4, 4))
    assert np.allclose(found[0, :, 0, 0], [0.125, 0.375, 0.625, 0.875])
    assert np.array_equal(found[2, 0, 0], found[0, :, 0, 0])
    shifted = places(bounding_box(roi), np.array([0, 2, 4]), (5, 4, 4))
    assert np.allclose(shifted[:, 1:], found)
    out = waves(torch.from_numpy(found)[None], 3)
    assert out.shape == (1, 18, 4, 4, 4)
    assert torch.allclose(out[0, 3], torch.sin(2 * pi * torch.from_numpy(found[0])), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_jitter_stays_in_range_and_leaves_the_background_at_zero(seed):
    rng = np.random.default_rng(seed)
    roi = rng.random((4, 8, 8)) > 0.3
    image = (rng.random(roi.shape) * roi).astype(np.float32)
    out = Jitter(probability=1.0)(image, roi, rng)
    assert out.dtype == np.float32
    assert 0 <= out.min() <= out.max() <= 1
    assert not out[~roi].any()
    assert np.array_equal(Jitter(0.0)(image, roi, rng), image)


def test_contrast_is_equalised_slice_by_slice_inside_the_organ():
    rng = np.random.default_rng(0)
    roi = np.zeros((3, 32, 32), bool)
    roi[:2, 4:28, 4:28] = True
    image = np.clip(0.5 + 0.03 * rng.standard_normal(roi.shape), 0, 1).astype(np.float32)
    out = equalised(image, roi)
    assert not out[~roi].any()
    assert out[roi].std() > 1.5 * image[roi].std()
    other = image.copy()
    other[1] = rng.random((32, 32))
    assert np.array_equal(equalised(other, roi)[0], out[0])
    assert np.array_equal(equalised(np.where(roi, image, 7), roi), out)


def test_crops_show_the_equalised_volumes(make_method, healthy_volumes):
    method = make_method(ScreenerLite, "smoke", {"spacing": (2.5, 2.0, 2.0), "size": 48})
    pairs, rng = method.pairs(healthy_volumes), np.random.default_rng(0)
    for case in range(3):
        image, crop = pairs.one(case, rng)
        stack = pairs.crops.stack
        whole = equalised(stack.image(crop.run.case), stack.roi(crop.run.case))
        assert np.allclose(image, pairs.crops.cut(whole, crop) * crop.roi, atol=1e-3)  # kept in half precision
        assert image[crop.roi].any()


def test_scale_is_that_of_training_crops_and_no_score_changes_it(train, healthy_volumes, toy_case):
    method, _ = train(ScreenerLite, healthy_volumes)
    kept = {name: values.copy() for name, values in method.scale.items()}
    assert kept["descriptor"].shape == (2, 4)
    assert (kept["descriptor"][1] > 0).all()
    odd = toy_case(9, lesion=True, slices=12)[0]
    alone = method.score(odd)
    method.score(next(iter(healthy_volumes)))
    assert np.array_equal(method.score(odd), alone)
    assert all(np.array_equal(method.scale[name], values) for name, values in kept.items())


def test_moments_are_those_of_the_cells_that_show_the_organ(make_method, healthy_volumes):
    method = make_method(ScreenerLite, "smoke", {"condition": "none"})
    c = method.config
    found = moments(method.cells, crop_batches(method.pairs(healthy_volumes), FitContext(0), c, "scale"))
    draw, values = crop_batches(method.pairs(healthy_volumes), FitContext(0), c, "scale"), []
    for _ in range(16):
        with torch.no_grad():
            descriptors, _, filled = method.cells(draw()[0])
        values.append(descriptors.movedim(1, -1)[filled[:, 0] > 0])
    flat = torch.cat(values).double()
    assert np.allclose(found["descriptor"][0], flat.mean(0), atol=1e-4)
    assert np.allclose(found["descriptor"][1], flat.std(0, correction=0), atol=1e-4)
    assert found["condition"].shape == (2, 0)


@pytest.mark.parametrize("condition", ["masking", "position", "none"])
def test_the_map_is_the_surprise_of_the_cells_in_one_window(make_method, condition):
    method = make_method(ScreenerLite, "smoke", {"condition": condition, "equalise": False})
    method.scale["descriptor"][0], method.scale["descriptor"][1] = 0.1, 2.0
    rng = np.random.default_rng(0)
    roi = np.zeros((8, 16, 16), bool)
    roi[2:6, 4:12, 4:12] = True  # with its margin of two voxels 8 × 12 × 12: padded to one window
    array = (rng.random(roi.shape) * roi).astype(np.float32)
    found = method.score_view(array, roi, (8.0, 10.0, 10.0))
    assert found.dtype == np.float32
    assert (found[roi] > 0).all()
    assert not found[0, :2].any()
    channels = [array, roi.astype(np.float32)]
    if condition == "position":
        channels += list(places(bounding_box(roi), np.zeros(3, int), roi.shape))
    with torch.no_grad():
        descriptors, conditions, filled = method.cells(torch.from_numpy(np.stack(channels))[None])
        mean, log_variance = (part.detach() for part in method.density(conditions))
    y = (descriptors - 0.1) / 2.0
    terms = 0.5 * (log_variance + (y - mean) ** 2 / log_variance.exp()) + 3
    wanted = spread(terms.sum(1, keepdim=True), filled, roi.shape)[0, 0].numpy()
    assert np.allclose(found[roi], wanted[roi], rtol=1e-3, atol=1e-3)


def test_what_lies_outside_the_organ_changes_nothing(make_method):
    method = make_method(ScreenerLite)
    rng = np.random.default_rng(0)
    roi = np.zeros((10, 24, 24), bool)
    roi[2:8, 5:20, 5:20] = True
    array = rng.random(roi.shape).astype(np.float32)
    found = method.score_view(array, roi, (8.0, 10.0, 10.0))
    assert np.array_equal(
        method.score_view(np.where(roi, array, 0.9).astype(np.float32), roi, (8.0, 10.0, 10.0)), found
    )


def test_one_small_scan_is_enough(train, toy_case):
    alone = HealthySet.from_cases([toy_case(0, slices=2)[0]])
    method, curve = train(ScreenerLite, alone, condition="position")
    assert method.updates == {"descriptor": 2, "density": 2}
    assert {name for values in curve for name in values} >= {"descriptor/loss", "density/-log q"}


def test_learning_rates_rise_for_a_share_and_fall_to_nothing(train, healthy_volumes, rates):
    train(ScreenerLite, healthy_volumes, updates=10, density_updates=5, warmup=0.3, lr=1e-2)
    descriptor, condition, density = rates[:10], rates[10:20], rates[20:]
    assert descriptor == condition
    assert descriptor[:4] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2])
    assert descriptor[-1] < 1e-3
    assert len(density) == 5
