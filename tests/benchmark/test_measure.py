"""The measure stage: from maps and truths to the numbers of a record."""

import json

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score
from uasbench.benchmark.protocols.catalogue import protocols_of
from uasbench.benchmark.protocols.measuring import MeasureError, MeasureOptions, measure
from uasbench.benchmark.runs import map_store
from uasbench.benchmark.scoring.bins import ScoreError
from uasbench.benchmark.scoring.cases import ArrayCase, HealthyMap, MeasureCase
from uasbench.benchmark.scoring.smoothing import smooth
from uasbench.common.errors import DataError
from uasbench.datasets.case import Case, Truth
from uasbench.datasets.views.slice_geometry import Geometry

SHAPE = (6, 20, 20)
SPACING = (2.0, 1.0, 1.0)


def make(k: int, *, lesion: bool = True, patient: str | None = None, mask=None) -> ArrayCase:
    rng = np.random.default_rng(k)
    roi = np.zeros(SHAPE, bool)
    roi[1:, 3:18, 2:19] = True
    truth = np.zeros(SHAPE, bool)
    if lesion:
        truth[2:4, 8:12, 6:11] = True
    map_ = (rng.normal(size=SHAPE) + 1.5 * truth).astype(np.float32)
    case = Case(f"c{k}", patient or f"p{k}", map_, SPACING, roi)
    return ArrayCase(case, map_, Truth(f"c{k}", truth), mask)


def healthy(k: int = 50, z=None) -> HealthyMap:
    case = make(k, lesion=False)
    return HealthyMap(case.scan, case.map, z)


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
def cells():
    cases = [make(k, lesion=k != 1) for k in range(4)]
    return {a: (cases, run(cases, [healthy()], native_threshold=1.0, anatomy=a)) for a in ("liver", "lung")}


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
            continue
        assert stored.value == 2 * tp / (2 * tp + fp + fn)
        assert of_case(result, case.id, protocol, "sen").value == tp / (tp + fn)
        assert of_case(result, case.id, protocol, "psc").value == (tp / (tp + fp) if tp + fp else 0)
    tp, fp, fn = total
    assert pooled(result, protocol, "dice").value == 2 * tp / (2 * tp + fp + fn)


def test_the_oracle_value_is_the_mean_of_the_stored_dice(cell):
    cases, result = cell
    (oracle,) = [t for t in result.thresholds if t.protocol == "oracle"]
    values = [of_case(result, c.id, "oracle", "dice").value for c in cases if c.id != "c1"]
    assert np.mean(values) == pytest.approx(oracle.value, abs=1e-12)
    val = [of_case(result, c.id, "val", "dice").value for c in cases if c.id != "c1"]
    assert all(v is not None for v in val)


def test_every_protocol_has_pooled_dice_or_a_reason(cell):
    _, result = cell
    for protocol in ids("liver"):
        value = pooled(result, protocol, "dice")
        assert value.value is not None
        assert value.unit == "pooled"
    bare = run([make(0)])
    for protocol in ("native", "healthy-q95", "healthy-q99", "val", "paper-liver"):
        value = pooled(bare, protocol, "dice")
        assert value.value is None
        assert value.reason
    assert of_case(bare, "c0", "val", "dice").reason == pooled(bare, "val", "dice").reason


def test_measuring_twice_gives_the_same_json_and_changes_nothing(tmp_path):
    cases = [make(k) for k in range(3)]
    before = [(c.map.tobytes(), c.truth.lesion.tobytes(), c.scan.roi.tobytes()) for c in cases]
    options = {"study_path": tmp_path / "x.log", "seed": 4}
    one, two = (run(cases, [healthy()], **options).model_dump_json() for _ in range(2))
    assert one == two
    assert before == [(c.map.tobytes(), c.truth.lesion.tobytes(), c.scan.roi.tobytes()) for c in cases]
    assert run(cases, [healthy()], **options, cache_mib=0, threads=2).model_dump_json() == one


def test_values_outside_the_region_do_not_count():
    cases = [make(k) for k in range(3)]
    poisoned = [
        ArrayCase(c.scan, np.where(c.scan.roi, c.map, np.float32(np.nan)), Truth(c.id, c.truth.lesion | ~c.scan.roi))
        for c in cases
    ]
    assert run(poisoned).model_dump_json() == run(cases).model_dump_json()


def test_an_empty_region_is_safe():
    empty = make(9)
    scan = Case("c9", "p9", empty.scan.image, SPACING, np.zeros(SHAPE, bool))
    result = run([make(0), make(1), ArrayCase(scan, empty.map, empty.truth)], [healthy()], native_threshold=0.5)
    assert of_case(result, "c9", "oracle", "dice").value is None
    assert of_case(result, "c9", "oracle", "fp_volume_ml").value == 0
    assert of_case(result, "c9", "none", "slice_auroc").value is None


def test_nothing_predicted_is_zero():
    result = run([make(0), make(1)], native_threshold=1e9)
    assert [of_case(result, "c0", "native", m).value for m in ("dice", "psc", "sen", "lesion_sen")] == [0, 0, 0, 0]


def test_a_mask_of_the_method_replaces_its_threshold():
    cases = [make(k, mask=make(k).truth.lesion) for k in range(2)]
    result = run(cases, native_threshold=0.5)
    assert pooled(result, "native", "dice").value == 1
    (native,) = [t for t in result.thresholds if t.protocol == "native"]
    assert native.threshold is None
    with pytest.raises(DataError, match="own mask is missing"):
        run([cases[0], make(5)])
    with pytest.raises(DataError, match="not the map's"):
        run([make(0, mask=np.zeros((1, 2, 3), bool))])


def test_components_never_span_two_patients():
    shape = (1, 8, 8)
    truth = np.zeros(shape, bool)
    truth[0, 2:5, 2:5] = True
    map_ = truth.astype(np.float32)
    scans = [Case(f"c{k}", f"p{k}", map_, SPACING, np.ones(shape, bool)) for k in range(2)]
    cases = [ArrayCase(scan, map_, Truth(scan.id, truth)) for scan in scans]
    result = run(cases, native_threshold=0.5)
    assert pooled(result, "native", "lesion_sen").value == 1
    assert pooled(result, "native", "fp_components").value == 0
    assert pooled(result, "none", "aupro").value == 1


def test_held_out_slices_alone_calibrate():
    case = make(50, lesion=False)
    result = run([make(0), make(1)], [healthy(50, (4, 6))])
    scores = case.map[4:6][case.scan.roi[4:6]]
    (q95,) = [t for t in result.thresholds if t.protocol == "healthy-q95"]
    share = (scores > np.float32(q95.threshold)).mean()
    assert 0.05 - 1 / len(scores) <= share <= 0.05
    volume = pooled(result, "healthy-q95", "healthy_fp_volume_ml").value
    assert volume == pytest.approx(share * len(scores) * 2 / 1000)


def test_slice_labels_alone_give_slice_metrics_alone():
    cases = [labelled(k, make(k).truth.lesion.any(axis=(1, 2))) for k in range(2)]
    result = run(cases, [healthy()])
    full = run([make(0), make(1)], [healthy()])
    for metric in ("slice_auroc", "slice_ap"):
        assert pooled(result, "none", metric).value == pooled(full, "none", metric).value is not None
    with pytest.raises(DataError, match="no voxel labels"):
        run([make(5), cases[0]])


def labelled(k: int, slices, *, patient: str | None = None) -> ArrayCase:
    case = make(k, patient=patient)
    return ArrayCase(case.scan, case.map, Truth(case.id, slice_labels=np.asarray(slices, bool)))


def test_slice_metrics_of_a_slice_label_set_agree_with_scikit_learn():
    labels = {0: [0, 0, 1, 1, 0, 0], 1: [1, 1, 1, 0, 0, 1]}
    cases = [labelled(k, v) for k, v in labels.items()]
    part = healthy()
    result = run(cases, [part], anatomy="lung")
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
    calibration = np.sort([part.map[z][part.scan.roi[z]].max() for z in range(1, 6)])
    called = scores > calibration[-1]
    assert pooled(result, "healthy-q95", "slice_sen").value == called[truth].mean()
    assert pooled(result, "healthy-q95", "slice_spe").value == (~called)[~truth].mean()
    assert pooled(result, "healthy-q95", "slice_threshold").value == calibration[-1]
    bare = pooled(run(cases, anatomy="lung"), "healthy-q99", "slice_sen")
    assert bare.value is None
    assert "no held-out healthy scans" in bare.reason


def test_a_patient_with_slices_of_one_kind_has_no_slice_auroc():
    result = run([labelled(0, [0, 0, 1, 1, 0, 0]), labelled(1, [0] * 6)], [healthy()], anatomy="lung")
    for metric in ("slice_auroc", "slice_ap"):
        assert of_case(result, "c1", "none", metric).value is None
        assert "one class" in of_case(result, "c1", "none", metric).reason
        assert pooled(result, "none", metric).value is not None
    assert of_case(result, "c1", "healthy-q95", "slice_spe").value is not None
    assert of_case(result, "c1", "healthy-q95", "slice_sen").value is None


def test_slice_labels_of_another_length_are_refused():
    with pytest.raises(DataError, match="5 slice labels for 6 slices"):
        run([labelled(0, [0, 0, 1, 1, 0])])


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


def test_gallery_shows_the_slice_with_most_lesion(tmp_path):
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
            assert {file[f"{name}/{part}"].shape for part in ("image", "roi", "truth", "map", "prediction")} == {
                (20, 20)
            }
        assert meta["best"]["dice"] >= meta["median"]["dice"] >= meta["worst"]["dice"]


@pytest.mark.parametrize("kind", ["liver voxels", "lung voxels", "lung slices"])
def test_stored_maps_measure_like_arrays(tmp_path, kind):
    from uasbench.datasets.storing import entries
    from uasbench.datasets.storing.prepared import PreparedCase, TruthRef

    options = {"native_threshold": 1.0, "anatomy": kind.split()[0]}
    memory, stored = [labelled(k, [0, 0, 1, 1, 0, 0]) if "slices" in kind else make(k) for k in range(3)], []
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
    parts = [healthy()]
    assert run(stored, parts, **options).model_dump_json() == run(memory, parts, **options).model_dump_json()


def test_bad_input_is_refused():
    with pytest.raises(MeasureError, match="no cases"):
        run([])
    with pytest.raises(MeasureError, match="twice"):
        run([make(0), make(0)])
    case = make(0)
    with pytest.raises(DataError, match="map has shape"):
        run([ArrayCase(case.scan, case.map[:-1], case.truth)])
    broken = case.map.copy()
    broken[2, 8, 8] = np.nan
    with pytest.raises(ScoreError, match="NaN"):
        run([ArrayCase(case.scan, broken, case.truth)])
