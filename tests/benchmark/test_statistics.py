"""Tests against SciPy and closed formulas, and properties that any correct statistic has."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from uasbench.benchmark.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    critical_difference,
    detectable_effect,
    holm,
    least_signed_rank,
    paired_test,
    paired_tests,
    rank_groups,
    rank_methods,
    t_interval,
)

DICE = st.floats(0, 1).map(lambda x: round(x, 3))
VECTORS = st.integers(3, 30).flatmap(lambda n: st.tuples(*[arrays(float, n, elements=DICE)] * 2))


class TestPairedTest:
    def test_equals_scipy(self):
        rng = np.random.default_rng(0)
        a, b = rng.uniform(size=20), rng.uniform(size=20)
        found = paired_test(a, b)
        t = stats.ttest_rel(a, b)
        interval = t.confidence_interval(0.95)
        expected = t.statistic, t.pvalue, stats.wilcoxon(a, b).pvalue
        assert (found.t, found.p_t, found.p_wilcoxon) == pytest.approx(expected)
        assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))
        assert found.d_z == pytest.approx(np.mean(a - b) / np.std(a - b, ddof=1))
        assert found.d_z == pytest.approx(found.t / np.sqrt(20))

    @given(VECTORS)
    def test_is_antisymmetric(self, pair):
        a, b = pair
        one, other = paired_test(a, b), paired_test(b, a)
        assert one.mean_diff == pytest.approx(-other.mean_diff)
        assert (one.n, one.n_zero, one.reason) == (other.n, other.n_zero, other.reason)
        for sign, names in ((-1, ("t", "d_z")), (1, ("p_t", "p_wilcoxon", "detectable"))):
            for name in names:
                assert getattr(one, name) == pytest.approx(sign * getattr(other, name), nan_ok=True)
        assert one.ci_low == pytest.approx(-other.ci_high, nan_ok=True)

    def test_many_at_once_are_what_each_is_alone(self):
        rng = np.random.default_rng(0)
        vectors = [rng.normal(size=n) for n in (*range(8), 12, 20, 60) for _ in range(3)]
        vectors += [np.round(vector, 1) for vector in vectors]  # tied ranks, zeros
        vectors += [np.zeros(5), np.full(5, 0.25), np.array([0.1, np.nan, 0.3, np.nan])]
        nouns = ["patient", "seed"] * (len(vectors) // 2) + ["patient"] * (len(vectors) % 2)
        alone = [paired_test(vector, np.zeros_like(vector), noun=n) for vector, n in zip(vectors, nouns, strict=True)]
        order = rng.permutation(len(vectors))
        found = paired_tests([vectors[i] for i in order], [nouns[i] for i in order])
        assert list(map(str, found)) == [str(alone[i]) for i in order]
        for vector, test in zip(vectors, alone, strict=True):
            moved = np.round(vector[~np.isnan(vector)], 12)
            if np.count_nonzero(moved) > 1 and np.ptp(moved) > 0:
                assert test.p_wilcoxon == pytest.approx(stats.wilcoxon(moved[moved != 0]).pvalue)
                assert test.p_t == pytest.approx(stats.ttest_1samp(moved, 0).pvalue)

    def test_a_skewed_difference_may_divide_the_tests(self):
        # The mean is negative although nine of ten patients gain: the sign of the mean must not choose a side.
        gain = np.array([0.01, 0.012, 0.014, 0.016, 0.018, 0.02, 0.022, 0.024, 0.026, -0.9])
        found = paired_test(gain, np.zeros(10))
        assert found.mean_diff < 0
        assert found.p_t > 0.3
        assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(gain, alternative="two-sided").pvalue)
        assert found.p_wilcoxon == pytest.approx(2 * stats.wilcoxon(gain, alternative="greater").pvalue)

    def test_undefined_pairs_are_dropped_and_wilcoxon_leaves_zero_differences_out(self):
        a = np.array([0.1, 0.2, np.nan, 0.5, 0.7])
        b = np.array([0.1, np.nan, 0.3, 0.2, 0.3])
        found, clean = paired_test(a, b), paired_test(a[[0, 3, 4]], b[[0, 3, 4]])
        assert found == clean
        assert found.n == 3
        a = np.array([0.0, 0.0, 0.3, 0.4, 0.5, 0.6])
        b = np.array([0.0, 0.0, 0.1, 0.1, 0.1, 0.1])
        found = paired_test(a, b)
        assert found.n_zero == 2
        assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(a[2:], b[2:]).pvalue) == pytest.approx(0.125)
        assert paired_test([0.1 + 0.2, 0.5, 0.7], [0.3, 0.1, 0.2]).n_zero == 1  # rounding noise is no difference

    def test_without_spread_or_enough_pairs_there_is_a_reason_not_an_error(self):
        same = paired_test([0.2, 0.4, 0.6], [0.2, 0.4, 0.6])
        assert (same.p_t, same.p_wilcoxon, same.mean_diff, same.d_z) == (1, 1, 0, 0)
        assert "no patient differs" in same.reason
        constant = paired_test([0.5, 0.75, 1.0], [0.25, 0.5, 0.75])
        assert np.isnan(constant.p_t)
        assert constant.p_wilcoxon == pytest.approx(0.25)
        assert "no spread" in constant.reason
        assert paired_test([], []).reason == "no patient with both values defined"
        one = paired_test([0.5], [0.25])
        assert (one.mean_diff, one.reason) == (0.25, "1 patient: a paired test needs 2")
        two = paired_test([0.5, 0.75], [0.25, 0.25], noun="seed")
        assert not np.isnan(two.p_t)
        assert np.isnan(two.ci_low)
        assert two.reason == "2 seeds: an interval needs 3"


class TestHolm:
    @given(arrays(float, st.integers(1, 20), elements=st.floats(0, 1)))
    def test_properties(self, p):
        adjusted = holm(p)
        assert np.all(adjusted >= p - 1e-15)
        assert np.all(adjusted <= np.minimum(1, p * len(p)) + 1e-12)
        assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)
        assert adjusted[np.argmin(p)] == pytest.approx(min(1, len(p) * p.min()))

    def test_examples_where_undefined_is_no_comparison(self):
        np.testing.assert_allclose(holm([0.01, 0.02, 0.03, 0.04]), [0.04, 0.06, 0.06, 0.06])
        np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
        assert holm([]).size == 0


class TestLeastSignedRank:
    @given(st.lists(arrays(float, st.integers(2, 15), elements=st.integers(-9, 9)), min_size=1, max_size=5))
    def test_no_outcome_falls_below_it_before_or_after_holm_and_equal_signs_reach_it(self, rows):
        least = least_signed_rank([np.count_nonzero(row) for row in rows])

        def p(rows):
            return np.array([test.p_wilcoxon for test in paired_tests(rows, ["patient"] * len(rows))])

        assert np.all(p(rows) >= least - 1e-12)
        assert np.all(holm(p(rows)) >= holm(least) - 1e-12)
        untied = [np.where(row == 0, 0, np.arange(1, len(row) + 1)) for row in rows]
        np.testing.assert_allclose(holm(p(untied)), holm(least))


class TestDetectableEffect:
    # G*Power 3.1, two-tailed paired t, α 0.05, power 0.8: d_z 0.5 needs 34 pairs, 0.2 needs 199, 0.8 needs 15.
    @pytest.mark.parametrize(("n", "d"), [(34, 0.5), (199, 0.2), (15, 0.8)])
    def test_agrees_with_sample_size_tables(self, n, d):
        assert detectable_effect(n) <= d < detectable_effect(n - 1)

    def test_extreme_sizes(self):
        assert np.isnan(detectable_effect(1))
        sizes = [detectable_effect(n) for n in (2, 3, 5, 20, 200, 100_000)]
        assert np.all(np.diff(sizes) < 0)
        assert np.all(np.isfinite(sizes))


class TestBootstrap:
    def test_needs_three_patients_as_the_t_interval_does(self):
        assert t_interval([0.1, np.nan, 0.2]).reason == "2 patients: an interval needs 3"
        assert bootstrap_mean(np.array([[0.1, np.nan, 0.2]])).reason == "2 patients: an interval needs 3"
        assert np.isnan(bootstrap_mean(np.empty((1, 0))).low)

    def test_one_seed_is_the_plain_bootstrap_of_patients(self):
        rng = np.random.default_rng(3)
        x = rng.uniform(size=40)
        found = bootstrap_mean(x[None], replicates=20_000)
        plain = stats.bootstrap(
            (x,), np.mean, n_resamples=20_000, method="percentile", random_state=np.random.default_rng(0)
        )
        assert found.low == pytest.approx(plain.confidence_interval.low, abs=0.005)
        assert found.high == pytest.approx(plain.confidence_interval.high, abs=0.005)

    def test_is_deterministic_and_indifferent_to_units(self):
        x = np.random.default_rng(4).uniform(size=(3, 9))
        one, again, shifted = (bootstrap_mean(v) for v in (x, x.copy(), 2 * x + 1))
        assert one == again
        assert (shifted.low, shifted.high) == pytest.approx((2 * one.low + 1, 2 * one.high + 1))

    def test_seed_variance_widens_the_interval(self):
        patients = np.linspace(0.3, 0.5, 12)
        same = np.tile(patients, (3, 1))
        moved = same + np.array([[-0.2], [0.0], [0.2]])
        narrow, wide = bootstrap_mean(same), bootstrap_mean(moved)
        assert wide.high - wide.low > 2 * (narrow.high - narrow.low)

    def test_a_patient_without_values_is_left_out_and_one_with_some_keeps_them(self):
        x = np.random.default_rng(5).uniform(size=(2, 8))
        x[:, 3] = np.nan
        assert bootstrap_mean(x) == bootstrap_mean(np.delete(x, 3, axis=1))
        x = np.full((3, 6), 0.4)
        x[1, 2] = np.nan
        found = bootstrap_mean(x)
        assert (found.low, found.high) == pytest.approx((0.4, 0.4))

    def test_a_common_offset_of_patients_cancels_in_a_difference(self):
        rng = np.random.default_rng(6)
        patients = rng.uniform(size=15)
        found = bootstrap_difference(np.tile(patients + 0.1, (3, 1)), patients[None])
        assert (found.low, found.high) == pytest.approx((0.1, 0.1))

    @given(arrays(float, (2, 7), elements=DICE), arrays(float, (3, 7), elements=DICE))
    def test_the_interval_lies_within_the_values(self, a, b):
        found = bootstrap_difference(a, b)
        assert a.min() - b.max() - 1e-9 <= found.low <= found.high <= a.max() - b.min() + 1e-9


class TestRanks:
    def test_equals_friedman_and_nemenyi_by_hand(self):
        values = pd.DataFrame(np.random.default_rng(7).uniform(size=(14, 4)), columns=list("dcba"))
        found = rank_methods(values)
        by_hand = values.rank(axis=1, ascending=False).mean()
        for method in "abcd":
            assert found.ranks[method] == pytest.approx(by_hand[method])
        assert found.p_friedman == pytest.approx(stats.friedmanchisquare(*values.to_numpy().T).pvalue)
        # Demšar 2006, table 5(a): q at 0.05 is 2.569 for four methods and 2.728 for five.
        assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
        assert critical_difference(5, 30) == pytest.approx(2.728 * np.sqrt(5 * 6 / (6 * 30)), abs=1e-3)

    def test_only_complete_patients_count_and_ties_share_ranks(self):
        values = pd.DataFrame({"a": [0.9, 0.8, np.nan], "b": [0.1, 0.2, 0.9]}, index=["p", "q", "r"])
        found = rank_methods(values)
        assert (found.n, found.n_dropped) == (2, 1)
        assert list(found.ranks) == [1.0, 2.0]
        found = rank_methods(pd.DataFrame({"a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.5, 0.5]}))
        assert list(found.ranks) == [2.0, 2.0, 2.0]
        assert found.p_friedman == 1.0
        assert found.groups == ((0, 2),)

    def test_lower_is_better_and_too_little_gives_a_reason(self):
        values = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
        assert rank_methods(values, lower_is_better=True).ranks.index[0] == "a"
        assert rank_methods(values).ranks.index[0] == "b"
        for shape in ((0, 3), (1, 3), (5, 1), (0, 0)):
            found = rank_methods(pd.DataFrame(np.ones(shape)))
            assert found.reason
            assert np.isnan(found.critical_difference)

    @given(st.lists(st.floats(1, 10), min_size=1, max_size=12).map(sorted), st.floats(0, 5))
    def test_groups_are_maximal_and_within_the_difference(self, ranks, difference):
        groups = rank_groups(ranks, difference)
        for first, last in groups:
            assert last == len(ranks) - 1 or ranks[last + 1] - ranks[first] > difference
        joined = {(i, j) for first, last in groups for i in range(first, last + 1) for j in range(i + 1, last + 1)}
        close = {
            (i, j) for i in range(len(ranks)) for j in range(i + 1, len(ranks)) if ranks[j] - ranks[i] <= difference
        }
        assert joined == close
