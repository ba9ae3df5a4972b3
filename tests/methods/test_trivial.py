"""Trivial baselines: they see the region of interest alone, and each does what its name says."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from uasbench.datasets.case import Case
from uasbench.datasets.healthy import HealthySet
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.trivial.baselines import (
    HuDeviation,
    HuOpened,
    HuThreshold,
    LocalResidual,
    RandomMap,
    RoiArea,
    ball_footprint,
    open_in_roi,
    smooth_in_roi,
)

ALL = (HuDeviation, HuThreshold, HuOpened, LocalResidual, RandomMap, RoiArea)


def fitted(cls, anatomy="liver", **values):
    method = cls(resolve(cls.Config, "paper", anatomy, values))
    method.build()
    case = Case("h", "h", np.zeros((1, 4, 4), np.float32), (1.0, 1.0, 1.0), np.ones((1, 4, 4), bool))
    method.fit(HealthySet.from_cases([case]), FitContext(seed=0))
    return method


def flat_case(value=100.0, shape=(7, 33, 35)):
    roi = np.zeros(shape, bool)
    roi[1:-1, 4:-4, 5:-5] = True
    image = np.where(roi, value, -900).astype(np.float32)
    return Case("flat", "p", image, (2.0, 0.5, 0.8), roi)


@pytest.mark.parametrize("cls", ALL)
def test_maps_are_deaf_to_everything_outside_the_roi_which_may_be_empty(cls, toy_case):
    case, _ = toy_case(1, lesion=True)
    method = fitted(cls)
    outside = dataclasses.replace(case, image=np.where(case.roi, case.image, 3000).astype(np.float32))
    assert np.array_equal(method.score(outside)[case.roi], method.score(case)[case.roi])
    assert method.score(dataclasses.replace(case, roi=np.zeros_like(case.roi))).shape == case.image.shape


@pytest.mark.parametrize("cls", [HuDeviation, HuOpened, LocalResidual])
def test_a_constant_organ_scores_nothing_up_to_its_very_edge(cls):
    # Leakage of the −900 HU surroundings is what normalised convolution has to prevent.
    case = flat_case()
    tolerance = 1.0 if cls is LocalResidual else 1e-3
    assert np.abs(fitted(cls).score(case)).max() < tolerance


def test_hu_deviation_equals_a_plain_gaussian_where_the_roi_is_everything():
    rng = np.random.default_rng(0)
    image = rng.normal(60, 20, (3, 40, 40)).astype(np.float32)
    case = Case("c", "p", image, (1.0, 1.0, 1.0), np.ones(image.shape, bool))
    expected = np.abs(ndimage.gaussian_filter(image, (0, 2, 2)) - np.median(image))
    assert np.allclose(fitted(HuDeviation).score(case)[:, 8:-8, 8:-8], expected[:, 8:-8, 8:-8], atol=1e-3)


@given(
    image=hnp.arrays(np.float32, (3, 9, 9), elements=st.floats(-200, 300, width=32)),
    roi=hnp.arrays(bool, (3, 9, 9)),
    sigma=st.sampled_from([0.0, 0.7, 2.0]),
)
def test_smoothing_stays_within_the_range_of_the_roi(image, roi, sigma):
    roi[1, 4, 4] = True
    smoothed = smooth_in_roi(image, roi, sigma)
    inside = image[roi]
    assert inside.min() - 0.05 <= smoothed[roi].min() <= smoothed[roi].max() <= inside.max() + 0.05
    assert not smoothed[~roi].any()


@given(
    image=hnp.arrays(np.float32, (4, 8, 8), elements=st.floats(-200, 300, width=32)),
    roi=hnp.arrays(bool, (4, 8, 8)),
    radius=st.sampled_from([0, 1, 2]),
)
def test_opening_in_the_roi_is_an_opening(image, roi, radius):
    opened = open_in_roi(image, roi, radius)
    assert (opened[roi] <= image[roi]).all()
    assert np.array_equal(open_in_roi(opened, roi, radius), opened)
    brighter = open_in_roi(image + np.float32(10), roi, radius)
    assert (brighter[roi] >= opened[roi]).all()


def test_opening_equals_scipy_where_the_roi_is_everything():
    image = np.random.default_rng(1).normal(size=(9, 12, 12)).astype(np.float32)
    expected = ndimage.grey_opening(image, footprint=ball_footprint(2))
    opened = open_in_roi(image, np.ones(image.shape, bool), 2)
    assert np.array_equal(opened[4:-4, 4:-4, 4:-4], expected[4:-4, 4:-4, 4:-4])


def test_hu_opened_removes_a_vessel_and_keeps_a_lesion_in_the_lung():
    case = flat_case(-850.0, (15, 41, 41))
    case.image[:, 12:14, 12:14] = 0
    case.image[4:11, 22:29, 22:29] = 0
    plain, opened = fitted(HuThreshold, "lung").score(case), fitted(HuOpened, "lung").score(case)
    assert plain[7, 12, 12] == plain[7, 25, 25] == 0
    assert opened[7, 12, 12] < -840
    assert opened[7, 25, 25] > -200


def test_hu_threshold_is_the_hu_itself():
    case = flat_case()
    case.image[3, 10, 10] = 40
    assert fitted(HuThreshold, "liver").score(case)[3, 10, 10] == 60
    assert fitted(HuThreshold, "lung").score(case)[3, 10, 10] == 40


def test_local_residual_equals_the_masked_median():
    rng = np.random.default_rng(2)
    case = flat_case()
    case.image[case.roi] += rng.normal(0, 25, case.roi.sum()).astype(np.float32)
    scores = fitted(LocalResidual, size=5).score(case)
    grey_level = 450 / 255
    for z, y, x in ((2, 4, 5), (3, 10, 12), (5, 28, 29)):
        window = (slice(z, z + 1), slice(y - 2, y + 3), slice(x - 2, x + 3))
        values = np.sort(case.image[window][case.roi[window]])
        middle = values[[(len(values) - 1) // 2, len(values) // 2]]
        residuals = np.abs(case.image[z, y, x] - middle)
        assert np.abs(scores[z, y, x] - residuals).min() <= grey_level


def test_random_follows_the_case():
    case, method = flat_case(), fitted(RandomMap)
    assert not np.array_equal(method.score(case), method.score(dataclasses.replace(case, id="another")))


def test_roi_area_carries_square_millimetres():
    case = flat_case()
    case.roi[2] = False
    case.roi[2, 4:6, 5:10] = True
    scores = fitted(RoiArea).score(case)
    assert scores[2][case.roi[2]] == pytest.approx(np.full(10, 10 * 0.5 * 0.8))
    assert scores[3].max() == pytest.approx(case.roi[3].sum() * 0.4)
    assert not scores[~case.roi].any()
