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


@pytest.mark.parametrize("name", NAMES)
def test_scoring_is_a_hundred_times_faster_than_scikit_learn(benchmark, module_of, name):
    tested = module_of("benchmark/test_bins.py")
    labels = np.random.default_rng(0).random(N, dtype=np.float32) < 0.02
    scores = tested.scores_named(name, N, labels)

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
    errors = abs(auroc - sk_auroc), abs(ap - sk_ap), abs(dice - tested.exact(scores, labels)[2])
    benchmark.extra_info.update(auroc_error=errors[0], ap_error=errors[1], dice_error=errors[2])
    assert errors[0] <= 1e-6
    assert errors[1] <= 2e-4
    assert errors[2] <= 1e-4
    assert extra_mib < 256
    assert ratio >= 100
