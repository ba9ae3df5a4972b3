"""Bins that come from the scores, and metrics from them: exactness, bounds, pooling, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, roc_auc_score
from uasbench.benchmark.scoring.bins import SHARE, Bins, ScoreError, count_scores, keys_of, tops, values_of
from uasbench.benchmark.scoring.ranking_metrics import Curves, aupro, sorted_curves

N = 2_000_000
SEEDS = st.integers(0, 2**32 - 1)
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


@given(SEEDS, st.lists(st.integers(0, 400), min_size=1, max_size=4))
def test_pooling_cases_equals_concatenating_them(seed, sizes):
    rng = np.random.default_rng(seed)
    pairs = [(rng.normal(size=n).astype(np.float32).round(2), rng.random(n) < 0.3) for n in sizes]
    bins, cases = count_scores(lambda: pairs)
    pooled = Curves.of(bins, cases)
    whole = score_arrays(np.concatenate([s for s, _ in pairs]), np.concatenate([y for _, y in pairs]))
    for name in ("lower", "upper", "negative", "positive"):
        assert np.array_equal(getattr(pooled, name), getattr(whole, name))


def test_neither_threads_nor_the_order_of_voxels_change_anything():
    rng = np.random.default_rng(3)
    scores, labels = rng.lognormal(0, 3, 3_000_000).astype(np.float32), rng.random(3_000_000) < 0.01
    one, two = score_arrays(scores, labels, threads=1), score_arrays(scores[::-1], labels[::-1], threads=3)
    for name in ("lower", "positive", "negative"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert (one.auroc(), one.ap(), one.best_dice()) == (two.auroc(), two.ap(), two.best_dice())


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


def draw(seed: int, n: int, prevalence: float, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < prevalence
    labels[0], labels[1] = True, False
    return (rng.normal(size=n) + labels).round(decimals).astype(np.float32), labels


@given(SEEDS, st.integers(2, 400), st.floats(0.01, 0.9), st.integers(0, 3))
def test_small_arrays_agree_with_scikit_learn(seed, n, prevalence, decimals):
    scores, labels = draw(seed, n, prevalence, decimals)
    for curves in (score_arrays(scores, labels), sorted_curves(scores, labels)):
        assert curves.auroc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert curves.ap() == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
        assert curves.auroc_up_to(1.0) == pytest.approx(curves.auroc(), abs=1e-12)
        assert curves.auroc_bound() == curves.ap_bound() == curves.dice_bound() == 0


@given(SEEDS, st.integers(2, 300), st.floats(0.01, 0.9), st.integers(1, 40))
def test_what_coarse_bins_hide_of_auroc_and_ap_is_bounded(seed, n, prevalence, width):
    fine = sorted_curves(*draw(seed, n, prevalence, 4))
    coarse = fine.merged(np.arange(len(fine.lower)) // width)
    assert abs(coarse.auroc() - fine.auroc()) <= coarse.auroc_bound() + 1e-12
    assert abs(coarse.ap() - fine.ap()) <= coarse.ap_bound() + 1e-12


def test_positives_alone_in_a_bin_have_a_bound_of_ap():
    scores = np.append(np.linspace(0.9, 0.901, 10), [0.95, *np.linspace(0, 0.5, 50)]).astype(np.float32)
    fine = sorted_curves(scores, np.arange(61) < 10)
    coarse = fine.merged(np.append(np.arange(50), [50] * 10 + [51]))
    assert coarse.ap() - fine.ap() == pytest.approx(coarse.ap_bound())
    assert coarse.ap_bound() > 0.1


@given(SEEDS)
def test_best_dice_equals_brute_force_at_low_prevalence(seed):
    scores, labels = draw(seed, 10_000, 0.001, 5)
    best, cut = score_arrays(scores, labels).best_dice()
    positives = labels.sum()
    brute = max(
        2 * (labels & (scores >= t)).sum() / ((scores >= t).sum() + positives) for t in np.unique(scores[labels])
    )
    assert best == pytest.approx(brute, abs=1e-15)
    assert cut > 0


@given(SEEDS, st.integers(1, 300))
def test_every_cut_is_a_strict_threshold_on_the_raw_scores(seed, n):
    scores, labels = draw(seed, n + 1, 0.3, 1)
    curves = score_arrays(scores, labels)
    for cut in range(len(curves.lower) + 1):
        mask = scores > np.float32(curves.threshold(cut))
        assert (curves.tp[cut], curves.fp[cut]) == ((mask & labels).sum(), (mask & ~labels).sum())
        assert curves.cut_at(curves.shares[cut]) == cut


def test_monotone_transform_of_many_scores_stays_within_the_bounds():
    scores, labels = draw(5, 500_000, 0.02, 7)
    one, other = score_arrays(scores, labels), score_arrays(np.exp(3 * scores), labels)
    assert abs(one.auroc() - other.auroc()) <= one.auroc_bound() + other.auroc_bound()
    assert abs(one.ap() - other.ap()) <= one.ap_bound() + other.ap_bound()
    assert one.auroc_bound() < 1e-5


def test_one_class_is_undefined():
    scores = np.array([1, 2, 3], np.float32)
    healthy, ill = score_arrays(scores, np.zeros(3, bool)), score_arrays(scores, np.ones(3, bool))
    empty = score_arrays(np.empty(0, np.float32), np.empty(0, bool))
    assert {curves.auroc() for curves in (healthy, ill, empty)} == {healthy.ap()} == {None}
    assert (healthy.best_dice(), ill.ap(), empty.best_dice()[0]) == ((0, 0), 1, 0)


def brute_aupro(scores, region):
    """Threshold at every score; ``region`` is 0 where there is no lesion, else the number of its lesion."""
    points = [(0.0, 0.0)]
    for t in np.unique(scores)[::-1]:
        mask = scores >= t
        shares = [mask[region == r].mean() for r in np.unique(region[region > 0])]
        points.append((mask[region == 0].mean(), np.mean(shares)))
    x, y = np.array(points).T
    limited = np.append(x[x < 0.3], 0.3), np.append(y[x < 0.3], np.interp(0.3, x, y))
    return trapezoid(limited[1], limited[0]) / 0.3


def with_lesions(seed):
    """Return scores with ties, the lesion number of each voxel, their curves and what share of lesions is in a bin."""
    rng = np.random.default_rng(seed)
    region = np.zeros(400, int)
    region[10:30], region[50:55], region[90:140] = 1, 2, 3
    scores = (rng.normal(size=400) + rng.uniform(-1, 2) * (region > 0)).round(rng.integers(0, 3)).astype(np.float32)
    curves, sizes = score_arrays(scores, region > 0), np.bincount(region)
    overlap = np.zeros(len(curves.lower))
    for value, r in zip(scores[region > 0], region[region > 0], strict=True):
        overlap[curves.cut_at((scores <= value).mean()) - 1] += 1 / sizes[r]
    return scores, region, curves, overlap


@given(SEEDS)
def test_aupro_equals_brute_force(seed):
    scores, region, curves, overlap = with_lesions(seed)
    assert aupro(curves, overlap, 3) == pytest.approx(brute_aupro(scores, region))
    assert aupro(curves, overlap, 0) is None


@given(SEEDS, st.integers(0, 5000))
def test_a_frame_is_the_same_as_voxels_put_there(seed, pixels):
    scores, region, curves, overlap = with_lesions(seed)
    before = curves.auroc()
    whole = np.append(scores, np.full(pixels, scores.min())), np.append(region, np.zeros(pixels, int))
    framed = curves.framed(pixels)
    assert framed.auroc() == pytest.approx(roc_auc_score(whole[1] > 0, whole[0]))
    assert aupro(framed, overlap, 3) == pytest.approx(brute_aupro(*whole))
    assert curves.auroc() == before
