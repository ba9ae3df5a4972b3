"""Metrics from bins against scikit-learn, brute force, and their own bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, roc_auc_score
from uasbench.benchmark.scoring.bins import count_scores
from uasbench.benchmark.scoring.ranking_metrics import Curves, aupro, sorted_curves


def score_arrays(scores: np.ndarray, labels: np.ndarray, threads: int = 1) -> Curves:
    return Curves.of(*count_scores(lambda: [(scores, labels)], threads))


def draw(seed: int, n: int, prevalence: float, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < prevalence
    labels[0], labels[1] = True, False
    return (rng.normal(size=n) + labels).round(decimals).astype(np.float32), labels


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(2, 400), st.floats(0.01, 0.9), st.integers(0, 3))
def test_small_arrays_agree_with_scikit_learn(seed, n, prevalence, decimals):
    scores, labels = draw(seed, n, prevalence, decimals)
    for curves in (score_arrays(scores, labels), sorted_curves(scores, labels)):
        assert curves.auroc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert curves.ap() == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
        assert curves.auroc_bound() == curves.ap_bound() == curves.dice_bound() == 0


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_best_dice_equals_brute_force_at_low_prevalence(seed):
    scores, labels = draw(seed, 10_000, 0.001, 5)
    best, cut = score_arrays(scores, labels).best_dice()
    positives = labels.sum()
    brute = max(
        2 * (labels & (scores >= t)).sum() / ((scores >= t).sum() + positives) for t in np.unique(scores[labels])
    )
    assert best == pytest.approx(brute, abs=1e-15)
    assert cut > 0


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300))
def test_every_cut_is_a_strict_threshold_on_the_raw_scores(seed, n):
    scores, labels = draw(seed, n + 1, 0.3, 1)
    curves = score_arrays(scores, labels)
    for cut in range(len(curves.lower) + 1):
        mask = scores > np.float32(curves.threshold(cut))
        assert (curves.tp[cut], curves.fp[cut]) == ((mask & labels).sum(), (mask & ~labels).sum())
        assert curves.cut_at(curves.shares[cut]) == cut


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([lambda x: 4 * x, np.exp, np.arctan, lambda x: x**3]))
def test_monotone_transforms_change_nothing(seed, transform):
    scores, labels = draw(seed, 300, 0.2, 1)
    one, other = score_arrays(scores, labels), score_arrays(transform(scores), labels)
    assert one.auroc() == pytest.approx(other.auroc(), abs=1e-12)
    assert one.ap() == pytest.approx(other.ap(), abs=1e-12)
    assert one.best_dice()[0] == other.best_dice()[0]


def test_monotone_transform_of_many_scores_stays_within_the_bounds():
    scores, labels = draw(5, 500_000, 0.02, 7)
    one, other = score_arrays(scores, labels), score_arrays(np.exp(3 * scores), labels)
    assert abs(one.auroc() - other.auroc()) <= one.auroc_bound() + other.auroc_bound()
    assert abs(one.ap() - other.ap()) <= one.ap_bound() + other.ap_bound()
    assert one.auroc_bound() < 1e-5


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_metrics_are_bounded(seed, prevalence):
    rng = np.random.default_rng(seed)
    curves = score_arrays(rng.normal(size=100).astype(np.float32), rng.random(100) < prevalence)
    values = [curves.auroc(), curves.ap(), curves.best_dice()[0], aupro(curves, curves.positive * 1.0, 1)]
    assert all(v is None or 0 <= v <= 1 for v in values)


def test_one_class_is_undefined():
    scores = np.array([1, 2, 3], np.float32)
    healthy, ill = score_arrays(scores, np.zeros(3, bool)), score_arrays(scores, np.ones(3, bool))
    assert healthy.auroc() is None
    assert healthy.ap() is None
    assert healthy.best_dice() == (0, 0)
    assert ill.auroc() is None
    assert ill.ap() == 1
    empty = score_arrays(np.empty(0, np.float32), np.empty(0, bool))
    assert empty.auroc() is None
    assert empty.best_dice()[0] == 0


def test_aupro_equals_brute_force():
    rng = np.random.default_rng(0)
    region = np.zeros(400, int)
    region[10:30], region[50:55], region[90:140] = 1, 2, 3
    scores = (rng.normal(size=400) + (region > 0)).round(2).astype(np.float32)
    curves = score_arrays(scores, region > 0)
    sizes = np.bincount(region)
    overlap = np.zeros(len(curves.lower))
    for value, r in zip(scores[region > 0], region[region > 0], strict=True):
        overlap[curves.cut_at((scores <= value).mean()) - 1] += 1 / sizes[r]

    points = [(0.0, 0.0)]
    for t in np.unique(scores)[::-1]:
        mask = scores >= t
        points.append(((mask & (region == 0)).sum() / sizes[0], np.mean([mask[region == r].mean() for r in (1, 2, 3)])))
    x, y = np.array(points).T
    limited = np.append(x[x < 0.3], 0.3), np.append(y[x < 0.3], np.interp(0.3, x, y))
    assert aupro(curves, overlap, 3) == pytest.approx(trapezoid(limited[1], limited[0]) / 0.3)
    assert aupro(curves, overlap, 0) is None
