"""Slice scores and slice-level metrics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from sklearn.metrics import average_precision_score, roc_auc_score
from uasbench.benchmark.scoring.cases import ArrayCase, Reader
from uasbench.benchmark.scoring.slice_metrics import SliceSet, slice_metrics
from uasbench.benchmark.scoring.slices import slice_scores
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


def sets(seed: int = 0) -> list[SliceSet]:
    rng = np.random.default_rng(seed)
    out = []
    for k in range(3):
        roi = np.ones((12, 6, 6), bool)
        labels = rng.random(12) < 0.4 if k else np.zeros(12, bool)
        map_ = (rng.normal(size=roi.shape) + labels[:, None, None]).astype(np.float32)
        case = Case(f"c{k}", f"p{k}", map_, (1, 1, 1), roi)
        source = ArrayCase(case, map_, Truth(f"c{k}", slice_labels=labels))
        out.append(SliceSet.of(source, Reader([source], 0).open(0), "max"))
    return out


def test_slice_metrics_agree_with_scikit_learn():
    made = sets()
    per_case, pooled = slice_metrics(made, None, QUANTILES)
    labels, scores = np.concatenate([s.labels for s in made]), np.concatenate([s.scores for s in made])
    values = {(v.protocol, v.metric): v for v in pooled}
    assert values["none", "slice_auroc"].value == pytest.approx(roc_auc_score(labels, scores))
    assert values["none", "slice_ap"].value == pytest.approx(average_precision_score(labels, scores))
    assert values["none", "slice_auroc"].unit == "slice"
    assert values["healthy-q95", "slice_sen"].value is None
    assert "held-out" in values["healthy-q95", "slice_sen"].reason
    cases = {(v.case, v.metric): v for v in per_case if v.protocol == "none"}
    assert cases["c0", "slice_auroc"].value is None
    assert "one class" in cases["c0", "slice_auroc"].reason
    assert cases["c0", "slice_ap"].value is None
    assert cases["c2", "slice_auroc"].value == pytest.approx(roc_auc_score(made[2].labels, made[2].scores))


def test_slices_are_called_above_the_healthy_quantile():
    made = sets()
    calibration = np.linspace(0, 3, 101).astype(np.float32)
    _, pooled = slice_metrics(made, calibration, QUANTILES)
    values = {v.metric: v.value for v in pooled if v.protocol == "healthy-q95"}
    threshold = values["slice_threshold"]
    assert (calibration <= threshold).mean() == pytest.approx(96 / 101)
    labels, scores = np.concatenate([s.labels for s in made]), np.concatenate([s.scores for s in made])
    assert values["slice_sen"] == pytest.approx((scores[labels] > threshold).mean())
    assert values["slice_spe"] == pytest.approx((scores[~labels] <= threshold).mean())
