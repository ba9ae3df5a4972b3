import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.adapters.pancreas_ct import PancreasCT
from uasbench.datasets.check import check

SPACING = (2.0, 0.75, 0.7)
LABELS = "TCIA_pancreas_labels-02-05-2017"


@pytest.fixture
def scan(abdomen):
    """CT and organ of the abdomen of the tests, both (z, y, x)."""
    return abdomen.image, (abdomen.labels > 0).astype(np.uint8)


@pytest.fixture
def put(put_slice, put_nifti, scan):
    """Return ``put(root, number)``: a case as published; ``turn`` gives the labels as they are stored (z, y, x)."""

    def case(root, number, *, turn=lambda label: label[:, ::-1], gap=None, label=None, tags=()):
        home = root / f"PANCREAS_{number:04d}/11-24-2015-PANCREAS{number:04d}-18957/Pancreas-99667"
        for z, plane in enumerate(scan[0] + number):
            height = SPACING[0] * (z + (gap is not None and z >= gap)) - 300
            place = {"0020|0032": f"-90\\-80\\{height}", "0020|0013": str(99 - z), **dict(tags)}
            put_slice(home / f"1-{99 - z:03d}.dcm", plane.astype(np.int16), SPACING[1:], place)
        stored = turn(scan[1] if label is None else label)
        # The header says nothing true: an identity of other signs, and LPS order in memory.
        put_nifti(root / LABELS / f"label{number:04d}.nii.gz", stored, affine=np.diag([-1.0, 1, 1, 1]))
        return home

    return case


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda label: label[:, ::-1], "from the back: mean"),
        (lambda label: label, "as the slices: mean"),
        (lambda label: label[::-1], "from the head: mean"),
        (lambda label: label[::-1, ::-1], "from the back and the head: mean"),
    ],
)
def test_labels_are_placed_by_the_scan_whatever_their_header_says(tmp_path, put, scan, two_forms, opened, turn, words):
    put(tmp_path / "pancreas-ct", 7, turn=turn)
    if words.startswith("from the back: "):
        two_forms(tmp_path / "pancreas-ct" / LABELS / "label0007.nii.gz", (0,))
    dataset = opened(PancreasCT, tmp_path)
    (ref,) = dataset.discover(tmp_path)
    assert (ref.id, ref.patient, len(ref.extra)) == ("PANCREAS_0007", "PANCREAS_0007", len(scan[0]) - 1)
    case = dataset.load("PANCREAS_0007")
    np.testing.assert_array_equal(case.image, scan[0] + 7)
    np.testing.assert_array_equal(case.roi, scan[1] > 0)
    assert case.spacing == pytest.approx(SPACING)
    assert words in str(case.notes[-1])
    truth = dataset.load_truth("PANCREAS_0007")
    assert (truth.lesion, truth.slice_labels) == (None, None)


def test_scans_converted_to_nifti(tmp_path, put_nifti, scan, opened):
    put_nifti(tmp_path / "data/PANCREAS_0003.nii.gz", scan[0], codes="LAS")
    put_nifti(tmp_path / "labels/PANCREAS_0003.nii.gz", scan[1], codes="LPS")
    case = opened(PancreasCT, tmp_path).load("PANCREAS_0003")
    np.testing.assert_array_equal(case.image, scan[0])
    np.testing.assert_array_equal(case.roi, scan[1] > 0)


def test_withdrawn_cases_and_labels_without_scans(tmp_path, put):
    home = put(tmp_path, 2)
    put(tmp_path, 25)
    put(tmp_path, 3)
    for path in (home.parents[1].parent / "PANCREAS_0003").rglob("*.dcm"):
        path.unlink()
    dataset = PancreasCT()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["PANCREAS_0002"]
    withdrawn, bare = dataset.notes
    assert withdrawn == "PANCREAS_0025: withdrawn from the collection, left out"
    assert "mask of PANCREAS_0003 without its CT, ignored" in bare


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": np.zeros((14, 24, 32), np.uint8)}, r"label0001\.nii\.gz: empty region of interest"),
        ({"label": np.ones((14, 24, 31), np.uint8)}, r"shape \(31, 24, 14\), but the scan .* has \(32, 24, 14\)"),
        ({"label": np.full((14, 24, 32), 2, np.uint8)}, "unexpected labels 2"),
        ({"label": np.ones((14, 24, 32), np.uint8)}, r"label0001.*lies on no tissue of one kind.*as the slices: mean"),
        ({"gap": 5}, r"uneven slice spacing, 2\.00 to 4\.00 mm"),
        ({"tags": {"0018|1120": "12"}}, "gantry tilt of 12 degrees"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, put, opened, options, message):
    put(tmp_path, 1, **options)
    with pytest.raises(DataError, match=message):
        opened(PancreasCT, tmp_path).load("PANCREAS_0001")


def test_a_label_whose_place_the_scan_does_not_tell_is_refused(tmp_path, put, opened, scan):
    middle = np.zeros_like(scan[1])
    middle[4:10, 10:14, 8:12] = 1  # alike under all four ways
    put(tmp_path, 1, label=middle)
    with pytest.raises(DataError, match=r"does not tell how it is placed .*--exclude pancreas-ct:PANCREAS_0001"):
        opened(PancreasCT, tmp_path).load("PANCREAS_0001")


def test_numbers_that_the_collection_does_not_have_and_a_second_series(tmp_path, put):
    put(tmp_path / "a", 90)
    with pytest.raises(DataError, match="PANCREAS_0090 are no cases of Pancreas-CT, which has 1 to 82"):
        PancreasCT().discover(tmp_path / "a")
    home = put(tmp_path / "b", 1)
    (home.parent / "Other").mkdir()
    (home / "1-099.dcm").rename(home.parent / "Other/1-099.dcm")
    with pytest.raises(DataError, match="PANCREAS_0001 lies in 2 places"):
        PancreasCT().discover(tmp_path / "b")


def test_beside_btcv_whose_labels_have_the_same_names(tmp_path, put, put_btcv_case):
    put(tmp_path / "pancreas-ct", 1)
    put_btcv_case(tmp_path / "btcv/RawData/Training", 1)
    report = check(tmp_path, {"btcv": BTCV(), "pancreas-ct": PancreasCT()})
    assert report.errors == []
    assert [[case.id for case in one.cases] for one in report.sets] == [["img0001"], ["PANCREAS_0001"]]
    assert check(tmp_path / "pancreas-ct", {"btcv": BTCV()}).sets == []


@pytest.mark.real_data
@pytest.mark.parametrize("turn", [(), (1,), (0,), (0, 1)])
def test_a_real_organ_is_placed_right_under_every_turn(real_ct, tmp_path, put_nifti, opened, turn):
    """The liver of a real scan stands for a pancreas: the pack has none."""
    scan = BTCV()
    scan.discover(real_ct)
    case = scan.load("img0001")
    put_nifti(tmp_path / "PANCREAS_0001.nii.gz", case.image.astype(np.int16), codes="LAS")
    put_nifti(tmp_path / "labels/PANCREAS_0001.nii.gz", np.flip(case.roi, turn).astype(np.uint8), codes="LAS")
    np.testing.assert_array_equal(opened(PancreasCT, tmp_path).load("PANCREAS_0001").roi, case.roi)
