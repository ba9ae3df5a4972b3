"""Scoring 5·10⁷ voxels against scikit-learn, in one run: speed, memory and accuracy."""

import time
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from uasbench.benchmark.scoring.bins import count_scores
from uasbench.benchmark.scoring.ranking_metrics import Curves

pytestmark = pytest.mark.perf
N = 50_000_000
THREADS = 2
NAMES = ["uniform", "saturated", "log-normal", "offset", "outlier", "equal", "zeros"]


def scores_named(name: str, labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    if name in ("saturated", "log-normal"):
        scores = rng.standard_normal(N, dtype=np.float32)
        scores += labels
        scores *= -20 if name == "saturated" else 3
        with np.errstate(over="ignore"):
            np.exp(scores, out=scores)
        if name == "saturated":
            scores += 1
            np.reciprocal(scores, out=scores)
        return scores
    if name == "equal":
        return np.full(N, 0.25, np.float32)
    scores = rng.random(N, dtype=np.float32)
    scores += np.float32(0.1) * labels
    if name == "offset":
        scores += 1000
    elif name == "outlier":
        scores *= np.float32(1e-4)
        scores += np.float32(0.5)
        scores[7] = 1e6
    elif name == "zeros":
        scores[rng.random(N, dtype=np.float32) < 0.3] = 0
    return scores


def best_dice(scores: np.ndarray, labels: np.ndarray) -> float:
    order = np.argsort(scores)[::-1]
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[:-1] != ordered[1:]), len(scores) - 1)
    del ordered
    tp = np.cumsum(labels[order], dtype=np.int64)[last]
    return float((2 * tp / (last + 1 + tp[-1])).max()) if len(tp) else 0.0


@pytest.mark.parametrize("name", NAMES)
def test_scoring_is_a_hundred_times_faster_than_scikit_learn(benchmark, name):
    labels = np.random.default_rng(0).random(N, dtype=np.float32) < 0.02
    scores = scores_named(name, labels)

    def ours():
        curves = Curves.of(*count_scores(lambda: [(scores, labels)], THREADS))
        return curves.auroc(), curves.ap(), curves.best_dice()[0]

    count_scores(lambda: [(scores[:1000], labels[:1000])])
    auroc, ap, dice = benchmark.pedantic(ours, rounds=5, warmup_rounds=1)
    tracemalloc.start()
    ours()
    extra_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()

    start = time.perf_counter()
    sk_auroc, sk_ap = roc_auc_score(labels, scores), average_precision_score(labels, scores)
    ratio = (time.perf_counter() - start) / benchmark.stats.stats.min
    benchmark.extra_info.update(ratio=round(ratio, 1), extra_mib=round(extra_mib, 1))
    print(f"\n{name}: {ratio:.0f} times faster, {extra_mib:.0f} MiB")
    errors = abs(auroc - sk_auroc), abs(ap - sk_ap), abs(dice - best_dice(scores, labels))
    benchmark.extra_info.update(auroc_error=errors[0], ap_error=errors[1], dice_error=errors[2])
    assert errors[0] <= 1e-6
    assert errors[1] <= 2e-4
    assert errors[2] <= 1e-4
    assert extra_mib < 256
    assert ratio >= 100
