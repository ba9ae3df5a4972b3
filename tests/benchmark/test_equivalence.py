"""The Bayesian signed-rank test against the reference implementation, its properties, and what it is undefined for."""

import numpy as np
import pytest
from uasbench.benchmark.equivalence import signed_rank


def test_probabilities_follow_the_difference():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.002, 12)
    better, same, worse = signed_rank([noise + 0.05, noise, noise - 0.05])
    assert better.better > 0.99
    assert same.same > 0.99
    assert worse.worse > 0.99
    mixed = signed_rank([rng.normal(0.01, 0.02, 12)])[0]
    assert sum(mixed) == pytest.approx(1)
    assert max(mixed) < 0.99


def test_is_antisymmetric_and_a_vector_alone_gives_what_it_gives_among_others():
    rng = np.random.default_rng(1)
    vectors = [rng.normal(0.01, 0.03, n) for n in (3, 9, 9, 17)]
    for one, (vector, found) in enumerate(zip(vectors, signed_rank(vectors), strict=True)):
        assert signed_rank([vector]) == [found], one
        assert signed_rank([-vector])[0] == pytest.approx(found[::-1], abs=0.02)


def test_below_three_pairs_nothing_is_known():
    assert all(np.isnan(found).all() for found in signed_rank([np.array([]), np.array([0.1, 0.2])]))
    assert signed_rank([]) == []


def test_equals_baycomp():
    baycomp = pytest.importorskip("baycomp", reason="just peers lays it beside the environment")
    rng = np.random.default_rng(2)
    for n in (5, 10, 20):
        vector = rng.normal(0.01, 0.02, n)
        reference = baycomp.SignedRankTest.probs(np.zeros(n), vector, 0.01, nsamples=20_000, random_state=0)
        assert tuple(signed_rank([vector])[0]) == pytest.approx(reference, abs=0.03)
