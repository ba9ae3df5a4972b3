"""Slice scores and slice-level metrics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from sklearn.metrics import average_precision_score, roc_auc_score
from uasbench.benchmark.scoring.cases import ArrayCase, CroppedCase
from uasbench.benchmark.scoring.slices import SliceMetrics, slice_scores
from uasbench.datasets.case import Case, Truth

QUANTILES = {"healthy-q95": 0.95}


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


def measured(calibration: np.ndarray):
    """Return labels and slice scores of three cases, the first of them healthy, and their rows."""
    rng = np.random.default_rng(0)
    sliced, labels, scores, per_case = SliceMetrics("max", calibration, QUANTILES), [], [], []
    for k in range(3):
        roi = np.ones((12, 6, 6), bool)
        label = rng.random(12) < 0.4 if k else np.zeros(12, bool)
        map_ = (rng.normal(size=roi.shape) + label[:, None, None]).astype(np.float32)
        case = Case(f"c{k}", f"p{k}", map_, (1, 1, 1), roi)
        truth = Truth(f"c{k}", slice_labels=label)
        per_case += sliced.add(ArrayCase(case, map_, truth), CroppedCase.of(case.id, map_, roi, (1, 1, 1), truth))
        labels.append(label)
        scores.append(map_.max(axis=(1, 2)))
    return labels, scores, per_case, {(v.protocol, v.metric): v for v in sliced.pooled()}


def test_slice_metrics_agree_with_scikit_learn():
    every, each, per_case, pooled = measured(np.empty(0, np.float32))
    labels, scores = np.concatenate(every), np.concatenate(each)
    assert pooled["none", "slice_auroc"].value == pytest.approx(roc_auc_score(labels, scores))
    assert pooled["none", "slice_ap"].value == pytest.approx(average_precision_score(labels, scores))
    assert pooled["none", "slice_auroc"].unit == "slice"
    assert pooled["healthy-q95", "slice_sen"].value is None
    assert "held-out" in pooled["healthy-q95", "slice_sen"].reason
    cases = {(v.case, v.metric): v for v in per_case if v.protocol == "none"}
    assert cases["c0", "slice_auroc"].value is None
    assert "one class" in cases["c0", "slice_auroc"].reason
    assert cases["c0", "slice_ap"].value is None
    assert cases["c2", "slice_auroc"].value == pytest.approx(roc_auc_score(every[2], each[2]))


def test_slices_are_called_above_the_healthy_quantile():
    calibration = np.linspace(0, 3, 101).astype(np.float32)
    labels, scores, _, pooled = measured(calibration)
    threshold = pooled["healthy-q95", "slice_threshold"].value
    assert (calibration <= threshold).mean() == pytest.approx(96 / 101)
    labels, scores = np.concatenate(labels), np.concatenate(scores)
    assert pooled["healthy-q95", "slice_sen"].value == pytest.approx((scores[labels] > threshold).mean())
    assert pooled["healthy-q95", "slice_spe"].value == pytest.approx((scores[~labels] <= threshold).mean())
