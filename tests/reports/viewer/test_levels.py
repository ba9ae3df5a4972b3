"""Levels are cut where the map is, at any threshold that a protocol may have, after any post-processing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from uasbench.benchmark.runs.records import Threshold
from uasbench.benchmark.scoring.cases import CroppedCase
from uasbench.reports.viewer.levels import SAMPLE, counts, edges_of, post_processed, sampled

SCORES = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-5, 5, width=32))


@given(SCORES, st.lists(st.floats(-6, 6), max_size=4))
def test_levels_above_a_threshold_are_the_scores_above_it(scores, thresholds):
    edges = edges_of(scores, thresholds)
    assert len(edges.values) < 255
    for threshold in thresholds:
        above = edges.level(scores) > edges.at(threshold)
        np.testing.assert_array_equal(above, scores > np.float32(threshold))


def test_what_is_no_edge_is_refused():
    with pytest.raises(ValueError, match="no edge"):
        edges_of(np.arange(5, dtype=np.float32), [0.25]).at(0.123456)


@pytest.fixture(scope="module")
def cropped():
    rng = np.random.default_rng(0)
    roi = np.zeros((6, 16, 18), bool)
    roi[1:, 2:15, 3:17] = True
    return CroppedCase.of("c", rng.normal(size=roi.shape).astype(np.float32), roi, (2.0, 1.0, 1.0))


@pytest.mark.parametrize(("mm", "mm3"), [(0.0, 0.0), (1.5, 0.0), (0.0, 30.0), (1.5, 12.0)])
def test_post_processed_scores_cut_anywhere_are_the_mask_of_the_scorer(cropped, mm, mm3):
    for value in (-0.5, 0.0, 0.3, 1.0, 9.0):
        threshold = Threshold(protocol="val", threshold=value, smoothing_mm=mm, min_size_mm3=mm3)
        expected = cropped.binarise(threshold)[cropped.roi]
        np.testing.assert_array_equal(post_processed(cropped, threshold) > np.float32(value), expected)


def test_counts_hold_every_voxel_once():
    scores = np.random.default_rng(1).normal(size=500).astype(np.float32)
    labels = scores > 1
    edges = edges_of(scores, [1.0])
    every, hit = counts(edges.level(scores), labels, edges)
    assert (every.sum(), hit.sum()) == (500, labels.sum())
    assert hit[edges.at(1.0) + 1 :].sum() == labels.sum()
    assert len(every) == len(edges.values) + 1


def test_samples_are_few_and_hold_no_voxel_without_a_component():
    many = np.arange(3 * SAMPLE, dtype=np.float32)
    assert len(sampled(many)) == SAMPLE
    assert len(sampled(np.full(4, -3.3e38, np.float32))) == 0
