"""Slice scores."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from uasbench.benchmark.scoring.slices import slice_scores


@pytest.fixture
def map_and_roi():
    rng = np.random.default_rng(0)
    map_ = rng.normal(size=(5, 20, 22)).astype(np.float32)
    roi = rng.random(map_.shape) < 0.4
    roi[2] = False
    return np.where(roi, map_, np.float32(99)), roi


def test_slice_scores_follow_their_rule_inside_the_region(map_and_roi):
    map_, roi = map_and_roi
    values = map_[3][roi[3]]
    top = np.sort(values)[-int(np.ceil(len(values) / 100)) :]
    pooled = uniform_filter(np.where(roi[3], map_[3], 0).astype(float), 3, mode="constant")
    expected = {"max": values.max(), "mean": values.mean(), "top1%": top.mean(), ("meanpool", 3): pooled[roi[3]].max()}
    for how, value in expected.items():
        z, scores = slice_scores(map_, roi, how)
        assert list(z) == [0, 1, 3, 4]
        assert scores.dtype == np.float32
        assert scores[2] == pytest.approx(value, rel=1e-5)


def test_region_free_of_voxels_has_no_slices():
    z, scores = slice_scores(np.zeros((3, 4, 4), np.float32), np.zeros((3, 4, 4), bool), "max")
    assert len(z) == len(scores) == 0
