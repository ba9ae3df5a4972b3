"""The bright-voxel read-out against scikit-learn, with *healthy* as the positive class."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from uasbench.benchmark.protocols.measuring import MeasureOptions, measure
from uasbench.benchmark.scoring.cases import ArrayCase
from uasbench.benchmark.scoring.readouts import BRIGHT_HU

SHAPE = (6, 20, 20)
RATES = ("bright_psc", "bright_sen", "bright_spe")
METRICS = (*RATES, "bright_auroc")
PLAIN = {"trials": 1, "anatomy": "lung", "native_threshold": 1.0, "smoothing_mm": (0.0,), "min_size_mm3": (0.0,)}


def run(cases, **options):
    return measure(cases, [], MeasureOptions(**(PLAIN | options)))


def of_case(result, case: str) -> dict:
    return {v.metric: v for v in result.per_case if v.case == case and v.metric in METRICS}


def pooled(result) -> dict:
    return {v.metric: v for v in result.pooled if v.metric in METRICS}


def bright(case):
    where = case.scan.roi & (case.scan.image >= -500)
    return case.map[where], case.truth.lesion[where]


def reference(scores, lesion, threshold=1.0) -> dict[str, float]:
    healthy, kept = ~lesion, scores <= np.float32(threshold)
    return {
        "bright_psc": precision_score(healthy, kept),
        "bright_sen": recall_score(healthy, kept),
        "bright_spe": recall_score(healthy, kept, pos_label=0),
        "bright_auroc": roc_auc_score(healthy, -scores),
    }


@pytest.fixture(scope="module")
def cell(make):
    cases = [make(k, lesion=k != 2) for k in range(4)]
    return cases, run(cases)


def test_every_case_agrees_with_scikit_learn(cell):
    cases, result = cell
    for case in (cases[0], cases[1], cases[3]):
        found = {m: v.value for m, v in of_case(result, case.id).items()}
        assert found == pytest.approx(reference(*bright(case)), abs=1e-12)


def test_pooled_values_are_those_of_all_bright_voxels_together(cell):
    cases, result = cell
    parts = [bright(c) for c in cases]
    scores, lesion = (np.concatenate([p[i] for p in parts]) for i in range(2))
    assert {m: v.value for m, v in pooled(result).items()} == pytest.approx(reference(scores, lesion), abs=1e-12)
    assert {v.unit for v in pooled(result).values()} == {"pooled"}
    assert 0 <= result.error_bounds["bright_auroc"] < 1e-3
    for values in (of_case(result, "c0"), pooled(result)):
        assert {m: v.protocol for m, v in values.items()} == dict.fromkeys(RATES, "native") | {"bright_auroc": "none"}


def test_a_case_without_lesion_has_sensitivity_alone(cell):
    cases, result = cell
    found = of_case(result, "c2")
    scores, _ = bright(cases[2])
    assert found["bright_sen"].value == pytest.approx((scores <= np.float32(1.0)).mean())
    for metric in ("bright_psc", "bright_spe", "bright_auroc"):
        assert found[metric].value is None
        assert found[metric].reason


def test_only_bright_voxels_count_and_minus_500_is_bright(make):
    case = make(0)
    dark = case.scan.image < BRIGHT_HU
    changed = replace(case, map=np.where(dark, np.float32(0.9), case.map))
    assert of_case(run([case, make(1)]), "c0") == of_case(run([changed, make(1)]), "c0")
    image = np.full(SHAPE, -500.0, np.float32)
    at, below = (of_case(run([make(0, image=im), make(1)]), "c0") for im in (image, np.nextafter(image, -1000)))
    assert at["bright_auroc"].value is not None
    assert {v.value for v in below.values()} == {None}


def test_everything_called_anomalous_keeps_nothing_and_without_a_native_threshold_only_auroc_is_there(make):
    found = of_case(run([make(0)], native_threshold=-10.0), "c0")
    assert [found[m].value for m in RATES] == [0, 0, 1]
    result = run([make(0), make(1)], native_threshold=None)
    for values in (of_case(result, "c0"), pooled(result)):
        assert values["bright_auroc"].value is not None
        for metric in RATES:
            assert values[metric].value is None
            assert values[metric].reason == "the method has no native threshold"


def test_post_processing_of_the_method_does_not_enter(make):
    plain = run([make(0), make(1)])
    masked = run([make(k, mask=np.zeros(SHAPE, bool)) for k in range(2)])
    assert pooled(masked) == pooled(plain)


def test_scans_are_read_one_at_a_time(make):
    live = []

    class Counting(ArrayCase):
        def image(self):
            live.append(self.id)
            return super().image()

    cases = [Counting(c.scan, c.map, c.truth) for c in (make(k) for k in range(3))]
    run(cases, cache_mib=0)
    assert live == ["c0", "c1", "c2"]
