import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from uasbench.benchmark.planning.options import validated
from uasbench.benchmark.planning.tasks import planned_tasks
from uasbench.common.errors import DataError
from uasbench.datasets.adapters import lidc
from uasbench.datasets.adapters.lidc import LIDC
from uasbench.datasets.adapters.lidc_files import OUTSIDE
from uasbench.datasets.adapters.lidc_table import PREFIX, _table, known
from uasbench.datasets.adapters.luna16 import LUNA16
from uasbench.datasets.check import check

sys.path.insert(0, str(Path(__file__).parent))
from segmentations import saved, segmentation

SHAPE, SPACING = (12, 24, 32), (6.0, 10.0, 10.0)
FIRST = (-160.0, -120.0, -400.0)
LUNA16_COLUMNS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
BOX = np.s_[4:8, 9:14, 19:25]


def _box(z, y, x):
    mask = np.zeros(SHAPE, bool)
    mask[z[0] : z[1], y[0] : y[1], x[0] : x[1]] = True
    return mask


SMALL, MIDDLE, LARGE = (
    _box((5, 6), (10, 12), (20, 23)),
    _box((5, 7), (10, 13), (20, 24)),
    _box((4, 8), (9, 14), (19, 25)),
)
FEW = _box((8, 9), (10, 12), (6, 9))


@pytest.fixture
def put(put_slice, put_nifti, chest):
    """Return ``put(root, number, nodules)``: a patient as published; ``nodules`` are lists of masks, one per reader."""

    def patient(
        root, number, nodules=(), *, series=None, folder=None, lungs=True, seed=None, referenced=None, **options
    ):
        name, uid = f"LIDC-IDRI-{number:04d}", series or f"1.2.826.{number}"
        image, labels = chest(SHAPE, number if seed is None else seed)
        study = root / (folder or name) / "01-01-2000-30178"
        for z, plane in enumerate(image):  # file numbers run from head to feet
            place = f"{FIRST[0]}\\{FIRST[1]}\\{FIRST[2] + SPACING[0] * z}"
            tags = {"0020|0032": place, "0020|0013": str(99 - z), "0020|000e": uid, "0010|0020": name}
            put_slice(study / f"3000566-{number}" / f"1-{99 - z:03d}.dcm", plane, SPACING[1:], tags)
        count = 0
        for k, readers in enumerate(nodules, 1):
            for mask in readers:
                count += 1
                zs = np.flatnonzero(mask.any(axis=(1, 2)))[::-1]
                about = {"patient": name, "series": referenced or uid, "uid": f"1.2.826.{number}.{count}"}
                about["description"] = f"Segmentation of Nodule {k} - Annotation {count}"
                about |= {"tracking": f"1.2.3.{k}", **options}
                places = [(*FIRST[:2], FIRST[2] + SPACING[0] * z) for z in zs]
                file = segmentation(mask[zs], places, SPACING[1:], **about)
                saved(file, study / f"{200 + count}-Segmentation of Nodule {k} - Annotation {count}-9" / "1-1.dcm")
        if lungs:
            data = root.parent if root.name == "lidc" else root
            put_nifti(data / "rois/lidc" / f"{uid}.nii.gz", (labels > 0).astype(np.uint8), spacing=SPACING)
        return uid, image, labels > 0

    return patient


def test_half_of_four_readers_make_a_lesion_and_few_readers_an_unmeasured_region(tmp_path, put, opened):
    nodules = [[MIDDLE, SMALL, LARGE, SMALL], [FEW, FEW]]
    uid, image, lungs = put(tmp_path / "lidc", 1, nodules)
    dataset = opened(LIDC, tmp_path)
    (ref,) = dataset.discover(tmp_path)
    assert (ref.id, ref.patient, len(ref.extra)) == (uid, "LIDC-IDRI-0001", SHAPE[0] - 1 + 6 + 1)
    case, truth = dataset.load(uid), dataset.load_truth(uid)
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.roi, lungs & ~FEW)
    np.testing.assert_array_equal(truth.lesion, MIDDLE)  # what the second largest of nested marks holds
    np.testing.assert_array_equal(truth.slice_labels, MIDDLE.any(axis=(1, 2)))
    assert case.spacing == SPACING
    assert f"1 nodules of one or two readers, {int((FEW & lungs).sum())} voxels, lie outside" in str(case.notes[-1])


def test_an_absent_reader_counts_as_empty_and_marks_of_one_alone_are_healthy(tmp_path, put, opened):
    uid, *_ = put(tmp_path, 3, [[LARGE, MIDDLE, SMALL]])
    np.testing.assert_array_equal(opened(LIDC, tmp_path).load_truth(uid).lesion, MIDDLE)


def test_the_region_does_not_depend_on_lesions(tmp_path, put, opened):
    (first, _, lungs), (second, *_) = (put(tmp_path / n, 1, [readers, [FEW]]) for n, readers in (
        ("a", [SMALL] * 3), ("b", [LARGE] * 4)))  # fmt: skip
    rois = [opened(LIDC, tmp_path / n).load(uid).roi for n, uid in (("a", first), ("b", second))]
    np.testing.assert_array_equal(rois[0], rois[1])
    np.testing.assert_array_equal(rois[0], lungs & ~FEW)


def test_five_annotations_of_a_nodule_are_told(tmp_path, put, opened):
    uid, *_ = put(tmp_path, 1, [[SMALL] * 5])
    assert "1 nodules have more than 4 annotations" in str(opened(LIDC, tmp_path).load(uid).notes[-1])


def test_lungs_of_luna16_are_used_where_they_lie_beside(tmp_path, put, opened, monkeypatch):
    uid, _, lungs = put(tmp_path / "lidc", 1, [[SMALL] * 3], lungs=False)
    mask = SimpleITK.GetImageFromArray(np.where(lungs, 3, 0).astype(np.uint8))
    mask.SetSpacing(SPACING[::-1])
    mask.SetOrigin(FIRST)
    (tmp_path / "luna16/seg-lungs-LUNA16").mkdir(parents=True)
    SimpleITK.WriteImage(mask, str(tmp_path / f"luna16/seg-lungs-LUNA16/{uid}.mhd"), True)
    dataset = opened(LIDC, tmp_path)
    (ref,) = dataset.discover(tmp_path)
    assert {path.suffix for path in ref.extra} == {".dcm", ".mhd", ".zraw"}
    case = dataset.load(uid)
    np.testing.assert_array_equal(case.roi, lungs)
    assert case.roi_source == "mask file"

    def lung_roi(case_id, image, spacing, mask=None, **_):
        assert mask is None
        return lungs, "classical segmentation", ()

    monkeypatch.setattr(lidc, "lung_roi", lung_roi)
    assert opened(LIDC, tmp_path / "lidc").load(uid).roi_source == "classical segmentation"


def test_nodules_outside_the_lungs_are_reported(tmp_path, put, opened):
    uid, *_ = put(tmp_path, 1, [[_box((4, 8), (1, 4), (1, 4))] * 3])
    dataset = opened(LIDC, tmp_path)
    (finding,) = dataset.inspect(dataset.load(uid), dataset.load_truth(uid))
    assert finding.startswith("100 % of the nodules lies outside the lung mask")


def test_who_is_left_out_and_why(tmp_path, put):
    put(tmp_path, 1, [[SMALL] * 3])
    put(tmp_path, 2, [[SMALL] * 3])
    put(tmp_path, 5)
    put(tmp_path, 291, [[SMALL] * 3])
    put(tmp_path, 7, [[SMALL] * 3], series=_series(7))  # the collection has more annotations of this series
    free = next(uid for uid, facts in _table().items() if not facts.annotations and int(facts.patient[-4:]) % 2)
    put(tmp_path, int(known(free).patient[-4:]), series=free)
    (tmp_path / "LIDC-IDRI-0001/annotations.xml").write_text("<x/>")
    dataset = LIDC()
    assert [ref.id for ref in dataset.discover(tmp_path)] == sorted(["1.2.826.1", free])
    assert not dataset.load_truth(free).lesion.any()
    notes = "\n".join(dataset.notes)
    some = known(_series(7)).annotations
    for text in (
        "1 scans of patients with even numbers, who are never tested, so that luna16 may train on them: left out (",
        "1 scans without segmentations, which may be missing: left out (LIDC-IDRI-0005)",
        "1 scans whose segmentations are known to lie outside the scan: left out (LIDC-IDRI-0291)",
        f"one for each annotation of the collection): left out (LIDC-IDRI-0007 has 3 of {some})",
        "1 XML files are not read",
    ):
        assert text in notes
    assert {262, 291, 938} <= OUTSIDE


def _series(number):
    return next(uid for uid, facts in _table().items() if facts.patient == f"LIDC-IDRI-{number:04d}")


def test_the_table_holds_the_collection():
    table = _table()
    assert (len(table), len({facts.patient for facts in table.values()})) == (1018, 1010)
    assert sum(facts.annotations for facts in table.values()) == 6859
    assert len({facts.patient for facts in table.values() if facts.annotations}) == 875
    first = known(f"{PREFIX}179049373636438705059720603192")
    assert (first.patient, first.annotations) == ("LIDC-IDRI-0001", 4)
    assert known("1.2.3") is None


def _others(root, put):
    put(root, 1, [[SMALL] * 3])
    path = root / "LIDC-IDRI-0001/01-01-2000-30178/9-Lungs/1.dcm"
    saved(
        segmentation(
            SMALL[5:6], [FIRST], SPACING[1:], patient="LIDC-IDRI-0001", series="1", uid="1.7", description="Lungs"
        ),
        path,
    )


def test_other_modalities_and_segmentations_are_counted(tmp_path, put, put_slice):
    _others(tmp_path, put)
    tags = {"0008|0060": "DX", "0020|000e": "1.9", "0020|0032": "0\\0\\0", "0020|0013": "1"}
    put_slice(tmp_path / "LIDC-IDRI-0001/01-01-2000-30179/1/1.dcm", np.zeros((4, 4), np.int16), (1.0, 1.0), tags)
    dataset = LIDC()
    assert len(dataset.discover(tmp_path)) == 1
    assert dataset.notes == (
        "files that are no CT are ignored: 1 of modality DX",
        "1 segmentations that do not say nodule in their description are ignored",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"referenced": "1.2.9"},
            r"refers to series 1\.2\.9, which is not there \(3 segmentations of LIDC-IDRI-0001\); add the CT",
        ),
        ({"folder": "LIDC-IDRI-0003"}, "PatientID LIDC-IDRI-0001 in the folder of LIDC-IDRI-0003"),
        ({"patient": "LIDC-IDRI-0009"}, "PatientID LIDC-IDRI-0009 in the folder of LIDC-IDRI-0001"),
    ],
)
def test_segmentations_of_other_scans_and_people_are_refused(tmp_path, put, arguments, message):
    put(tmp_path, 1, [[SMALL] * 3], **arguments)
    with pytest.raises(DataError, match=message):
        LIDC().discover(tmp_path)


def test_a_series_or_segmentation_in_two_places_is_refused(tmp_path, put):
    put(tmp_path / "a", 1, [[SMALL] * 3])
    put(tmp_path / "b", 1, [[SMALL] * 3])
    survey = LIDC().survey(tmp_path)
    assert {text.partition(" lies in 2 places")[0] for text in survey.problems} == {
        "1.2.826.1", *(f"1.2.826.1.{n}" for n in (1, 2, 3))
    }  # fmt: skip
    assert survey.refs == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "FRACTIONAL"}, "segmentation type FRACTIONAL"),
        ({"axes": (1, 0, 0, 0, -1, 0)}, "its grid is not that of the slices"),
    ],
)
def test_unusable_segmentations_are_refused_when_they_are_read(tmp_path, put, opened, options, message):
    uid, *_ = put(tmp_path, 1, [[SMALL] * 3], **options)
    with pytest.raises(DataError, match=message):
        opened(LIDC, tmp_path).load_truth(uid)


def test_scans_alone_and_a_machine_without_pydicom_count_as_absent(tmp_path, put, monkeypatch):
    put(tmp_path, 1)
    survey = LIDC().survey(tmp_path)
    assert (survey.absent, "no scan of a patient with an odd number and all of its" in survey.problems[-1]) == (
        True,
        True,
    )
    put(tmp_path, 3, [[SMALL] * 3])
    monkeypatch.setattr(lidc, "missing", lambda: "pydicom is not installed")
    survey = LIDC().survey(tmp_path)
    assert (survey.absent, "pydicom is not installed" in survey.problems[-1]) == (True, True)


def _luna16(root, uid, image):
    stored = SimpleITK.GetImageFromArray(image)
    stored.SetSpacing(SPACING[::-1])
    stored.SetOrigin(FIRST)
    (root / "subset0").mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(stored, str(root / f"subset0/{uid}.mhd"))
    (root / "annotations.csv").write_text(LUNA16_COLUMNS)


@pytest.fixture
def both(tmp_path, put, chest, monkeypatch):
    """A data root with LIDC-IDRI-0001 tested, of whom LUNA16 has the same scan, and one of an even patient."""
    monkeypatch.setitem(_table(), _series(1), type(known(_series(1)))("LIDC-IDRI-0001", 3))
    uid, image, lungs = put(tmp_path / "lidc", 1, [[SMALL] * 3], series=_series(1))
    _luna16(tmp_path / "luna16", uid, image)
    _luna16(tmp_path / "luna16", _series(2), chest(SHAPE, 2)[0])
    masks = tmp_path / "luna16/seg-lungs-LUNA16"
    masks.mkdir()
    for name in (uid, _series(2)):
        mask = SimpleITK.GetImageFromArray(np.where(lungs, 3, 0).astype(np.uint8))
        mask.SetSpacing(SPACING[::-1])
        mask.SetOrigin(FIRST)
        SimpleITK.WriteImage(mask, str(masks / f"{name}.mhd"), True)
    return tmp_path


def test_scans_of_luna16_belong_to_patients_of_the_collection(both):
    refs = {ref.id: ref.patient for ref in LUNA16().discover(both)}
    assert refs == {_series(1): "LIDC-IDRI-0001", _series(2): "LIDC-IDRI-0002"}
    (both / "patients.csv").write_text(f"set,case,patient\nluna16,{_series(2)},anna\n")
    assert {ref.id: ref.patient for ref in LUNA16().discover(both)}[_series(2)] == "anna"


def test_who_is_tested_here_is_left_out_of_luna16(both):
    report = check(both, {"lidc": LIDC(), "luna16": LUNA16()})
    assert report.errors == []
    (dropped,) = report.general_warnings
    assert dropped.startswith(
        f"luna16:{_series(1)} is left out of training: patient 'LIDC-IDRI-0001' is tested as lidc:"
    )


def test_a_run_trains_on_other_patients_than_it_tests(both, tmp_path):
    options = {"data_root": both, "cache": tmp_path / "cache", "profile": "smoke"}
    (task,) = planned_tasks(validated(methods="hu-opened", datasets="lidc", **options), 1)
    assert [case.id for case in task.data.test] == [_series(1)]
    assert [case.id for case in task.data.healthy] == [_series(2)]
    assert any("is left out of training: patient 'LIDC-IDRI-0001'" in text for text in task.data.warnings)


@pytest.mark.real_data
def test_real_layout_with_drawn_nodules(real_ct_2, opened):
    dataset = opened(LIDC, real_ct_2 / "lidc")
    (ref,) = dataset.discover(real_ct_2 / "lidc")
    assert ref.patient == "LIDC-IDRI-9001"
    assert dataset.notes[0] == "files that are no CT are ignored: 1 of modality DX"
    case, lesion = dataset.load(ref.id), dataset.load_truth(ref.id).lesion
    assert (case.image.shape, int(lesion.sum())) == ((16, 96, 96), 198 + 63)  # the second largest of nested marks
    assert "1 nodules of one or two readers, 82 voxels" in str(case.notes[-1])
    trap = real_ct_2 / "traps/lidc_seg_without_ct"
    with pytest.raises(
        DataError, match=r"PatientID LIDC-IDRI-9001 in the folder of LIDC-IDRI-9003[^$]*which is not there"
    ):
        LIDC().discover(trap)
