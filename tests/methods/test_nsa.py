"""NSA: network, seamless cloning, places and sizes of patches, targets in HU, learning rate."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from uasbench.methods.nets.nsa_net import NSANet
from uasbench.methods.pseudo_anomaly.nsa import NSA
from uasbench.methods.synthesis.natural_patches import NaturalPatches, jittered, resized, seamless_clone

PASTE = NaturalPatches(hu=450.0, min_pixels=4)


def organ(seed: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A textured ellipse, 0 around it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    roi = (y / (0.4 * size)) ** 2 + (x / (0.3 * size)) ** 2 < 1
    grey = 0.5 + 0.1 * rng.normal() + 0.08 * ndimage.gaussian_filter(rng.normal(size=roi.shape), 1) / 0.3
    return (np.clip(grey, 0.05, 0.95) * roi).astype(np.float32), roi


def pasted(paste: NaturalPatches, seed: int):
    (image, roi), (there, there_roi) = organ(seed), organ(seed + 1000)
    pair = (image[None], roi[None], there[None], there_roi[None])
    found, target = paste(*pair, np.random.default_rng(seed))
    return image, roi, found[0], target[0]


def test_the_network_has_the_published_size():
    with torch.device("meta"):
        net = NSANet()
        found = net(torch.empty(2, 1, 224, 224))
    encoder = 11_176_512 - 2 * 64 * 49  # ResNet-18 without its classifier, one input channel
    blocks = sum(9 * i * o + 9 * o * o + i * o + 6 * o for i, o in ((128, 64), (64, 32), (32, 16)))
    wanted = encoder + 512 * 256 + 256 * 128 + blocks + 49 * 16
    assert sum(p.numel() for p in net.parameters()) == wanted == 11_491_440
    assert found.shape == (2, 1, 224, 224)


def test_sides_that_cannot_be_halved_five_times_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        NSANet((8, 8, 16, 32), (1, 1, 1, 1))(torch.zeros(1, 1, 48, 48))


def test_a_clone_has_the_foreign_gradients_and_the_own_border():
    rng = np.random.default_rng(0)
    own, foreign = rng.random((9, 11)), rng.random((9, 11))
    found = own.copy()
    found[1:-1, 1:-1] = seamless_clone(own, foreign, np.ones((9, 11), bool))
    laplacian = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    difference = (ndimage.convolve(a, laplacian)[1:-1, 1:-1] for a in (found, foreign))
    assert np.allclose(*difference)
    assert np.array_equal(found[0], own[0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), level=st.floats(-0.5, 0.5))
def test_a_clone_does_not_see_brightness_or_what_is_not_tissue(seed, level):
    rng = np.random.default_rng(seed)
    own, foreign, common = rng.random((8, 7)), rng.random((8, 7)), rng.random((8, 7)) < 0.7
    found = seamless_clone(own, foreign, common)
    assert np.allclose(seamless_clone(own, foreign + level, common), found)
    noisy = np.where(common, foreign, rng.random((8, 7)))
    assert np.allclose(seamless_clone(own, noisy, common), found)
    assert np.allclose(seamless_clone(own, foreign, np.zeros_like(common)), own[1:-1, 1:-1])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), label=st.sampled_from(["logistic", "binary"]))
def test_only_tissue_changes_and_targets_lie_on_it(seed, label):
    image, roi, found, target = pasted(NaturalPatches(hu=450.0, min_pixels=4, label=label), seed)
    assert np.array_equal(found[~roi], image[~roi])
    assert not target[~roi].any()
    assert 0 <= target.min() <= target.max() <= 1
    assert 0 <= found.min() <= found.max() <= 1


def test_most_slices_get_a_patch_and_the_first_is_always_tried():
    changed = [np.any(pasted(PASTE, seed)[2] != pasted(PASTE, seed)[0]) for seed in range(20)]
    assert np.mean(changed) > 0.9
    image, _, found, target = pasted(NaturalPatches(hu=450.0, min_pixels=10_000), 0)
    assert np.array_equal(found, image)  # no place is large enough: the slice stays, and its target is 0
    assert not target.any()


def test_binary_target_is_the_median_of_what_changed_by_more_than_the_tolerance():
    paste = NaturalPatches(hu=450.0, label="binary", tolerance=2.0, mask_median=3)
    before, after = np.zeros((20, 20), np.float32), np.zeros((20, 20), np.float32)
    after[5:10, 5:10] = 2.5 / 450  # changed
    after[5:10, 10:15] = 1.5 / 450  # within the noise that the tolerance allows
    after[15, 15] = 1.0  # one pixel is taken by the median
    wanted = ndimage.median_filter((after * 450 > 2).astype(np.uint8), 3, mode="constant")
    assert np.array_equal(paste.target(before, after), wanted)
    assert wanted.sum() == 21


def test_logistic_target_is_a_half_at_the_midpoint_in_hu():
    paste = NaturalPatches(hu=900.0, mask_median=1, disk=2)
    before = np.zeros((30, 30), np.float32)
    for change in (5.0, 18.0, 60.0):
        after = before.copy()
        after[5:25, 5:25] = change / 900
        found = paste.target(before, after)[10:20, 10:20]
        assert found == pytest.approx(1 / (1 + math.exp(-(change - 18) / 9)), abs=1e-4)
    assert not paste.target(before, before).any()


@pytest.mark.parametrize("window", [(-200.0, 250.0), (-800.0, 100.0)])
def test_the_constants_are_hu_whatever_the_window(make_method, window):
    """With 8-bit levels the same change in HU would be worth half as much in the window of the lung."""
    method = make_method(NSA, "paper", {"window": window, "channels": (8, 8, 8, 32), "layers": (1, 1, 1, 1)})
    paste = method.config.patch_maker()
    change = 18.0 / (window[1] - window[0])
    found = paste.target(np.zeros((40, 40)), np.full((40, 40), change, np.float32))
    assert found[20, 20] == pytest.approx(0.5, abs=1e-3)
    assert paste.steepness * paste.midpoint == pytest.approx(2.0)


def test_half_sides_follow_the_gamma_distribution_of_the_box():
    rng, box = np.random.default_rng(0), np.array([[10, 210], [50, 150]])
    found = np.array([NaturalPatches(hu=450.0).draw_half(box, rng) for _ in range(4000)])
    assert found[:, 0].min() >= 6
    assert found[:, 0].max() <= 80
    assert found.mean(axis=0) == pytest.approx([200 * 0.11, 100 * 0.11], rel=0.03)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.05  # each axis has its own


def test_a_resized_patch_takes_nothing_from_the_background():
    image, roi = organ(3)
    image[~roi] = 0.0
    found, inside = resized(np.where(roi, 0.7, 0.0).astype(np.float32), roi, (90, 45))
    assert np.allclose(found[inside], 0.7, atol=1e-6)
    assert not found[~inside].any()
    same, kept = resized(image, roi, image.shape)
    assert np.allclose(same, image, atol=1e-6)
    assert np.array_equal(kept, roi)


def test_jitter_of_nothing_changes_nothing_and_a_move_moves():
    image, roi = organ(4)
    still = jittered(image[None], roi[None], 0.0, 0.0, np.random.default_rng(0))
    assert np.allclose(still[0][0], image, atol=1e-6)
    assert np.array_equal(still[1][0], roi)
    moved, inside = jittered(image[None], roi[None], 3.0, 3.0, np.random.default_rng(0))
    assert not np.array_equal(inside[0], roi)
    assert abs(int(inside.sum()) - int(roi.sum())) < 0.03 * roi.sum()
    assert not moved[0][~inside[0]].any()


def test_a_patch_never_comes_from_the_same_slice(make_method, healthy, monkeypatch):
    from uasbench.methods.context import FitContext

    method, seen = make_method(NSA), []

    def note(self, images, rois, foreign, foreign_rois, rng):
        seen.append((images.copy(), foreign.copy()))
        return images, np.zeros_like(images)

    monkeypatch.setattr(NaturalPatches, "__call__", note)
    config = make_method(NSA, "smoke", {"rotate": 0.0, "shift": 0.0}).config
    method = NSA(config)
    draw = method.batch_source(healthy, FitContext(0), "fit")
    for _ in range(4):
        draw()
    assert all(not np.array_equal(a, b) for images, foreign in seen for a, b in zip(images, foreign, strict=True))


def test_learning_rate_falls_by_epochs_to_its_end(train, rates):
    train(NSA, epochs=4, updates=8, lr=1.0, lr_end=0.1)
    factors = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 4)) / 2 for k in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert rates == pytest.approx(factors)


def test_score_is_the_predicted_target_in_the_organ(make_method, toy_net):
    method = make_method(NSA)
    method.net = toy_net(lambda x, w: 4 * x + w)
    array, roi = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32), np.zeros((2, 32, 32), bool)
    roi[:, 4:20, 4:20] = True
    assert np.allclose(method.score_view(array, roi, (1, 1, 1)), roi / (1 + np.exp(-4 * array)), atol=1e-6)
