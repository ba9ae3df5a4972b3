import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.covid_19_20 import ACCEPT, Covid1920
from uasbench.datasets.check import check
from uasbench.datasets.splits import val_folds

SHAPE, SPACING = (12, 24, 32), (5.0, 10.0, 10.0)
TRAIN = "COVID-19-20_v2/Train"


@pytest.fixture
def put(put_nifti, chest):
    """Return ``put(root, case)``: a scan of Train with its labels, and lungs laid beside the data."""

    def scan(root, case, *, home=TRAIN, seg="_seg", value=1, shape=SHAPE, seed=None):
        image, lungs = chest(SHAPE, sum(case.encode()) if seed is None else seed)
        lesion = np.zeros(SHAPE, np.uint8)
        lesion[4:7, 9:15, 19:27] = value
        name = f"volume-covid19-{case}"
        put_nifti(root / home / f"{name}_ct.nii.gz", image, spacing=SPACING, codes="LAS")
        if seg:
            put_nifti(root / home / f"{name}{seg}.nii.gz", lesion[: shape[0]], spacing=SPACING, codes="LAS")
        put_nifti(root / "rois/covid-19-20" / f"{case}.nii.gz", (lungs > 0).astype(np.uint8), spacing=SPACING)
        return image, lungs > 0, lesion > 0

    return scan


@pytest.mark.parametrize("home", [TRAIN, "covid-19-20/COVID-19-20_v2/Train", "some/where/covid-19-20_v2/train"])
def test_scans_lungs_and_lesions(tmp_path, put, opened, home):
    image, lungs, lesion = put(tmp_path, "A-0047_1", home=home)
    dataset = opened(Covid1920, tmp_path)
    case, truth = dataset.load("A-0047_1"), dataset.load_truth("A-0047_1")
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.roi, lungs)
    np.testing.assert_array_equal(truth.lesion, lesion)
    np.testing.assert_array_equal(truth.slice_labels, lesion.any(axis=(1, 2)))
    assert (case.spacing, case.patient, dataset.notes) == (SPACING, "covid19-A-0047", ())
    assert case.roi_source.startswith("mask file rois/covid-19-20/A-0047_1.nii.gz")


def test_scans_of_one_number_are_one_patient_who_is_never_parted(tmp_path, put):
    names = ("A-0003", "A-0047", "A-0047_1", "A-0721_day000", "A-0721_day008")
    for name in names:
        put(tmp_path, name)
    refs = Covid1920().discover(tmp_path)
    people = {ref.id: ref.patient for ref in refs}
    assert people == {name: f"covid19-{name[:6]}" for name in names}
    report = check(tmp_path, {"covid-19-20": Covid1920()})
    assert (report.errors, report.general_warnings) == ([], [])
    assert {case.id: case.patient for case in report.sets[0].cases} == people
    for fold in val_folds(people.values(), 0):
        assert not set(fold.tune) & set(fold.apply)
    (tmp_path / "patients.csv").write_text("set,case,patient\ncovid-19-20,A-0047,anna\ncovid-19-20,A-0047_1,anna\n")
    assert {ref.id: ref.patient for ref in Covid1920().discover(tmp_path)}["A-0047"] == "anna"


def test_the_first_release_is_refused_unless_it_is_accepted(tmp_path, put, opened):
    home = "covid-19-20/Train"
    put(tmp_path, "A-0003", home=home)
    with pytest.raises(DataError, match=rf"covid-19-20/Train: not below a folder COVID-19-20_v2.* file {ACCEPT} there"):
        Covid1920().discover(tmp_path)
    for place in ("covid-19-20", home):
        mark = tmp_path / place / ACCEPT
        mark.touch()
        dataset = opened(Covid1920, tmp_path)
        assert dataset.discover(tmp_path)[0].extra[-1] == mark
        assert "first release of COVID-19-20, in which volumes were doubled" in str(dataset.load("A-0003").notes[-1])
        mark.unlink()
    put(tmp_path, "A-0004", home="covid-19-20/COVID-19-20_v2/Train")  # beside the second release it is refused, too
    with pytest.raises(DataError, match="not below a folder COVID-19-20_v2"):
        Covid1920().discover(tmp_path)


def test_acceptance_marks_no_scan_of_the_second_release(tmp_path, put, opened):
    put(tmp_path, "A-0003")
    (tmp_path / TRAIN / ACCEPT).touch()
    assert [note.text for note in opened(Covid1920, tmp_path).load("A-0003").notes if "release" in note.text] == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["Train/volume-covid19-A-0003_corrDouble_ct.nii.gz"], "a correction of the first release by somebody else"),
        (["Train/volume-covid19-A-0003_seg_corrected_auto.nii.gz"], r"\(1 files, named _corr\.\.\.\)"),
        (["Train/volume-covid19-A-0003_ct.nii.gz"], r"A-0003_ct\.nii\.gz: image without label \(no file of the same"),
        (["Train/volume-covid19-A-0003_seg.nii.gz"], r"mask of A-0003 without its CT .*add the CT"),
        (["Validation/volume-covid19-A-0009_seg.nii.gz"], "labels of the validation scans are not public"),
        (
            [f"{home}/volume-covid19-A-0003_{kind}.nii.gz" for home in ("a", "b") for kind in ("ct", "seg")],
            "A-0003 lies in 2 places",
        ),
    ],
)
def test_what_is_no_scan_with_its_published_label_is_refused(tmp_path, files, message):
    for name in files:
        path = tmp_path / "COVID-19-20_v2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(DataError, match=message):
        Covid1920().discover(tmp_path)


def test_validation_and_foreign_names_are_counted(tmp_path, put):
    put(tmp_path, "A-0003")
    for name in ("Validation/volume-covid19-A-0009_ct.nii.gz", "Train/volume-covid19-A-0003_0000.nii.gz"):
        path = tmp_path / "COVID-19-20_v2" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    dataset = Covid1920()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["A-0003"]
    assert dataset.notes == (
        "1 validation scans without public labels are ignored",
        "1 files of other names are ignored (volume-covid19-A-0003_0000.nii.gz)",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"value": 2}, "unexpected labels 2"), ({"shape": (9, 24, 32)}, r"shape \(32, 24, 9\) differs from the image's")],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, put, opened, options, message):
    put(tmp_path, "A-0003", **options)
    with pytest.raises(DataError, match=message):
        opened(Covid1920, tmp_path).load_truth("A-0003")


def test_nothing_is_known_of_its_licence():
    assert Covid1920.card.licence.startswith("not found")
