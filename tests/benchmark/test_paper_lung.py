"""Protocol ``paper-lung``: the two-decimal oracle of the lung paper against its definition on the raw maps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uasbench.benchmark.protocols.catalogue import PROTOCOLS
from uasbench.benchmark.protocols.evidence import NO_LESIONS, Evidence, MeasureOptions
from uasbench.benchmark.protocols.paper_lung import TAIL, greedy, paper_lung, score_range
from uasbench.benchmark.scoring.cases import ArrayCase, CaseReader
from uasbench.datasets.case import Case, Truth


@pytest.fixture
def unit(make):
    """Return ``unit(k, patient, scale=, shift=)``: a case whose map lies in [0, 1], or is moved from there."""

    def call(k: int, patient: str = "", *, scale: float = 1.0, shift: float = 0.0, lesion: bool = True) -> ArrayCase:
        case = make(k, patient, lesion=lesion)
        case.truth.lesion[1, 6 : 6 + k, 8:14] = lesion
        return replace(case, map=(scale * np.clip(0.25 + 0.12 * case.map, 0, 1) + shift).astype(np.float32))

    return call


def counted(cases, **options) -> Evidence:
    return Evidence.of(CaseReader(cases, 1 << 30), MeasureOptions(**options))


def search(cases, trials: int = 3):
    return paper_lung("paper-lung", counted(cases, trials=trials))


def mean_dice(cases, threshold: float) -> float:
    values = []
    for case in cases:
        mask, truth = (case.map > np.float32(threshold)) & case.scan.roi, case.truth.lesion
        if truth.any():
            values.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    return float(np.mean(values))


def by_hand(cases, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """Search all tenths, then the hundredths around the best one, as a reader of the paper would."""

    def value(k: int) -> float:
        return mean_dice(cases, low + k / 100 * (high - low))

    best = max(range(0, 101, 10), key=lambda k: (value(k), -k))
    best = max(range(max(0, best - 9), min(100, best + 9) + 1), key=lambda k: (value(k), -k))
    return low + best / 100 * (high - low), value(best)


def test_maps_in_the_unit_interval_get_a_threshold_of_two_decimals(unit):
    cases = [unit(k, lesion=k != 2) for k in range(4)]
    threshold, bound = search(cases)
    expected, value = by_hand(cases)
    assert threshold.threshold == pytest.approx(expected, abs=1e-12)
    assert round(threshold.threshold, 2) == threshold.threshold
    assert threshold.value == pytest.approx(value, abs=bound + 1e-12)
    assert bound < 0.01
    assert threshold.protocol == "paper-lung"
    assert threshold.patients == threshold.tuned_on == ["p0", "p1", "p2", "p3"]
    assert threshold.study == "cell/paper-lung"
    share = np.mean(np.concatenate([c.map[c.scan.roi] for c in cases]) <= np.float32(expected))
    assert threshold.quantile == pytest.approx(share)


@pytest.mark.parametrize(("scale", "shift"), [(1800.0, -1000.0), (1e-3, 5.0), (-2.0, 0.0)])
def test_other_maps_get_hundredths_of_their_range(scale, shift, unit):
    cases = [unit(k, scale=scale, shift=shift) for k in range(3)]
    low, high = score_range(counted(cases).curves)
    scores = np.concatenate([c.map[c.scan.roi] for c in cases])
    assert (scores <= low).mean() >= TAIL
    assert (scores > high).mean() <= TAIL
    threshold, bound = search(cases)
    expected, value = by_hand(cases, low, high)
    assert threshold.threshold == pytest.approx(expected, rel=1e-6)
    assert threshold.value == pytest.approx(value, abs=bound + 1e-12)


def test_one_huge_score_in_ten_thousand_does_not_stretch_the_levels(unit):
    cases = [unit(k, scale=1000.0) for k in range(9)]
    assert sum(int(c.scan.roi.sum()) for c in cases) > 1 / TAIL
    plain = search(cases)[0].value
    cases[0].map[1, 5, 5] = 1e9
    assert search(cases)[0].value == pytest.approx(plain, abs=0.01)


def test_the_unit_is_the_volume_not_the_patient(unit):
    cases = [unit(0, "a"), unit(1, "a"), unit(3, "b")]
    threshold, bound = search(cases)
    assert threshold.value == pytest.approx(mean_dice(cases, threshold.threshold), abs=bound)
    assert threshold.patients == ["a", "b"]


def test_it_never_beats_the_oracle_and_depends_on_no_number_of_trials(unit):
    cases = [unit(k) for k in range(3)]
    few, many = (search(cases, trials)[0] for trials in (1, 40))
    assert (few.threshold, few.value) == (many.threshold, many.value)
    plain = counted(cases, trials=1, smoothing_mm=(0.0,), min_size_mm3=(0.0,))
    (oracle,), _ = PROTOCOLS["oracle"].thresholds(plain)
    assert few.value <= oracle.value + 0.005
    assert few.value > oracle.value - 0.02


def test_without_a_lesion_there_is_no_threshold(unit):
    threshold, bound = search([unit(k, lesion=False) for k in range(2)])
    assert (threshold.threshold, threshold.reason, bound) == (None, NO_LESIONS, 0)


@pytest.mark.parametrize("value", [0.0, 0.3, 7.0])
def test_a_constant_map_is_safe(value, unit):
    cases = [replace(c, map=np.full(c.map.shape, value, np.float32)) for c in (unit(0), unit(1))]
    threshold, _ = search(cases)
    assert threshold.value == pytest.approx(mean_dice(cases, threshold.threshold))


def test_the_bound_covers_what_the_bins_hide():
    rng = np.random.default_rng(5)
    shape = (12, 120, 120)
    cases = []
    for k in range(2):
        truth = np.zeros(shape, bool)
        truth[2:6, 30:70, 30:80] = True
        map_ = np.clip(0.3 + 0.01 * rng.normal(size=shape) + 0.01 * truth, 0, 1).astype(np.float32)
        cases.append(ArrayCase(Case(f"c{k}", f"p{k}", map_, (1.0,) * 3, np.ones(shape, bool)), map_, Truth("", truth)))
    threshold, bound = search(cases)
    assert abs(threshold.value - mean_dice(cases, threshold.threshold)) <= bound < 1e-3


@given(st.lists(st.floats(0, 1), min_size=101, max_size=101))
@settings(max_examples=30, deadline=None)
def test_the_greedy_search_visits_the_tenths_and_the_neighbours_of_the_best(values):
    levels = greedy(np.array(values))
    assert set(range(0, 101, 10)) <= set(levels.tolist()) <= set(range(101))
    best = max(range(0, 101, 10), key=lambda k: (values[k], -k))
    extra = set(levels.tolist()) - set(range(0, 101, 10))
    assert extra == {k for k in range(max(0, best - 9), min(100, best + 9) + 1) if k % 10}
