"""The histogram that a record keeps, against counting voxel by voxel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.benchmark.protocols.measuring import ArrayCase, MeasureOptions, measure
from uasbench.benchmark.runs.records import ScoreHistogram
from uasbench.benchmark.scoring.bins import count_scores
from uasbench.benchmark.scoring.histograms import BINS, TAIL, score_histogram
from uasbench.benchmark.scoring.ranking_metrics import Curves
from uasbench.datasets.case import Case, Truth


def histogram_of(scores, labels, mean_dice=None):
    pairs = [(np.asarray(scores, np.float32), np.asarray(labels, bool))]
    curves = Curves.of(*count_scores(lambda: pairs))
    return score_histogram(curves, curves.dice() if mean_dice is None else mean_dice)


@given(st.integers(0, 1000), st.sampled_from(["normal", "heavy", "ties", "constant"]))
def test_counts_and_dice_are_those_of_the_voxels(seed, kind):
    rng = np.random.default_rng(seed)
    scores = {
        "normal": rng.normal(size=3000), "heavy": rng.standard_cauchy(3000), "ties": rng.integers(0, 4, 3000),
        "constant": np.full(3000, 0.25),
    }[kind].astype(np.float32)  # fmt: skip
    labels = rng.random(3000) < 0.1
    found = histogram_of(scores, labels)
    edges = np.linspace(found.low, found.high, len(found.healthy) + 1)
    slack = 0 if kind in ("ties", "constant") else 1  # where an edge lies inside a bin of the scorer
    for counts, chosen in ((found.healthy, ~labels), (found.lesion, labels)):
        assert sum(counts) == chosen.sum()
        above = np.cumsum(counts[::-1])[::-1][1:]
        expected = (scores[chosen] > edges[1:-1, None]).sum(axis=1)
        assert (abs(above - expected) <= slack).all()
    for edge, dice in zip(edges, found.dice, strict=True):
        called = scores > edge
        expected = 2 * (called & labels).sum() / max(1, called.sum() + labels.sum())
        assert dice == pytest.approx(expected, abs=1e-8 + 2 * slack / labels.sum())


def test_ends_are_quantiles_where_lesion_voxels_count_as_much_as_all_others():
    rng = np.random.default_rng(0)
    healthy, lesion = rng.normal(size=200_000), rng.normal(8, 1, size=2000)
    scores, labels = np.concatenate([healthy, lesion]), np.repeat([False, True], [200_000, 2000])
    found = histogram_of(scores, labels)
    assert found.low == pytest.approx(np.quantile(healthy, 2 * TAIL), abs=0.02)
    assert found.high == pytest.approx(np.quantile(lesion, 1 - 2 * TAIL), abs=0.3)
    assert len(found.healthy) == len(found.lesion) == len(found.dice) - 1 == BINS


def test_a_constant_map_has_one_bin_and_no_voxel_no_histogram():
    found = histogram_of(np.zeros(10), np.arange(10) < 3)
    assert found == ScoreHistogram(low=0.0, high=0.0, healthy=[7], lesion=[3], dice=[0.0, 0.0])
    nothing = np.empty(0, np.int64)
    assert score_histogram(Curves(nothing, nothing, nothing, nothing), None) is None


def test_measuring_keeps_it_and_its_dice_is_the_mean_over_patients():
    rng = np.random.default_rng(3)
    cases = []
    for i in range(4):
        truth = np.zeros((4, 12, 12), bool)
        truth[1:3, 3 : 5 + i, 3:8] = i > 0
        map_ = (truth * rng.random(truth.shape) + 0.7 * rng.random(truth.shape)).astype(np.float32)
        scan = Case(f"c{i}", f"p{i}", map_, (5.0, 1.0, 1.0), np.ones(truth.shape, bool))
        cases.append(ArrayCase(scan, map_, Truth(scan.id, truth)))
    found = measure(cases, [], MeasureOptions(trials=1)).histogram
    assert found is not None
    assert sum(found.healthy) + sum(found.lesion) == 4 * map_.size
    edge = np.linspace(found.low, found.high, BINS + 1)[60]
    pairs = [(c.map > edge, c.truth.lesion) for c in cases[1:]]
    dice = [2 * (called & lesion).sum() / (called.sum() + lesion.sum()) for called, lesion in pairs]
    assert found.dice[60] == pytest.approx(np.mean(dice), abs=1e-8)
