"""The rule that says whether a training has flattened, on curves whose answer is known."""

import numpy as np
import pytest
from uasbench.benchmark.commands.running import run
from uasbench.benchmark.convergence import WatchedCurves, judge, mean_ratios, verdict_on
from uasbench.benchmark.runs.records import Convergence
from uasbench.reports.columns import facts

T = np.linspace(0, 1, 25)
NOISE = 1 + 0.03 * np.random.default_rng(0).standard_normal((50, 25))


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        (0.2 + np.exp(-12 * T), "flattened"),
        (np.exp(-3 * T), "falling"),
        (1 / (1 + 20 * T), "falling"),
        (0.2 + np.exp(-12 * T) + 0.8 * T**4, "rising"),
        (np.full(25, 0.3), "flattened"),
    ],
)
def test_the_verdict_withstands_noise_and_does_not_depend_on_the_unit(curve, verdict):
    assert {judge(curve * noise)[0] for noise in NOISE} == {verdict}
    assert judge(1000 * curve)[0] == verdict


def test_a_spike_is_no_trend():
    settled = np.full(25, 0.02)
    settled[22] = 0.4
    assert judge(settled) == ("flattened", 1.0)


def test_a_loss_that_reaches_zero_is_judged_by_the_range_of_its_curve():
    settled, falling = -np.tanh(8 * T), -T
    assert [judge(curve + shift)[0] for curve in (settled, falling) for shift in (-5, 0)] == [
        "flattened", "flattened", "falling", "falling"
    ]  # fmt: skip
    assert judge(np.zeros(25)) == ("flattened", 1.0)


def test_few_points_say_nothing():
    assert judge([1.0] * 9) == ("not watched", None)
    assert judge([]) == ("not watched", None)


def test_phases_are_judged_apart_by_all_their_points_of_which_some_are_kept():
    watched = WatchedCurves()
    for step in range(200):
        watched.log(step, {"held_out": 1.0, "loss": 9.0})
        watched.log(step, {"two/held_out": 1 / (1 + step)})
    one, two = watched.judged()
    assert [(c.phase, c.verdict, len(c.points)) for c in (one, two)] == [("", "flattened", 25), ("two", "falling", 25)]
    assert (two.points[0], two.points[-1]) == ((0, 1.0), (199, 1 / 200))


def marked(records, ratios):
    """Return whether the tables mark a method with these ratios, one for each of its records."""
    fits = zip(records, ratios, strict=True)
    judged = [
        r.model_copy(update={"convergence": [r.convergence[0].model_copy(update={"ratio": ratio})]})
        for r, ratio in fits
    ]
    (found,) = facts(judged).values()
    return "not-converged" in found.flags


def test_of_several_fits_the_mean_counts_by_phase():
    def fit(phase, ratio):
        return Convergence(phase=phase, points=[], ratio=ratio, verdict="flattened", rule=2)

    fits = [fit("one", 0.9), fit("two", None), fit("one", 1.0), fit("two", 1.2)]
    assert mean_ratios(fits) == pytest.approx({"one": 0.95, "two": 1.2})
    assert [verdict_on(ratio) for ratio in (0.9, 1.0, 1.1)] == ["falling", "flattened", "rising"]


def test_settled_curves_that_flicker_fall_now_and_then_and_not_on_average():
    flicker = 1 + 0.08 * np.random.default_rng(1).standard_normal((600, 25))
    verdicts, ratios = zip(*map(judge, flicker), strict=True)
    assert 0.1 < verdicts.count("falling") / len(verdicts) < 0.25
    assert {verdict_on(np.mean(group)) for group in np.reshape(ratios, (40, 15))} == {"flattened"}


@pytest.mark.slow
def test_a_run_watches_by_the_patients_who_calibrate_and_says_so_in_its_records(smoke):
    settings = {"ae": {"updates": "30"}}
    folder = run(smoke("two-stage,ae,padim,hu-deviation", settings=settings))[0]
    records = {r.cell.method: r for r in folder.records()}
    assert {c.phase for c in records["two-stage"].convergence} == {"restoration", "segmentation"}
    (ae,) = records["ae"].convergence
    assert [step for step, _ in ae.points][:: len(ae.points) - 1] == [0, 30]
    assert ae.verdict in ("falling", "flattened", "rising")
    assert not marked([records["ae"]], [0.5])  # a claim of the longer profiles alone
    standard = records["ae"].model_copy(update={"profile": "standard"})
    assert marked([standard], [0.94])
    assert not marked([standard], [0.96])
    assert not marked([standard], [1.2])
    assert not marked([standard] * 3, [0.9, 1.02, 0.99])
    assert marked([standard] * 3, [0.9, 0.9, 1.0])
    assert not any(records[name].convergence for name in ("padim", "hu-deviation") if name in records)
