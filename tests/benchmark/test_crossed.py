"""The crossed test and the intervals, against mean squares by hand and in simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from uasbench.benchmark.crossed import (
    NO_SPREAD,
    SeedSpread,
    against_all,
    crossed_tests,
    generalised_half,
    is_skewed,
    mean_intervals,
    seed_spread,
)
from uasbench.experiments.diagnostics import inference

RNG = np.random.default_rng


def compared(one, other):
    return crossed_tests([one.mean(axis=0) - other.mean(axis=0)], [seed_spread(one)], [seed_spread(other)])


class TestCrossedTest:
    def test_is_the_analysis_of_variance_with_seeds_nested_in_methods(self):
        rng = RNG(0)
        seeds, patients = 4, 9
        values = (
            rng.normal(size=(2, 1, patients)) + rng.normal(size=(2, seeds, 1)) + rng.normal(size=(2, seeds, patients))
        )
        of_seed, of_patient, of_method = values.mean(axis=2), values.mean(axis=1), values.mean(axis=(1, 2))
        seeds_in_methods = patients * ((of_seed - of_method[:, None]) ** 2).sum() / (2 * (seeds - 1))
        interaction = of_patient - of_method[:, None] - of_patient.mean(axis=0) + of_method.mean()
        methods_by_patients = seeds * (interaction**2).sum() / (patients - 1)
        rest = values - of_seed[:, :, None] - of_patient[:, None] + of_method[:, None, None]
        residual = (rest**2).sum() / (2 * (seeds - 1) * (patients - 1))
        found = compared(*values)
        expected = 2 / seeds / patients * (methods_by_patients + seeds_in_methods - residual)
        assert found.error[0] ** 2 == pytest.approx(expected)
        assert found.t[0] == pytest.approx((of_method[0] - of_method[1]) / np.sqrt(expected))
        parts = [
            (methods_by_patients * 2 / seeds / patients, patients - 1),
            *((v.mean(axis=1).var(ddof=1) / seeds, seeds - 1) for v in values),
            *((seed_spread(v).residual, (seeds - 1) * (patients - 1)) for v in values),
        ]
        freedom = expected**2 / sum(square**2 / f for square, f in parts)
        assert found.freedom[0] == pytest.approx(freedom)
        assert found.p[0] == pytest.approx(2 * stats.t.sf(abs(found.t[0]), freedom))
        assert (found.low[0] > 0) == (found.p[0] < 0.05 and found.mean[0] > 0)

    def test_is_the_paired_t_test_where_seeds_do_not_differ(self):
        rng = RNG(1)
        one, other = rng.normal(size=(1, 12)), rng.normal(size=(1, 12))
        test = stats.ttest_rel(one[0], other[0])
        for first, second in ((one, other), (np.tile(one, (3, 1)), other)):
            found = compared(first, second)
            assert (found.t[0], found.p[0]) == pytest.approx((test.statistic, test.pvalue))
            interval = test.confidence_interval(0.95)
            assert (found.low[0], found.high[0]) == pytest.approx((interval.low, interval.high))

    def test_seeds_that_differ_widen_it(self):
        rng = RNG(2)
        patients, moved = rng.normal(size=(1, 10)), np.array([[-1.0], [0.0], [1.0]])
        narrow, wide = compared(patients + 0.5, np.zeros((1, 10))), compared(patients + 0.5 + moved, np.zeros((1, 10)))
        assert wide.error[0] > narrow.error[0]
        assert wide.p[0] > narrow.p[0]
        assert wide.freedom[0] < 9

    def test_too_little_is_undefined_and_equal_methods_have_p_1(self):
        same = crossed_tests([np.zeros(5)], [NO_SPREAD], [NO_SPREAD])
        assert (same.t[0], same.p[0], same.low[0], same.high[0]) == (0, 1, 0, 0)
        for vector in ([], [0.5], [0.5] * 4, [np.nan, 0.1]):
            assert np.isnan(crossed_tests([np.array(vector)], [NO_SPREAD], [NO_SPREAD]).p[0])
        two = crossed_tests([np.array([0.1, 0.3])], [NO_SPREAD], [NO_SPREAD])
        assert 0 < two.p[0] < 1
        assert np.isnan(two.low[0])
        # Every patient differs by the same amount, but seeds do not agree on it.
        steady = np.array([[0.1], [0.2], [0.4]]) + np.zeros((3, 6))
        assert 0 < compared(steady, np.zeros((1, 6))).p[0] < 1
        assert crossed_tests([], [], []).p.size == 0

    def test_a_seed_without_values_and_a_patient_without_some_are_left_out_of_the_spread(self):
        values = RNG(3).normal(size=(3, 8))
        more = np.full((4, 9), np.nan)
        more[:3, :8] = values
        more[0, 8] = 1.0
        assert seed_spread(more) == pytest.approx(seed_spread(values))
        assert seed_spread(values[:1]) == seed_spread(values[:, :1]) == NO_SPREAD


class TestMeanInterval:
    def test_skewed_samples_lean_to_their_tail_and_are_marked(self):
        tail = np.array([0.01, 0.02, 0.03, 0.03, 0.04, 0.05, 0.05, 0.06, 0.08, 0.9])
        (found,) = mean_intervals([tail], [NO_SPREAD])
        assert found.high - tail.mean() > 1.5 * (tail.mean() - found.low)
        assert found.skewed
        level = np.linspace(0.2, 0.8, 10)
        (found,) = mean_intervals([level], [NO_SPREAD])
        assert found.high - level.mean() == pytest.approx(level.mean() - found.low, rel=0.1)
        assert not found.skewed
        assert not is_skewed(np.array([0.1, 0.2]))

    def test_is_at_most_twice_as_wide_as_students(self):
        rare = np.array([0.0] * 8 + [0.3, 0.5])
        half = stats.t.ppf(0.975, 9) * stats.sem(rare)
        (found,) = mean_intervals([rare], [NO_SPREAD])
        assert half < found.high - rare.mean() <= 2 * half + 1e-12

    def test_the_mean_of_equal_values_is_known_as_the_seeds_know_it(self):
        (point,) = mean_intervals([np.full(6, 0.25)], [NO_SPREAD])
        assert np.isnan(point.low)
        values = np.array([[0.1], [0.2], [0.3]]) + np.zeros((3, 6))
        (found,) = mean_intervals([values.mean(axis=0)], [seed_spread(values)])
        half = stats.t.ppf(0.975, 2) * stats.sem(values[:, 0])
        assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half), abs=0.02 * half)

    def test_is_shifted_and_scaled_with_the_values(self):
        values = RNG(4).uniform(size=(3, 10))
        found, moved = (mean_intervals([v.mean(axis=0)], [seed_spread(v)])[0] for v in (values, 2 * values + 1))
        assert (moved.low, moved.high) == pytest.approx((2 * found.low + 1, 2 * found.high + 1))


class TestGeneralisedHalf:
    @settings(max_examples=40, deadline=None)
    @given(variance=st.floats(1e-6, 1e3), patients=st.integers(2, 200), seeds=st.integers(2, 20))
    def test_is_students_where_one_of_the_two_does_not_vary(self, variance, patients, seeds):
        freedom, rest = patients - 1, (patients - 1) * (seeds - 1)
        alone = generalised_half(variance, freedom, NO_SPREAD)
        assert alone == pytest.approx(stats.t.ppf(0.975, freedom) * variance**0.5)
        of_seeds = generalised_half(0.0, freedom, SeedSpread(variance, 0.0, seeds - 1, rest))
        wanted = stats.t.ppf(0.975, seeds - 1) * variance**0.5
        assert of_seeds == pytest.approx(wanted, rel=0.05 if seeds == 2 else 0.015)

    @settings(max_examples=40, deadline=None)
    @given(share=st.floats(0.05, 5), patients=st.integers(4, 60), seeds=st.integers(3, 8))
    def test_grows_with_what_seeds_add_and_shrinks_with_what_patients_explain_of_it(self, share, patients, seeds):
        freedom, rest = patients - 1, (patients - 1) * (seeds - 1)

        def half(between: float, residual: float = 0.0) -> float:
            return generalised_half(1.0, freedom, SeedSpread(between, residual, seeds - 1, rest))

        assert stats.t.ppf(0.975, freedom) * 0.98 < half(share) < half(2 * share)
        assert half(share, share / 2) < half(share)


class TestSimulated:
    """docs/statistics.md has the same with more repeats."""

    @pytest.mark.parametrize(
        ("design", "seed_sd", "residual"), [(0, 0, 0.3), (0, 0.5, 0.3), (0, 1, 0.1), (1, 0, 0.1), (1, 0.5, 0.3)]
    )
    def test_equal_methods_are_called_different_in_5_percent(self, design, seed_sd, residual):
        found = inference.rejections(inference.differing(inference.DESIGNS[design], seed_sd, residual, 3000))
        assert 0.03 < found["crossed"] < 0.065
        if seed_sd:
            assert found["paired t"] > 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("residual", inference.RESIDUALS)
    @pytest.mark.parametrize("seed_sd", inference.SEED_SPREADS)
    def test_two_methods_with_three_seeds_are_called_different_in_at_most_6_percent(self, seed_sd, residual):
        found = inference.rejections(inference.differing(inference.DESIGNS[0], seed_sd, residual, 20_000))
        assert found["crossed"] <= 0.06
        assert found["crossed"] >= 0.04 or residual > 0.3

    @pytest.mark.slow
    @pytest.mark.parametrize("name", [name for name in inference.SHAPES if "log-normal" not in name])
    def test_normal_and_zero_inflated_shapes_are_covered_in_94_percent(self, name):
        assert inference.coverage(name, 4000)["bootstrap-t"] >= 0.94

    @pytest.mark.parametrize("name", ["normal 1 / 0 / 0", "normal 1 / 0.3 / 0.3", "30 % missed, else Beta(1, 3)"])
    def test_intervals_cover(self, name):
        found = inference.coverage(name, 1000)
        assert found["bootstrap-t"] > 0.94
        assert found["percentile"] < 0.93


class TestAgainstAll:
    def test_is_the_comparison_that_is_won_least(self):
        rng = RNG(5)
        method = rng.normal(1.0, 1.0, 10)
        rivals = [rng.normal(level, 1.0, 10) for level in (0.0, 0.4, -2.0)]
        single = crossed_tests([method - r for r in rivals], [NO_SPREAD] * 3, [NO_SPREAD] * 3)
        found = against_all([[method - r for r in rivals]], [NO_SPREAD], [[NO_SPREAD] * 3], [1])
        assert found.p[0] == single.p.max()
        assert (found.low[0], found.high[0]) == (single.low.min(), single.high.min())
        flipped = against_all([[r - method for r in rivals]], [NO_SPREAD], [[NO_SPREAD] * 3], [-1])
        assert flipped.p[0] == found.p[0]
        assert (flipped.low[0], flipped.high[0]) == pytest.approx((-found.high[0], -found.low[0]))

    def test_without_a_gain_p_is_1_and_what_cannot_be_tested_is_undefined(self):
        worse, better = np.linspace(-1, 0, 8) - 0.1, np.linspace(1, 2, 8)
        found = against_all([[worse, better], [better, better[:1]]], [NO_SPREAD] * 2, [[NO_SPREAD] * 2] * 2, [1, 1])
        assert found.p[0] == 1
        assert found.mean[0] == pytest.approx(worse.mean())
        assert np.isnan(found.p[1])
        assert against_all([], [], [], []).p.size == 0

    def test_choosing_the_best_baseline_overclaims_and_beating_all_does_not(self):
        found = inference.best_of_baselines("others 0.5 and 1 worse", 400)
        assert found["cross-fitted"][1] > 0.05 > found["all to be beaten"][1]
