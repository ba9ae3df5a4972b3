"""Bins that come from the scores: accuracy on awkward distributions, pooling, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import trapezoid
from uasbench.benchmark.scoring.bins import SHARE, Bins, ScoreError, count_scores, keys_of, tops, values_of
from uasbench.benchmark.scoring.ranking_metrics import Curves

N = 2_000_000
FINITE = st.floats(-(2.0**100), 2.0**100, width=32)


def score_arrays(scores: np.ndarray, labels: np.ndarray, threads: int = 1) -> Curves:
    return Curves.of(*count_scores(lambda: [(scores, labels)], threads))


def scores_named(name: str, n: int, labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    uniform = rng.random(n, dtype=np.float32)
    normal = rng.standard_normal(n, dtype=np.float32) + labels
    with np.errstate(over="ignore"):
        made = {
            "uniform": uniform + np.float32(0.1) * labels,
            "saturated": 1 / (1 + np.exp(-20 * normal)),
            "log-normal": np.exp(3 * normal),
            "offset": 1000 + uniform + np.float32(0.1) * labels,
            "outlier": np.where(np.arange(n) == 7, 1e6, 0.5 + 1e-4 * (uniform + np.float32(0.1) * labels)),
            "equal": np.full(n, 0.25),
            "zeros": np.where(rng.random(n) < 0.3, 0, uniform + np.float32(0.1) * labels),
            "levels": np.round(normal * 20) / 255,
        }[name]
    return made.astype(np.float32)


def exact(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """AUROC, AP and best Dice by sorting."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    tp = np.cumsum(labels[order])[last].astype(float)
    fp = 1 + last - tp
    positives, negatives = tp[-1], fp[-1]
    auroc = trapezoid(np.append(0, tp), np.append(0, fp)) / positives / negatives
    ap = np.sum(np.diff(np.append(0, tp)) * tp / (tp + fp)) / positives
    return auroc, ap, (2 * tp / (tp + fp + positives)).max()


@pytest.mark.parametrize(
    "name", ["uniform", "saturated", "log-normal", "offset", "outlier", "equal", "zeros", "levels"]
)
def test_metrics_are_near_exact_on_every_distribution(name):
    labels = np.random.default_rng(0).random(N) < 0.02
    scores = scores_named(name, N, labels)
    curves = score_arrays(scores, labels)
    auroc, ap, dice = exact(scores, labels)
    assert abs(curves.auroc() - auroc) <= min(1e-6, curves.auroc_bound() + 1e-12)
    assert abs(curves.ap() - ap) <= min(2e-4, curves.ap_bound() + 1e-12)
    best, cut = curves.best_dice()
    assert -1e-12 <= dice - best <= min(1e-4, curves.dice_bound() + 1e-12)
    mask = scores > np.float32(curves.threshold(cut))
    assert best == 2 * np.count_nonzero(mask & labels) / (np.count_nonzero(mask) + np.count_nonzero(labels))


@pytest.mark.parametrize("name", ["uniform", "saturated", "log-normal", "outlier", "zeros", "levels"])
def test_no_bin_is_crowded_unless_its_scores_are_equal(name):
    labels = np.zeros(N, bool)
    scores = scores_named(name, N, labels)
    bins, (counts,) = count_scores(lambda: [(scores, labels)])
    held = np.zeros(len(bins), np.int64)
    held[counts.index] = counts.negative
    assert held.sum() == N
    assert held[~bins.exact].max() <= SHARE * N
    assert len(bins) < 2_000_000


def test_refinement_reaches_equal_scores_in_a_few_passes():
    rng = np.random.default_rng(0)
    values = (0.5 + np.arange(40) * 2.0**-24).astype(np.float32)
    scores = np.concatenate([values[rng.integers(0, 40, 200_000)], rng.random(200_000, dtype=np.float32)])
    passes = []

    def pairs():
        passes.append(1)
        return [(scores, np.zeros(len(scores), bool))]

    bins, (counts,) = count_scores(pairs)
    assert len(passes) <= 4
    found = bins.find(values)
    assert bins.exact[found].all()
    assert len(set(found)) == 40
    assert counts.negatives == len(scores)


@given(hnp.arrays(np.float32, st.integers(1, 200), elements=FINITE))
def test_bins_find_the_interval_of_every_score(scores):
    bins = Bins.from_top(tops(scores))
    keys, found = keys_of(scores), bins.find(scores)
    assert (bins.lower[found] <= keys).all()
    assert (keys <= bins.upper[found]).all()


@given(st.lists(FINITE, min_size=2, max_size=50))
def test_keys_keep_the_order_of_floats(values):
    array = np.array(values, np.float32)
    keys = keys_of(array)
    assert (np.sign(keys[:-1] - keys[1:]) == np.sign(array[:-1].astype(float) - array[1:])).all()
    assert (values_of(keys) == array).all()


def test_both_zeros_are_one_score():
    scores = np.array([-0.0, 0.0, -0.0, 0.0], np.float32)
    curves = score_arrays(scores, np.array([True, False, False, True]))
    assert len(curves.lower) == 1
    assert curves.auroc() == 0.5
    assert (scores > np.float32(curves.threshold(0))).all()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 400), min_size=1, max_size=4))
def test_pooling_cases_equals_concatenating_them(seed, sizes):
    rng = np.random.default_rng(seed)
    pairs = [(rng.normal(size=n).astype(np.float32).round(2), rng.random(n) < 0.3) for n in sizes]
    bins, cases = count_scores(lambda: pairs)
    pooled = Curves.of(bins, cases)
    whole = score_arrays(np.concatenate([s for s, _ in pairs]), np.concatenate([y for _, y in pairs]))
    for name in ("lower", "upper", "negative", "positive"):
        assert np.array_equal(getattr(pooled, name), getattr(whole, name))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_order_of_voxels_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.normal(size=500).astype(np.float32), rng.random(500) < 0.2
    order = rng.permutation(500)
    one, other = score_arrays(scores, labels), score_arrays(scores[order], labels[order])
    assert np.array_equal(one.lower, other.lower)
    assert (one.auroc(), one.ap(), one.best_dice()) == (other.auroc(), other.ap(), other.best_dice())


def test_threads_change_nothing():
    rng = np.random.default_rng(3)
    scores, labels = rng.lognormal(0, 3, 3_000_000).astype(np.float32), rng.random(3_000_000) < 0.01
    one, two = score_arrays(scores, labels, threads=1), score_arrays(scores, labels, threads=3)
    for name in ("lower", "positive", "negative"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        *(
            (np.array([0, bad, 1], np.float32), [True, False, True], "1 of 3 scores")
            for bad in (np.nan, np.inf, -np.inf)
        ),
        *((np.zeros(3, kind), [True, False, True], "expected float32") for kind in (np.float16, np.float64, np.int32)),
        (np.zeros(3, np.float32), [0, 1, 2], "expected bool of size 3"),
        (np.zeros(3, np.float32), [True, False], "expected bool of size 3"),
    ],
)
def test_what_cannot_be_counted_is_refused(scores, labels, message):
    with pytest.raises(ScoreError, match=message):
        score_arrays(scores, np.array(labels))


def test_inputs_are_not_changed():
    scores, labels = np.array([0.5, -0.0, 1], np.float32), np.array([True, False, True])
    copies = scores.tobytes(), labels.tobytes()
    assert score_arrays(scores, labels).ap() == score_arrays(scores, labels).ap()
    assert (scores.tobytes(), labels.tobytes()) == copies
