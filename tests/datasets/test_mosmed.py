import numpy as np
import openpyxl
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.lung_folders import MIN_LESION_VOXELS
from uasbench.datasets.adapters.mosmed import CATEGORIES, CONTROLS, MosMed, MosMedHealthy, controls, is_control
from uasbench.datasets.check import check

SHAPE, SPACING = (12, 24, 32), (8.0, 10.0, 10.0)
STORED = {"spacing": SPACING, "codes": "LAS"}
CONTROL, NORMAL = "study_0008", "study_0001"


@pytest.fixture
def put(put_nifti, chest):
    """Return ``put(root, case, category)``: a study as the release stores it, with lungs laid beside the data."""

    def study(root, case, category="CT-1", *, voxels=150, mask=None, home="mosmed/studies", image=None, **options):
        scan, lungs = chest(SHAPE, int(case[-4:]))
        lesion = np.zeros(SHAPE, np.int16)
        lesion.flat[np.flatnonzero(lungs)[:voxels]] = 1
        stored = {**STORED, **options}
        put_nifti(root / home / category / f"{case}.nii.gz", scan if image is None else image(scan), **stored)
        if category == "CT-1" if mask is None else mask:
            put_nifti(root / "mosmed/masks" / f"{case}_mask.nii.gz", lesion, **STORED)
        for name in ("mosmed", "mosmed-healthy"):
            put_nifti(root / "rois" / name / f"{case}.nii.gz", (lungs > 0).astype(np.uint8), **STORED)
        return scan, lungs > 0, lesion > 0

    return study


@pytest.mark.parametrize("home", ["mosmed/studies", "mosmed", "COVID19_1110/studies"])
def test_masked_studies_and_controls_are_tested_and_the_rest_of_ct_0_trains(tmp_path, put, opened, home):
    image, lungs, lesion = put(tmp_path, "study_0255", home=home)
    free, *_ = put(tmp_path, CONTROL, "CT-0", home=home)
    put(tmp_path, NORMAL, "CT-0", home=home)
    if home.startswith("COVID"):
        (tmp_path / "mosmed/masks").rename(tmp_path / "COVID19_1110/masks")
        (tmp_path / "mosmed").rmdir()
    ill, healthy = opened(MosMed, tmp_path), opened(MosMedHealthy, tmp_path)
    assert [(ref.id, ref.patient) for ref in ill.discover(tmp_path)] == [(c, c) for c in (CONTROL, "study_0255")]
    assert [ref.id for ref in healthy.discover(tmp_path)] == [NORMAL]
    assert healthy.notes == ("1 of 2 studies of CT-0 are controls of mosmed: left out",)
    case, truth = ill.load("study_0255"), ill.load_truth("study_0255")
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.roi, lungs)
    np.testing.assert_array_equal(truth.lesion, lesion)
    np.testing.assert_array_equal(truth.slice_labels, lesion.any(axis=(1, 2)))
    assert case.spacing == SPACING
    assert [str(note) for note in case.notes] == ["warning: slices 8 mm apart: resampling along z invents most of them"]
    np.testing.assert_array_equal(ill.load(CONTROL).image, free)
    truth = ill.load_truth(CONTROL)
    assert (truth.lesion.shape, truth.lesion.any(), truth.slice_labels.shape) == (SHAPE, False, SHAPE[:1])
    assert healthy.load(NORMAL).roi_source.startswith("mask file rois/mosmed-healthy/study_0001.nii.gz")
    assert healthy.load_truth(NORMAL).lesion is None


def test_the_controls_are_fifty_of_ct_0_whatever_lies_on_disk():
    assert (len(controls()), len(set(CATEGORIES["CT-0"]))) == (CONTROLS, 254)
    assert {int(case[-4:]) for case in controls()} <= set(CATEGORIES["CT-0"])
    assert is_control(CONTROL)
    assert not is_control(NORMAL)
    assert sum(map(len, CATEGORIES.values())) == 1110


@pytest.mark.parametrize(("voxels", "stays"), [(MIN_LESION_VOXELS - 1, False), (MIN_LESION_VOXELS, True)])
def test_masks_with_few_voxels_are_excluded_and_studies_without_masks_counted(tmp_path, put, voxels, stays):
    put(tmp_path, "study_0256")
    put(tmp_path, "study_0287", voxels=voxels)
    for case, category in (("study_0400", "CT-1"), ("study_0939", "CT-2"), ("study_1109", "CT-4")):
        put(tmp_path, case, category, mask=False)
    dataset = MosMed()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["study_0256", "study_0287"][: 1 + stays]
    *few, unused = dataset.notes
    assert unused.endswith("no voxel truth: 1 of CT-1, 1 of CT-2, 1 of CT-4")
    assert [note.startswith("1 of 2 masked studies excluded by rule") for note in few] == [True] * (not stays)


def _registry(*rows):
    def write(root, put):
        put(root, "study_0255")
        text = "\r\n".join(["study_id,category,study_file,mask_file", *rows, ""])
        (root / "mosmed/dataset_registry.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())

    return write


def _workbook(*rows):
    def write(root, put):
        put(root, "study_0255")
        book = openpyxl.Workbook()
        for row in (["study_id", "category"], *rows):
            book.worksheets[0].append(row)
        book.save(root / "mosmed/dataset_registry.xlsx")

    return write


def _mask_alone(root, put):
    put(root, "study_0255")
    put(root, "study_0266")
    (root / "mosmed/studies/CT-1/study_0266.nii.gz").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_mask_alone, r"study_0266_mask\.nii\.gz: mask without its study \(no studies/CT-1/study_0266"),
        (
            lambda root, put: (put(root, "study_0255"), put(root, NORMAL, "CT-0", mask=True)),
            r"study_0001_mask\.nii\.gz: the release has masks of study_0255 to study_0304 alone.* study_0001; remove",
        ),
        (
            lambda root, put: (put(root, "study_0255"), put(root, "study_0256", mask=False)),
            r"study_0256\.nii\.gz: study without its mask \(no masks/study_0256_mask\.nii\.gz; 1 in all",
        ),
        (
            lambda root, put: (put(root, "study_0255"), put(root, "study_0256", "CT-0")),
            "study_0256 lies in CT-0, the release has it in CT-1; use the published folders",
        ),
        (
            lambda root, put: (put(root, "study_0255"), put(root, "study_2000", "CT-4")),
            "study_2000 lies in CT-4, the release ends at study_1110",
        ),
        (
            _registry("255,CT-2,/studies/CT-2/study_0255.nii.gz,"),
            "study_0255 lies in CT-1, the registry says CT-2",
        ),
        (_workbook(["255", "CT-2"]), "study_0255 lies in CT-1, the registry says CT-2"),
        (
            lambda root, put: [_registry("255,CT-1,,")(root, put), _workbook([256, "CT-1"])(root, put)],
            r"the registry lies in versions that differ: .*dataset_registry\.(xlsx|csv), .*; keep one of them",
        ),
        (_registry("x,CT-1,,"), r"dataset_registry\.csv: study_id x, expected a number"),
        (
            lambda root, put: (put(root, "study_0255"), put(root, "study_0255", home="mosmed/copy")),
            "study_0255 lies in 2 places",
        ),
        (lambda root, put: put(root, "study_0255", voxels=3), "1 of 1 masked studies excluded by rule"),
    ],
)
def test_what_contradicts_the_release_is_refused(tmp_path, put, spoil, message):
    spoil(tmp_path, put)
    with pytest.raises(DataError, match=message):
        MosMed().discover(tmp_path)


def test_a_sound_registry_and_studies_without_ill_ones(tmp_path, put):
    _registry("255,CT-1,/studies/CT-1/study_0255.nii.gz,/masks/study_0255_mask.nii.gz")(tmp_path, put)
    _workbook([255, "CT-1"])(tmp_path, put)
    assert [ref.id for ref in MosMed().discover(tmp_path)] == ["study_0255"]
    other = tmp_path / "other"
    put(other, NORMAL, "CT-0")
    survey = MosMed().survey(other)
    assert survey.absent
    assert "no study of CT-1 with a mask beside it" in survey.problems[0]
    assert [ref.id for ref in MosMedHealthy().discover(other)] == [NORMAL]


def test_other_conversions_are_refused_or_noted(tmp_path, put, opened):
    put(tmp_path, "study_0255", image=lambda scan: (scan + 1024).astype(np.int16))
    with pytest.raises(DataError, match=r"study_0255\.nii\.gz: no value below 0 HU .*--exclude mosmed:study_0255"):
        opened(MosMed, tmp_path).load("study_0255")
    put(tmp_path, "study_0256", spacing=(5.0, 10.0, 10.0))
    notes = list(map(str, opened(MosMed, tmp_path).load("study_0256").notes))
    assert "warning: slices 5 mm apart, 8 mm in the release: another conversion of the scan" in notes


def test_both_sets_are_checked_without_a_patient_in_common(tmp_path, put):
    put(tmp_path, "study_0255")
    put(tmp_path, CONTROL, "CT-0")
    put(tmp_path, NORMAL, "CT-0")
    report = check(tmp_path, {"mosmed": MosMed(), "mosmed-healthy": MosMedHealthy()})
    assert (report.errors, report.general_warnings) == ([], [])
    assert [one.lesion_free for one in report.sets] == [[CONTROL], []]


@pytest.mark.real_data
def test_real_masks_and_their_registry(real_ct_2, opened):
    ill, healthy = opened(MosMed, real_ct_2), opened(MosMedHealthy, real_ct_2)
    assert [ref.id for ref in healthy.discover(real_ct_2)] == ["study_0001", "study_0002"]
    counts = {"study_0255": 45526, "study_0266": 2449, "study_0297": 109454}
    assert {ref.id for ref in ill.discover(real_ct_2)} == set(counts)
    assert "fewer than 100 lesion voxels: study_0287" in ill.notes[0]
    for name, voxels in counts.items():
        lesion = ill.load_truth(name).lesion
        assert np.count_nonzero(lesion) == voxels
    case = ill.load("study_0266")
    assert (case.image.shape, case.spacing[0]) == ((34, 512, 512), 8.0)
    assert ill.load_truth("study_0266").share_outside(case.roi) < 0.05
