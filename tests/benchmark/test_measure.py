"""The measure stage: from maps and truths to the numbers of a record."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from uasbench.benchmark.protocols.catalogue import protocols_of
from uasbench.benchmark.protocols.measuring import MeasureError, MeasureOptions, measure
from uasbench.benchmark.runs import map_store
from uasbench.benchmark.scoring.bins import ScoreError
from uasbench.benchmark.scoring.cases import ArrayCase, HealthyMap, MeasureCase
from uasbench.benchmark.scoring.metrics import sign
from uasbench.benchmark.scoring.ranking_metrics import sorted_curves
from uasbench.benchmark.scoring.smoothing import smooth
from uasbench.common.errors import DataError
from uasbench.datasets.case import Case, Truth
from uasbench.datasets.views.slice_geometry import Geometry

SHAPE = (6, 20, 20)
SPACING = (2.0, 1.0, 1.0)


@pytest.fixture
def healthy(make) -> HealthyMap:
    return HealthyMap(make(50, lesion=False).scan, make(50, lesion=False).map)


def run(cases, parts=(), **options):
    return measure(cases, parts, MeasureOptions(**({"trials": 3} | options)))


def ids(anatomy):
    return {p.id for p in protocols_of(anatomy)}


def pooled(result, protocol, metric):
    (found,) = [v for v in result.pooled if (v.protocol, v.metric) == (protocol, metric)]
    return found


def of_case(result, case, protocol, metric):
    (found,) = [v for v in result.per_case if (v.case, v.protocol, v.metric) == (case, protocol, metric)]
    return found


@pytest.fixture(scope="module")
def cells(make):
    cases, other = [make(k, lesion=k != 1) for k in range(4)], make(50, lesion=False)
    healthy = HealthyMap(other.scan, other.map)
    return {a: (cases, run(cases, [healthy], native_threshold=1.0, anatomy=a)) for a in ("liver", "lung")}


@pytest.fixture(scope="module")
def cell(cells):
    return cells["liver"]


def thresholded(case, threshold):
    smoothed = smooth(case.map, case.scan.roi, SPACING, threshold.smoothing_mm)
    parts, _ = ndimage.label((smoothed > np.float32(threshold.threshold)) & case.scan.roi)
    kept = np.bincount(parts.ravel()) * np.prod(SPACING) >= threshold.min_size_mm3
    kept[0] = False
    return kept[parts]


def test_threshold_free_metrics_agree_with_scikit_learn(cell):
    cases, result = cell
    scores = np.concatenate([c.map[c.scan.roi] for c in cases])
    labels = np.concatenate([c.truth.lesion[c.scan.roi] for c in cases])
    assert pooled(result, "none", "auroc").value == pytest.approx(roc_auc_score(labels, scores))
    assert pooled(result, "none", "ap").value == pytest.approx(average_precision_score(labels, scores))
    first = cases[0]
    own = roc_auc_score(first.truth.lesion[first.scan.roi], first.map[first.scan.roi])
    assert of_case(result, "c0", "none", "auroc").value == pytest.approx(own)
    assert of_case(result, "c1", "none", "auroc").value is None
    assert "no lesion" in of_case(result, "c1", "none", "auroc").reason
    assert all(0 <= b < 1e-3 for b in result.error_bounds.values())


def test_whole_images_end_where_the_scan_does_and_leave_out_slices_without_the_region(cell):
    cases, result = cell

    def images(*chosen):
        least = min(c.map[c.scan.roi].min() for c in chosen)
        shown = [c.scan.roi.any(axis=(1, 2)) for c in chosen]
        scores = [np.where(c.scan.roi, c.map, least)[z] for c, z in zip(chosen, shown, strict=True)]
        labels = [(c.truth.lesion & c.scan.roi)[z] for c, z in zip(chosen, shown, strict=True)]
        return np.concatenate(labels).ravel(), np.concatenate(scores).ravel()

    def partial(labels, scores, rate=0.3):
        least = rate**2 / 2  # scikit-learn's value is McClish's, which is undone here
        return ((2 * roc_auc_score(labels, scores, max_fpr=rate) - 1) * (rate - least) + least) / rate

    assert not cases[0].scan.roi.any(axis=(1, 2)).all()
    assert pooled(result, "none", "auroc_image").value == pytest.approx(roc_auc_score(*images(*cases)))
    assert of_case(result, "c2", "none", "auroc_image").value == pytest.approx(roc_auc_score(*images(cases[2])))
    found = pooled(result, "none", "auroc_image_fpr30").value
    assert found == pytest.approx(partial(*images(*cases)))
    assert of_case(result, "c2", "none", "auroc_image_fpr30").value == pytest.approx(partial(*images(cases[2])))
    assert of_case(result, "c1", "none", "auroc_image_fpr30").value is None
    assert of_case(result, "c1", "none", "aupro_image").value is None
    inside, whole = (pooled(result, "none", name).value for name in ("aupro", "aupro_image"))
    assert inside < whole < 1


@pytest.mark.parametrize("protocol", sorted({*ids("liver"), *ids("lung")} - {"paper-liver"}))
def test_the_stored_threshold_reproduces_the_stored_numbers(cells, protocol):
    cases, result = cells["liver" if protocol in ids("liver") else "lung"]
    by_patient = {p: t for t in result.thresholds if t.protocol == protocol for p in t.patients}
    total = np.zeros(3)
    for case in cases:
        mask, truth = thresholded(case, by_patient[case.patient]), case.truth.lesion
        tp, fp, fn = (mask & truth).sum(), (mask & ~truth).sum(), (~mask & truth).sum()
        total += tp, fp, fn
        stored = of_case(result, case.id, protocol, "dice")
        if case.id == "c1":
            assert stored.value is None
            assert of_case(result, "c1", protocol, "fp_volume_ml").value == pytest.approx(fp * 2 / 1000)
            assert of_case(result, "c1", protocol, "fp_share").value == pytest.approx(fp / case.scan.roi.sum())
            assert of_case(result, "c1", protocol, "volume_error_ml").value is None
            continue
        error = of_case(result, case.id, protocol, "volume_error_ml").value
        assert error == pytest.approx(abs(int(mask.sum()) - int(truth.sum())) * 2 / 1000)
        assert stored.value == 2 * tp / (2 * tp + fp + fn)
        assert of_case(result, case.id, protocol, "sen").value == tp / (tp + fn)
        assert of_case(result, case.id, protocol, "psc").value == (tp / (tp + fp) if tp + fp else 0)
    tp, fp, fn = total
    assert pooled(result, protocol, "dice").value == 2 * tp / (2 * tp + fp + fn)


@pytest.mark.parametrize("anatomy", ["liver", "lung"])
def test_values_without_a_patient_are_those_of_the_others(cells, anatomy):
    cases, result = cells[anatomy]
    fixed = [row for row in result.pooled if row.protocol in ("none", "native", "paper-liver") and sign(row.metric)]
    free = [row for row in fixed if row.value is not None]
    assert {"dice", "auroc", "ap", "slice_auroc", "aupro"} <= {row.metric for row in free}
    for left in (0, 1):
        others = run([c for i, c in enumerate(cases) if i != left], native_threshold=1.0, anatomy=anatomy)
        for row in free:
            if row.metric in ("healthy_fp_volume_ml", "healthy_share"):
                assert row.left_out == {}
                continue
            expected = pooled(others, row.protocol, row.metric).value
            assert row.left_out.get(cases[left].patient) == pytest.approx(expected), row
    assert all(set(row.left_out) <= {c.patient for c in cases} for row in result.pooled)


def test_without_folds_healthy_scans_and_a_threshold_of_its_own_there_is_a_reason(make, healthy):
    bare = run([make(0)])
    values = [pooled(bare, p, "dice") for p in ("native", "healthy-q95", "healthy-q99", "val", "paper-liver")]
    assert [v for v in values if v.value is not None or not v.reason] == []
    assert of_case(bare, "c0", "val", "dice").reason == pooled(bare, "val", "dice").reason


def test_a_set_without_a_lesion_has_reasons_instead_of_numbers(make, healthy):
    record = run([make(k, lesion=False) for k in range(2)], [healthy])
    dice = [v for v in (*record.pooled, *record.per_case) if v.metric in ("dice", "auroc", "ap")]
    assert {v.value for v in dice} == {None}
    assert all(v.reason for v in dice)
    assert any(v.metric.startswith("fp") and v.value is not None for v in record.per_case)


def test_measuring_twice_gives_the_same_json_and_changes_nothing(tmp_path, make, healthy):
    cases = [make(k) for k in range(3)]
    before = [(c.map.tobytes(), c.truth.lesion.tobytes(), c.scan.roi.tobytes()) for c in cases]
    options = {"study_path": tmp_path / "x.log", "seed": 4}
    one, two = (run(cases, [healthy], **options).model_dump_json() for _ in range(2))
    assert one == two
    assert before == [(c.map.tobytes(), c.truth.lesion.tobytes(), c.scan.roi.tobytes()) for c in cases]
    assert run(cases, [healthy], **options, cache_mib=0, threads=2).model_dump_json() == one


def test_values_outside_the_region_do_not_count(make):
    cases = [make(k) for k in range(3)]
    poisoned = [
        replace(c, map=np.where(c.scan.roi, c.map, np.float32(np.nan)), truth=Truth(c.id, c.truth.lesion | ~c.scan.roi))
        for c in cases
    ]
    assert run(poisoned).model_dump_json() == run(cases).model_dump_json()


def test_an_empty_region_is_safe(make, healthy):
    empty = make(9, roi=np.zeros(SHAPE, bool))
    result = run([make(0), make(1), empty], [healthy], native_threshold=0.5)
    assert of_case(result, "c9", "oracle", "dice").value is None
    assert of_case(result, "c9", "oracle", "fp_volume_ml").value == 0
    assert of_case(result, "c9", "none", "slice_auroc").value is None


def test_a_mask_of_the_method_replaces_its_threshold(make):
    result = run([make(k, mask=make(k).truth.lesion) for k in range(2)], native_threshold=0.5)
    assert pooled(result, "native", "dice").value == 1
    (native,) = [t for t in result.thresholds if t.protocol == "native"]
    assert native.threshold is None


def test_components_never_span_two_patients():
    shape = (1, 8, 8)
    truth = np.zeros(shape, bool)
    truth[0, 2:5, 2:5] = True
    map_ = truth.astype(np.float32)
    scans = [Case(f"c{k}", f"p{k}", map_, SPACING, np.ones(shape, bool)) for k in range(2)]
    cases = [ArrayCase(scan, map_, Truth(scan.id, truth)) for scan in scans]
    result = run(cases, native_threshold=0.5)
    found = [pooled(result, *what).value for what in (("native", "lesion_sen"), ("native", "fp_components"))]
    assert [*found, pooled(result, "none", "aupro").value] == [1, 0, 1]


def test_held_out_slices_alone_calibrate(make, healthy):
    result = run([make(0), make(1)], [replace(healthy, z=(4, 6))])
    scores = healthy.map[4:6][healthy.scan.roi[4:6]]
    (q95,) = [t for t in result.thresholds if t.protocol == "healthy-q95"]
    share = (scores > np.float32(q95.threshold)).mean()
    assert 0.05 - 1 / len(scores) <= share <= 0.05
    volume = pooled(result, "healthy-q95", "healthy_fp_volume_ml").value
    assert volume == pytest.approx(share * len(scores) * 2 / 1000)
    assert pooled(result, "healthy-q95", "healthy_share").value == pytest.approx(share)


def test_slice_metrics_of_a_slice_label_set_agree_with_those_of_voxels_and_with_scikit_learn(make, healthy):
    cases = [make(k, slices=make(k).truth.lesion.any(axis=(1, 2))) for k in range(2)]
    result, full = run(cases, [healthy]), run([make(0), make(1)], [healthy])
    for metric in ("slice_auroc", "slice_ap"):
        assert pooled(result, "none", metric).value == pooled(full, "none", metric).value is not None
    labels = {0: [0, 0, 1, 1, 0, 0], 1: [1, 1, 1, 0, 0, 1]}
    cases = [make(k, slices=v) for k, v in labels.items()]
    result = run(cases, [healthy], anatomy="lung")
    every, truths = [], []
    for case, label in zip(cases, labels.values(), strict=True):
        # The first slice shows no region of interest and takes no part, whatever its label.
        scores = [case.map[z][case.scan.roi[z]].max() for z in range(1, 6)]
        truth = np.array(label[1:], bool)
        assert of_case(result, case.id, "none", "slice_auroc").value == pytest.approx(roc_auc_score(truth, scores))
        assert of_case(result, case.id, "none", "slice_ap").value == pytest.approx(
            average_precision_score(truth, scores)
        )
        every.append(scores)
        truths.append(truth)
    scores, truth = np.concatenate(every), np.concatenate(truths)
    found = pooled(result, "none", "slice_auroc")
    assert (found.value, found.unit) == (pytest.approx(roc_auc_score(truth, scores)), "slice")
    calibration = np.sort([healthy.map[z][healthy.scan.roi[z]].max() for z in range(1, 6)])
    called = scores > calibration[-1]
    assert pooled(result, "healthy-q95", "slice_sen").value == called[truth].mean()
    assert pooled(result, "healthy-q95", "slice_spe").value == (~called)[~truth].mean()
    assert pooled(result, "healthy-q95", "slice_threshold").value == calibration[-1]
    bare = pooled(run(cases, anatomy="lung"), "healthy-q99", "slice_sen")
    assert bare.value is None
    assert "no held-out healthy scans" in bare.reason


@given(arrays(np.float32, st.integers(1, 60), elements=st.integers(0, 9)), st.integers(0, 2**32 - 1))
def test_sensitivity_at_95_percent_specificity_is_that_of_the_curve_of_scikit_learn(scores, seed):
    labels = np.random.default_rng(seed).random(len(scores)) < 0.5
    found = sorted_curves(scores, labels).sensitivity_at(0.95)
    if labels.all() or not labels.any():
        assert found is None
        return
    rate, recall, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert found == pytest.approx(recall[rate <= 0.05 + 1e-9].max())


def test_patients_are_told_apart_where_some_have_no_lesion(make, cell):
    cases, result = cell
    scores = np.array([case.map[case.scan.roi].max() for case in cases])
    ill = np.array([case.truth.lesion.any() for case in cases])
    assert pooled(result, "none", "patient_auroc").value == pytest.approx(roc_auc_score(ill, scores))
    assert pooled(result, "none", "patient_sen95").value == (scores[ill] > scores[~ill].max()).mean()
    assert pooled(result, "none", "patient_auroc").unit == "pooled"
    missing = pooled(run([make(0), make(2)]), "none", "patient_sen95")
    assert (missing.value, "all tested patients have a lesion" in missing.reason) == (None, True)


def test_scans_of_one_patient_are_one_patient(make):
    cases = [make(k, lesion=k == 1) for k in range(3)]
    cases[1] = replace(cases[1], scan=replace(cases[1].scan, patient=cases[0].patient))
    highest = [case.map[case.scan.roi].max() for case in cases]
    assert pooled(run(cases), "none", "patient_auroc").value == float(max(highest[:2]) > highest[2])


def test_surfaces_and_lesions_are_measured_under_three_protocols_and_cases_described(cells):
    cases, result = cells["liver"]
    for metric in ("nsd_2mm", "nsd_5mm", "hd95", "lesion_f1", "lesion_recall", "lesion_fp"):
        assert {v.protocol for v in result.per_case if v.metric == metric} == {"native", "healthy-q95", "val"}
    assert set(result.froc) == {"native", "healthy-q95", "val"}
    for protocol, curve in result.froc.items():
        at = dict(curve)
        expected = np.mean([at[rate] for rate in (0.25, 0.5, 1, 2, 4, 8)])
        assert pooled(result, protocol, "froc").value == pytest.approx(expected)
    assert list(result.facts) == [case.id for case in cases]
    for case in cases:
        facts, scan = result.facts[case.id], case.scan
        assert facts.organ_ml == pytest.approx(scan.roi.sum() * 2 / 1000)
        assert facts.lesion_ml == pytest.approx((case.truth.lesion & scan.roi).sum() * 2 / 1000)
        assert len(facts.lesions) == ndimage.label(case.truth.lesion & scan.roi, np.ones((3, 3, 3)))[1]
        assert (facts.spacing, facts.slices) == (SPACING, scan.roi.any(axis=(1, 2)).sum())


def test_a_patient_with_slices_of_one_kind_has_no_slice_auroc(make, healthy):
    result = run([make(0, slices=[0, 0, 1, 1, 0, 0]), make(1, slices=[0] * 6)], [healthy], anatomy="lung")
    for metric in ("slice_auroc", "slice_ap"):
        assert of_case(result, "c1", "none", metric).value is None
        assert "one class" in of_case(result, "c1", "none", metric).reason
        assert pooled(result, "none", metric).value is not None
    assert of_case(result, "c1", "healthy-q95", "slice_spe").value is not None
    assert of_case(result, "c1", "healthy-q95", "slice_sen").value is None


def test_paper_liver_reads_256_maps_as_they_are_and_resizes_others():
    shape = (2, 128, 128)
    truth = np.zeros(shape, bool)
    truth[0, 40:60, 50:80] = True
    roi = np.zeros(shape, bool)
    roi[:, 20:100, 20:110] = True
    case = Case("c0", "p0", np.zeros(shape, np.float32), SPACING, roi)
    geometry = Geometry(shape, (0, 1), 256)
    exact = geometry.mask_to_view(truth, "cubic>0.1")
    on_view = ArrayCase(case, exact.astype(np.float32), Truth("c0", truth), geometry=geometry)
    result = run([on_view], native_threshold=0.5)
    assert pooled(result, "paper-liver", "dice").value == 1

    native = ArrayCase(case, truth.astype(np.float32), Truth("c0", truth))
    value = pooled(run([native], native_threshold=0.5), "paper-liver", "dice").value
    enlarged = (
        np.stack([ndimage.zoom(s.astype(float), 2, order=1, grid_mode=True, mode="nearest") for s in truth]) > 0.5
    )
    assert value == pytest.approx(2 * (enlarged & exact).sum() / (enlarged.sum() + exact.sum()), abs=0.01)
    assert 0.9 < value < 1


def test_gallery_shows_the_slice_with_most_lesion(tmp_path, make):
    cases = [make(k, lesion=k != 1) for k in range(4)]
    result = run(cases, gallery_path=tmp_path / "maps" / "gallery.npz", window=(-1, 1))
    with np.load(tmp_path / "maps" / "gallery.npz") as file:
        meta = json.loads(str(file["meta"]))
        assert set(meta) == {"best", "median", "worst"}
        for name, about in meta.items():
            assert about["case"] != "c1"
            assert about["z"] == 2
            assert about["dice"] == of_case(result, about["case"], about["protocol"], "dice").value
            assert file[f"{name}/image"].dtype == np.uint8
            assert file[f"{name}/truth"].sum() == 20
            parts = ("image", "roi", "truth", "map", "prediction")
            assert {file[f"{name}/{part}"].shape for part in parts} == {(20, 20)}
        assert meta["best"]["dice"] >= meta["median"]["dice"] >= meta["worst"]["dice"]


@pytest.mark.parametrize("kind", ["liver voxels", "lung voxels", "lung slices"])
def test_stored_maps_measure_like_arrays(tmp_path, kind, make, healthy):
    from uasbench.datasets.storing import entries
    from uasbench.datasets.storing.prepared import PreparedCase, TruthRef

    options = {"native_threshold": 1.0, "anatomy": kind.split()[0]}
    memory, stored = [make(k, slices=[0, 0, 1, 1, 0, 0] if "slices" in kind else None) for k in range(3)], []
    for case in memory:
        scan = case.scan
        entries.write_native(tmp_path / case.id / "native", scan)
        entries.write_truth(tmp_path / case.id / "truth", case.truth, SHAPE)
        map_store.write_map(tmp_path / f"{case.id}.map", case.map, None, scan.roi)
        place = tmp_path / case.id / "native"
        prepared = PreparedCase(
            dataset="set", id=case.id, patient=case.patient, spacing=SPACING, shape=SHAPE, fingerprint="f", path=place
        )
        truth = TruthRef(tmp_path / case.id / "truth", "f")
        stored.append(MeasureCase(scan=prepared, map_path=tmp_path / f"{case.id}.map", truth=truth))
    assert run(stored, [healthy], **options).model_dump_json() == run(memory, [healthy], **options).model_dump_json()


def test_bad_input_is_refused(make):
    case = make(0)
    broken = case.map.copy()
    broken[2, 8, 8] = np.nan
    for cases, error, message in (
        ([], MeasureError, "no cases"),
        ([case, case], MeasureError, "twice"),
        ([replace(case, map=case.map[:-1])], DataError, "map has shape"),
        ([replace(case, map=broken)], ScoreError, "NaN"),
        ([make(0, slices=[0, 0, 1, 1, 0])], DataError, "5 slice labels for 6 slices"),
        ([case, make(1, slices=[0, 0, 1, 1, 0, 0])], DataError, "no voxel labels"),
        ([make(0, mask=case.truth.lesion), make(5)], DataError, "own mask is missing"),
        ([make(0, mask=np.zeros((1, 2, 3), bool))], DataError, "not the map's"),
    ):
        with pytest.raises(error, match=message):
            run(cases)
