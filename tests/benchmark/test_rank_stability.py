"""Rankings on resampled patients and seeds."""

import numpy as np
import pytest
from uasbench.benchmark.rank_stability import rank_stability


def test_a_clear_order_is_certain_and_equal_methods_share_the_first_place():
    rng = np.random.default_rng(0)
    patients = rng.uniform(0.2, 0.6, (1, 12))
    clear = {
        name: patients + level + rng.normal(0, 0.01, (3, 12)) for name, level in (("c", 0), ("a", 0.2), ("b", 0.1))
    }
    found = rank_stability(clear, 1)
    assert list(found.rank) == list(found.low) == list(found.high) == [3, 1, 2]
    assert list(found.first) == [0, 1, 0]
    assert found.kendall_tau == pytest.approx(1)
    equal = rank_stability({"a": patients, "b": patients.copy()}, 1)
    assert list(equal.rank) == [1.5, 1.5]
    assert list(equal.first) == [0.5, 0.5]


def test_what_lies_close_is_uncertain_and_errors_are_better_small():
    rng = np.random.default_rng(1)
    values = {name: rng.normal(0.5, 0.1, (3, 10)) for name in "abcd"}
    found, errors = rank_stability(values, 1), rank_stability({name: -v for name, v in values.items()}, -1)
    assert 0 < found.kendall_tau < 1
    assert found.first.sum() == pytest.approx(1)
    assert (found.low <= found.rank).all()
    assert (found.rank <= found.high).all()
    assert (found.high - found.low).max() >= 2
    np.testing.assert_array_equal(found.rank, errors.rank)
    np.testing.assert_allclose(found.first, errors.first)


def test_seeds_that_differ_make_a_ranking_less_sure():
    patients = np.linspace(0.2, 0.6, 10)[None]
    moved = np.array([[-0.1], [0.0], [0.13]])
    sure = rank_stability({"a": patients + 0.01 + np.zeros((3, 1)), "b": patients}, 1)
    unsure = rank_stability({"a": patients + moved, "b": patients}, 1)
    assert sure.first[0] == 1
    assert 0.3 < unsure.first[0] < 0.9


def test_too_few_patients_or_a_single_method_leave_the_rank_alone():
    for values in ({"a": np.ones((1, 2)), "b": np.zeros((1, 2))}, {"a": np.ones((3, 8))}):
        found = rank_stability(values, 1)
        assert found.rank[0] == 1
        assert np.isnan([found.low[0], found.first[0], found.kendall_tau]).all()
