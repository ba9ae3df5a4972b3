"""Where thresholds come from: every protocol against its definition on the raw maps."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from uasbench.benchmark.protocols import evidence
from uasbench.benchmark.protocols.catalogue import PROTOCOLS
from uasbench.benchmark.protocols.evidence import NO_LESIONS, Evidence, MeasureOptions
from uasbench.benchmark.scoring.cases import ArrayCase, CaseReader
from uasbench.benchmark.scoring.lesions import confusion
from uasbench.datasets.case import Truth


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
    values = [dice(counts, i, threshold) for i in range(len(counts.reader))]
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


def test_val_is_never_worse_on_its_tuning_patients_than_the_plain_optimum(cell):
    plain = choose("val", cell, 3, **PLAIN_ONLY)
    chosen = choose("val", cell, 12)
    for one, other in zip(plain, chosen, strict=True):
        assert other.value >= one.value - 1e-6
        assert (one.smoothing_mm, one.min_size_mm3, one.drawn) == (0, 0, [])
    assert any(t.smoothing_mm or t.min_size_mm3 for t in chosen)


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


def test_one_patient_and_no_lesion_carry_their_reason(make):
    single = counted([make(0, "p0"), make(1, "p0")])
    (val,) = choose("val", single)
    assert val.threshold is None
    assert "1 patient" in val.reason
    healthy = counted([make(k, lesion=False) for k in range(3)])
    assert all(t.reason == NO_LESIONS for t in choose("val", healthy))
    assert oracle(healthy)[0].reason == NO_LESIONS
    assert choose("oracle-pooled", healthy)[0].reason == NO_LESIONS


def test_a_fold_without_lesions_to_tune_on_is_not_available(make):
    cell = counted([make(k, lesion=k == 0) for k in range(3)])
    by_patient = {t.patients[0]: t for t in choose("val", cell)}
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


def test_smoothing_wins_where_noise_is_white(make):
    cell = counted([make(k, noise=1.5) for k in range(6)])
    assert {t.smoothing_mm for t in choose("val", cell)} <= {1.5, 3.0}


def test_minimum_size_wins_where_false_positives_are_specks(make):
    cases = []
    for k in range(4):
        case = make(k, noise=0.0)
        rng = np.random.default_rng(k)
        specks = rng.random(case.map.shape) < 0.01
        map_ = np.where(case.truth.lesion | specks, 1, 0) + 0.1 * gaussian_filter(rng.normal(size=case.map.shape), 1)
        cases.append(replace(case, map=map_.astype(np.float32)))
    found = choose("val", counted(cases), smoothing_mm=(0.0,))
    assert all(t.min_size_mm3 in (10, 50) for t in found)
