"""Where thresholds come from: every protocol against its definition on the raw maps."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from uasbench.benchmark.protocols import evidence
from uasbench.benchmark.protocols.catalogue import PROTOCOLS
from uasbench.benchmark.protocols.evidence import NO_LESIONS, Evidence, MeasureOptions
from uasbench.benchmark.protocols.paper_lung import TAIL, score_range
from uasbench.benchmark.scoring.cases import ArrayCase, CaseReader
from uasbench.benchmark.scoring.lesions import confusion
from uasbench.datasets.case import Case, Truth


def counted(cases: list[ArrayCase]) -> Evidence:
    return Evidence.of(CaseReader(cases, 1 << 30), MeasureOptions())


def choose(*args, **choices):
    """Return the thresholds of a protocol."""
    return find(*args, **choices)[0]


def find(protocol: str, counts: Evidence, trials: int = 12, healthy=(), **choices):
    options = MeasureOptions(trials=trials, **choices)
    return PROTOCOLS[protocol].thresholds(replace(counts, options=options, healthy=healthy))


def oracle(counts: Evidence, trials: int = 12, **choices):
    (threshold,), bound = find("oracle", counts, trials, **choices)
    return threshold, bound


def dice(counts: Evidence, i: int, threshold) -> float | None:
    case = counts.reader.read(i)
    found = confusion(case.binarise(threshold), case.lesion)
    return 2 * found.tp / (found.predicted + found.positives) if found.positives else None


def patient_mean(counts: Evidence, threshold) -> float:
    values = [dice(counts, i, threshold) for i in range(len(counts.reader.cases))]
    return float(np.mean([v for v in values if v is not None]))


PLAIN_ONLY: dict[str, Any] = {"smoothing_mm": (0.0,), "min_size_mm3": (0.0,)}


@pytest.fixture(scope="module")
def cell(make) -> Evidence:
    return counted([make(k, lesion=k != 2) for k in range(5)])


def test_oracle_is_the_exhaustive_search_over_all_patients(cell):
    threshold, bound = oracle(cell, **PLAIN_ONLY)
    scores = np.concatenate([cell.reader.read(i).scores for i in range(5)])

    def mean(t: float) -> float:
        return patient_mean(cell, threshold.model_copy(update={"threshold": float(t)}))

    assert threshold.value == pytest.approx(mean(threshold.threshold), abs=1e-12)
    assert threshold.value >= max(mean(t) for t in np.unique(scores)[-400:]) - 1e-6
    assert bound == 0
    assert threshold.quantile == pytest.approx(np.mean(scores <= np.float32(threshold.threshold)))
    assert threshold.patients == threshold.tuned_on == [f"p{k}" for k in range(5)]
    assert (threshold.smoothing_mm, threshold.min_size_mm3) == (0, 0)


def test_oracle_bounds_every_choice_that_val_may_make_and_val_reaches_its_value(cell):
    best, bound = oracle(cell, 20)
    assert best.value == pytest.approx(patient_mean(cell, best), abs=1e-9)
    assert best.drawn == ["p0", "p1", "p3", "p4"]
    found = choose("val", cell, 20)
    assert any(t.smoothing_mm or t.min_size_mm3 for t in found)
    for t in found:
        assert patient_mean(cell, t) <= best.value + bound + 1e-9
        values = [dice(cell, i, t) for i in range(5) if f"p{i}" in t.tuned_on]
        assert np.mean([v for v in values if v is not None]) == pytest.approx(t.value, abs=1e-9)


def test_oracle_post_processes_where_one_patient_leaves_val_nothing(make):
    single = counted([make(0, "p0", noise=1.5), make(1, "p0", noise=1.5)])
    assert oracle(single)[0].smoothing_mm > 0
    assert choose("val", single)[0].threshold is None


def test_oracle_pooled_maximises_the_pooled_dice(cell):
    (threshold,) = choose("oracle-pooled", cell)
    scores = np.concatenate([cell.reader.read(i).scores for i in range(5)])
    labels = np.concatenate([cell.reader.read(i).labels for i in range(5)])

    def pooled(t: float) -> float:
        mask = scores > np.float32(t)
        return 2 * (mask & labels).sum() / (mask.sum() + labels.sum())

    assert threshold.value == pytest.approx(pooled(threshold.threshold), abs=1e-12)
    assert threshold.value >= max(pooled(t) for t in np.unique(scores)) - 1e-12


def test_no_patient_tunes_its_own_threshold(cell):
    thresholds = choose("val", cell)
    assert sorted(p for t in thresholds for p in t.patients) == [f"p{k}" for k in range(5)]
    for t in thresholds:
        assert not set(t.patients) & set(t.tuned_on)
        assert set(t.drawn) <= set(t.tuned_on) - {"p2"}
        assert t.study == f"cell/val/fold-{t.fold}"


def test_labels_of_a_patient_do_not_move_its_own_threshold(make):
    cases = [make(k) for k in range(4)]
    changed = [*cases[:3], replace(cases[3], truth=Truth("c3", np.roll(cases[3].truth.lesion, 5, 1)))]
    one, other = (choose("val", counted(c)) for c in (cases, changed))
    own = [t for t in one if t.patients == ["p3"]]
    assert own == [t for t in other if t.patients == ["p3"]]
    assert one != other


def test_post_processing_uses_a_limited_number_of_drawn_patients(make, monkeypatch):
    monkeypatch.setattr(evidence, "MAX_DRAWN", 4)
    cases = [make(k, noise=0.3) for k in range(12)]
    few = {"smoothing_mm": (0.0, 3.0), "min_size_mm3": (0.0,), "fold_seed": 3}
    thresholds = choose("val", counted(cases), 2, **few)
    assert len(thresholds) == 5
    for t in thresholds:
        assert len(t.drawn) == 4
        assert set(t.drawn) < set(t.tuned_on)
        assert 0 <= t.value <= 1.0 + 1e-9  # on drawn patients alone it would be shifted
    assert choose("val", counted(cases), 2, **few) == thresholds
    assert len(oracle(counted(cases), 2, **few)[0].drawn) == 4


def test_one_patient_and_no_lesion_carry_their_reason(make, unit):
    (val,) = choose("val", counted([make(0, "p0"), make(1, "p0")]))
    assert val.threshold is None
    assert "1 patient" in val.reason
    healthy = counted([make(k, lesion=False) for k in range(3)])
    assert all(t.reason == NO_LESIONS for t in choose("val", healthy))
    assert oracle(healthy)[0].reason == NO_LESIONS
    assert choose("oracle-pooled", healthy)[0].reason == NO_LESIONS
    threshold, bound = search([unit(k, lesion=False) for k in range(2)])
    assert (threshold.threshold, threshold.reason, bound) == (None, NO_LESIONS, 0)
    one = counted([make(k, lesion=k == 0) for k in range(3)])
    by_patient = {t.patients[0]: t for t in choose("val", one)}
    assert by_patient["p0"].reason == NO_LESIONS
    assert by_patient["p1"].threshold is not None


@pytest.mark.parametrize(("protocol", "share"), [("healthy-q95", 0.05), ("healthy-q99", 0.01)])
def test_healthy_thresholds_leave_the_asked_share_of_healthy_voxels(cell, protocol, share):
    scores = [np.random.default_rng(k).gamma(2, size=5000).astype(np.float32) for k in range(2)]
    (threshold,) = choose(protocol, cell, healthy=scores)
    together = np.concatenate(scores)
    assert (together > np.float32(threshold.threshold)).mean() == pytest.approx(share, abs=1e-4)
    assert threshold.quantile == (together <= np.float32(threshold.threshold)).mean() >= 1 - share
    assert (threshold.tuned_on, threshold.study) == ([], None)
    (missing,) = choose(protocol, cell, healthy=[np.empty(0, np.float32)])
    assert "no held-out healthy scans" in missing.reason


def test_native_and_paper_liver_need_a_native_threshold(cell):
    for protocol, value in (("native", 0.95), ("paper-liver", 0.5)):
        assert choose(protocol, cell)[0].reason == "the method has no native threshold"
        assert choose(protocol, cell, native_threshold=0.95)[0].threshold == value


def test_smoothing_wins_where_noise_is_white_and_minimum_size_where_false_positives_are_specks(make):
    white = counted([make(k, noise=1.5) for k in range(6)])
    assert {t.smoothing_mm for t in choose("val", white)} <= {1.5, 3.0}
    cases = []
    for k in range(4):
        case = make(k, noise=0.0)
        rng = np.random.default_rng(k)
        specks = rng.random(case.map.shape) < 0.01
        map_ = np.where(case.truth.lesion | specks, 1, 0) + 0.1 * gaussian_filter(rng.normal(size=case.map.shape), 1)
        cases.append(replace(case, map=map_.astype(np.float32)))
    found = choose("val", counted(cases), smoothing_mm=(0.0,))
    assert all(t.min_size_mm3 in (10, 50) for t in found)


# the two-decimal oracle of the lung paper against its definition on the raw maps


@pytest.fixture
def unit(make):
    """Return ``unit(k, patient, scale=, shift=)``: a case whose map lies in [0, 1], or is moved from there."""

    def call(k: int, patient: str = "", *, scale: float = 1.0, shift: float = 0.0, lesion: bool = True) -> ArrayCase:
        case = make(k, patient, lesion=lesion)
        case.truth.lesion[1, 6 : 6 + k, 8:14] = lesion
        return replace(case, map=(scale * np.clip(0.25 + 0.12 * case.map, 0, 1) + shift).astype(np.float32))

    return call


def search(cases, trials: int = 3):
    (threshold,), bound = find("paper-lung", counted(cases), trials)
    return threshold, bound


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


def test_it_never_beats_the_oracle_and_depends_on_no_number_of_trials(unit):
    cases = [unit(k) for k in range(3)]
    few, many = (search(cases, trials)[0] for trials in (1, 40))
    assert (few.threshold, few.value) == (many.threshold, many.value)
    best, _ = oracle(counted(cases), 1, **PLAIN_ONLY)
    assert best.value - 0.02 < few.value <= best.value + 0.005


def test_the_unit_is_the_volume_not_the_patient_and_a_constant_map_is_safe(unit):
    cases = [unit(0, "a"), unit(1, "a"), unit(3, "b")]
    threshold, bound = search(cases)
    assert threshold.value == pytest.approx(mean_dice(cases, threshold.threshold), abs=bound)
    assert threshold.patients == ["a", "b"]
    for value in (0.0, 0.3, 7.0):
        constant = [replace(c, map=np.full(c.map.shape, value, np.float32)) for c in cases]
        threshold, _ = search(constant)
        assert threshold.value == pytest.approx(mean_dice(constant, threshold.threshold))


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
