"""Numbers of masks, of held-out healthy scans and of patients against a count voxel by voxel and pair by pair."""

from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.benchmark.runs.records import Threshold
from uasbench.benchmark.scoring.cases import ArrayCase, CaseReader, HealthyMap
from uasbench.benchmark.scoring.metrics import NO_LESION, ONE_PATIENT_KIND
from uasbench.benchmark.scoring.readouts import MaskMetrics, MeasuredCase, healthy_scans
from uasbench.benchmark.scoring.slices import SliceMetrics
from uasbench.datasets.case import Case, Truth

seeds = st.integers(0, 2**32 - 1)
spacings = st.tuples(*[st.sampled_from([0.7, 1.0, 2.5, 5.0])] * 3)
LEVELS = np.arange(4, dtype=np.float32)  # few, so that scores tie with each other and with thresholds


def drawn(seed, spacing, share=0.3, patient=""):
    """A small case whose map has few levels and whose region and lesion are ragged; of a share 0 it is healthy."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, 3))
    map_, roi = rng.choice(LEVELS, shape), rng.random(shape) < 0.7
    roi.flat[rng.integers(roi.size)] = True
    scan = Case(f"c{seed}", patient or f"p{seed}", map_, spacing, roi)
    return ArrayCase(scan, map_, Truth(scan.id, rng.random(shape) < share))


def measured(cases):
    reader = CaseReader(cases, 1 << 20)
    return [MeasuredCase(i, case, reader.read(i)) for i, case in enumerate(cases)]


def thresholds(cases, value=1.0):
    return {"val": {case.patient: Threshold(protocol="val", threshold=value) for case in cases}}


def voxels(case):
    """Yield whether each voxel of the region is called above 1, and whether it is lesion."""
    for place in zip(*np.nonzero(case.scan.roi), strict=True):
        yield bool(case.map[place] > 1), bool(case.truth.lesion[place])


@given(seeds, spacings, st.sampled_from([0.0, 0.05, 0.4]))
def test_volumes_of_a_mask_are_those_of_a_count_of_voxels(seed, spacing, share):
    case = drawn(seed, spacing, share)
    rows = MaskMetrics(thresholds([case]), set(), {"val": ["mask"]}).add(*measured([case]))
    found = {row.metric: row.value for row in rows}
    ml = spacing[0] * spacing[1] * spacing[2] / 1000
    called, lesion = (sum(which) for which in zip(*voxels(case), strict=True))
    if lesion:
        assert found == {"volume_error_ml": pytest.approx(abs(called - lesion) * ml)}
        return
    region = int(case.scan.roi.sum())
    expected = {"volume_error_ml": None, "fp_volume_ml": pytest.approx(called * ml), "fp_share": called / region}
    assert found == expected
    assert [row.reason for row in rows if row.value is None] == [NO_LESION]


@given(
    st.lists(st.tuples(seeds, spacings), max_size=4, unique_by=lambda drawing: drawing[0]), st.sets(st.integers(0, 3))
)
def test_what_is_called_in_healthy_scans_is_a_count_of_voxels_with_folds_averaged(scans, folds):
    cases = [drawn(seed, spacing, 0.0) for seed, spacing in scans]
    of_folds = {f"q{fold}": Threshold(protocol="val", fold=fold, threshold=float(fold)) for fold in folds}
    found = healthy_scans([HealthyMap(case.scan, case.map) for case in cases], {"val": of_folds})
    called, region, volumes = 0.0, 0, []
    for case in cases if folds else ():
        inside = [case.map[place] for place in zip(*np.nonzero(case.scan.roi), strict=True)]
        mean = fmean(sum(score > fold for score in inside) for fold in folds)
        called, region = called + mean, region + len(inside)
        volumes.append(mean * np.prod(case.scan.spacing) / 1000)
    expected = {} if not volumes else {"healthy_fp_volume_ml": fmean(volumes), "healthy_share": called / region}
    assert {row.metric: row.value for row in found} == pytest.approx(expected)


@given(st.lists(st.tuples(seeds, st.sampled_from("abcd"), st.sampled_from([0.0, 0.4])), min_size=1, max_size=7,
                unique_by=lambda drawing: drawing[0]))  # fmt: skip
def test_patients_are_ranked_as_all_pairs_of_them_are(scans):
    cases = [drawn(seed, (1.0, 1.0, 1.0), share, patient) for seed, patient, share in scans]
    metrics = SliceMetrics("max", np.empty(0, np.float32), {})
    for one in measured(cases):
        metrics.add(one)
    found = {row.metric: row for row in metrics.pooled() if row.metric.startswith("patient_")}
    highest, ill = {}, set()
    for case in cases:
        inside = case.map[case.scan.roi]
        highest[case.patient] = max(highest.get(case.patient, -1.0), float(inside.max()))
        ill |= {case.patient} if (case.truth.lesion & case.scan.roi).any() else set()
    well = highest.keys() - ill
    if not ill or not well:
        assert {(row.value, row.reason) for row in found.values()} == {(None, ONE_PATIENT_KIND)}
        return
    won = [(highest[a] > highest[b]) + 0.5 * (highest[a] == highest[b]) for a in ill for b in well]
    assert found["patient_auroc"].value == pytest.approx(fmean(won))
    above = [highest[a] > max(highest[b] for b in well) for a in ill]  # of four patients none may be called in error
    assert found["patient_sen95"].value == pytest.approx(fmean(above))
