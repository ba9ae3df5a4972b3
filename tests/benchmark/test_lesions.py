"""Voxel counts, components, smoothing, minimum size, slice scores."""

import cc3d
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from sklearn.metrics import f1_score, precision_score, recall_score
from uasbench.benchmark.scoring.bins import LOWEST
from uasbench.benchmark.scoring.lesions import Components, confusion
from uasbench.benchmark.scoring.metrics import NO_LESION, Undefined, computed
from uasbench.benchmark.scoring.slices import slice_scores
from uasbench.benchmark.scoring.smoothing import area_openings, drop_small, least_voxels, smooth

SHAPE = (6, 12, 14)
SPACING = (2.5, 0.8, 0.8)


def blobs(seed: int, share: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 0.7)
    return noise > np.quantile(noise, 1 - share)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_rates_agree_with_scikit_learn(seed, predicted_share, lesion_share):
    rng = np.random.default_rng(seed)
    predicted, lesion = rng.random(60) < predicted_share, rng.random(60) < lesion_share
    rates = {m.id: value for m, value in computed("voxels", confusion(predicted, lesion), "case")}
    if not lesion.any():
        assert set(rates.values()) == {Undefined(NO_LESION)}
        return
    assert rates["dice"] == pytest.approx(f1_score(lesion, predicted, zero_division=0))
    assert rates["psc"] == pytest.approx(precision_score(lesion, predicted, zero_division=0))
    assert rates["sen"] == pytest.approx(recall_score(lesion, predicted))


def test_lesions_are_counted_where_the_mask_touches_them():
    lesion = np.zeros(SHAPE, bool)
    lesion[1, 2:4, 2:4], lesion[2, 4, 4], lesion[4, 9, 9] = True, True, True
    lesions = Components.of(lesion)
    assert sorted(lesions.sizes) == [1, 5]
    assert lesions.weights().sum() == pytest.approx(2)
    mask = np.zeros(SHAPE, bool)
    mask[1, 3, 3], mask[0, 10, 0] = True, True
    assert lesions.touched(mask) == 1
    assert Components.of(mask).touched(lesion) == 1
    assert len(Components.of(np.zeros(SHAPE, bool))) == 0
    assert Components.of(np.zeros(SHAPE, bool)).touched(lesion) == 0


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.4))
def test_components_agree_with_scipy(seed, share):
    lesion = blobs(seed, share)
    labels, count = ndimage.label(lesion, np.ones((3, 3, 3)))
    components = Components.of(lesion)
    assert sorted(components.sizes) == sorted(np.bincount(labels.ravel())[1:])
    assert len(components) == count
    assert np.array_equal(components.at(np.argwhere(np.ones(SHAPE, bool))) > 0, lesion.ravel())
    assert not components.at(np.array([[-1, 0, 0], SHAPE])).any()


@example(np.array([[[True, False, True, False, True]]]))
@given(arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=5)))
def test_components_of_any_shape_are_those_of_scipy(mask):
    assert len(Components.of(mask)) == ndimage.label(mask, np.ones((3, 3, 3)))[1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(0.05, 0.6))
def test_drop_small_agrees_with_cc3d(seed, least, share):
    mask = blobs(seed, share)
    expected = mask if least <= 1 else cc3d.dust(mask, threshold=least, connectivity=6).astype(bool)
    assert np.array_equal(drop_small(mask, least), expected)


@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_area_opening_equals_dropping_small_components_at_every_threshold(seed, decimals):
    rng = np.random.default_rng(seed)
    roi = blobs(seed + 1, 0.7)
    map_ = rng.normal(size=SHAPE).round(decimals).astype(np.float32)
    leasts = [1, 2, 5, 30, 10_000]
    for least, opened in zip(leasts, area_openings(map_, roi, leasts), strict=True):
        for threshold in np.quantile(map_, [0, 0.2, 0.5, 0.8, 0.95, 1]).astype(np.float32):
            mask = np.zeros(SHAPE, bool)
            mask[roi] = opened > threshold
            assert np.array_equal(mask, drop_small((map_ > threshold) & roi, least))
    assert (area_openings(map_, roi, [10_000])[0] == LOWEST).all()


def test_smoothing_stays_inside_the_region_and_is_in_millimetres_on_both_axes():
    rng = np.random.default_rng(0)
    roi = blobs(3, 0.5)
    map_ = rng.normal(size=SHAPE).astype(np.float32)
    poisoned = np.where(roi, map_, np.float32(np.nan))
    smoothed = smooth(map_, roi, SPACING, 2.0)
    assert np.array_equal(smoothed[roi], smooth(poisoned, roi, SPACING, 2.0)[roi])
    assert smoothed[roi].std() < map_[roi].std()
    constant = np.full(SHAPE, 7, np.float32)
    np.testing.assert_allclose(smooth(constant, roi, SPACING, 3.0)[roi], 7, rtol=1e-5)
    assert smooth(map_, roi, SPACING, 0.0) is map_
    assert smooth(map_, np.zeros(SHAPE, bool), SPACING, 2.0) is map_
    map_ = np.zeros((41, 41, 41), np.float32)
    map_[20, 20, 20] = 1
    smoothed = smooth(map_, np.ones(map_.shape, bool), (4.0, 1.0, 1.0), 4.0)
    assert smoothed[21, 20, 20] == pytest.approx(smoothed[20, 24, 20], rel=0.05)


def test_least_voxels_reaches_the_volume():
    assert [least_voxels(0, SPACING), least_voxels(10, (1, 1, 1)), least_voxels(10, (2.5, 0.8, 0.8))] == [1, 10, 7]


def test_slice_scores_follow_their_rule_inside_the_region():
    rng = np.random.default_rng(0)
    map_ = rng.normal(size=(5, 20, 22)).astype(np.float32)
    roi = rng.random(map_.shape) < 0.4
    roi[2] = False
    map_[~roi] = 99
    values = map_[3][roi[3]]
    top = np.sort(values)[-int(np.ceil(len(values) / 100)) :]
    pooled = ndimage.uniform_filter(np.where(roi[3], map_[3], 0).astype(float), 3, mode="constant")
    expected = {"max": values.max(), "mean": values.mean(), "top1%": top.mean(), ("meanpool", 3): pooled[roi[3]].max()}
    for how, value in expected.items():
        z, scores = slice_scores(map_, roi, how)
        assert list(z) == [0, 1, 3, 4]
        assert scores.dtype == np.float32
        assert scores[2] == pytest.approx(value, rel=1e-5)
    z, scores = slice_scores(map_, np.zeros(map_.shape, bool), "max")
    assert len(z) == len(scores) == 0
