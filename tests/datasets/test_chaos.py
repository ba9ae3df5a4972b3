import numpy as np
import pytest
from PIL import Image
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.adapters.chaos import CHAOS
from uasbench.datasets.check import check

SPACING = (2.0, 0.75, 0.7)


@pytest.fixture
def scan(abdomen):
    """CT and liver of the abdomen of the tests, both (z, y, x)."""
    return abdomen.image, abdomen.labels > 0


@pytest.mark.parametrize("from_head", [True, False])
def test_masks_follow_instance_numbers_and_spacing_the_positions(tmp_path, put_chaos_case, scan, opened, from_head):
    tags = {"0018|0050": "3.2", "0028|1052": "-1000", "0028|1053": "1"}
    put_chaos_case(tmp_path / "chaos", 7, *scan, SPACING, from_head=from_head, shuffled=True, tags=tags)
    dataset = opened(CHAOS, tmp_path)
    case, truth = dataset.load("chaos_7"), dataset.load_truth("chaos_7")
    np.testing.assert_array_equal(case.image, scan[0])
    np.testing.assert_array_equal(case.roi, scan[1])
    assert (case.patient, case.spacing, case.notes) == ("chaos_7", pytest.approx(SPACING), ())
    assert (truth.lesion, truth.slice_labels) == (None, None)
    assert len(dataset.discover(tmp_path)[0].extra) == 2 * len(scan[0]) - 2


def test_slices_of_other_directions_and_series_of_their_own(tmp_path, put_chaos_case, scan, opened):
    image, liver = (array[:, ::-1, ::-1] for array in scan)
    tags = {"0020|0037": "-1\\0\\0\\0\\-1\\0"}
    home = put_chaos_case(tmp_path, 1, image, liver, SPACING, tags=tags)
    put_chaos_case(tmp_path / "other", 1, image, liver, SPACING, tags={**tags, "0020|000e": "1.2.9"})
    half = sorted((home / "DICOM_anon").iterdir())[::2]
    for file in half:
        file.write_bytes((tmp_path / "other" / "1" / "DICOM_anon" / file.name).read_bytes())
    dataset = opened(CHAOS, home.parent / "1")
    np.testing.assert_array_equal(dataset.load("chaos_1").roi, scan[1])


def test_mr_folders_and_test_scans_are_counted(tmp_path, put_chaos_case, scan):
    put_chaos_case(tmp_path / "Train_Sets" / "CT", 1, *scan, SPACING)
    mr = [f"MR/{n}/{at}" for n in (1, 2) for at in ("T2SPIR/DICOM_anon", "T1DUAL/DICOM_anon/InPhase", "T2SPIR/Ground")]
    for folder in (*mr, "../Test_Sets/CT/3/DICOM_anon", "../Test_Sets/CT/4/DICOM_anon"):
        path = tmp_path / "Train_Sets" / folder / ("a.png" if folder.endswith("Ground") else "a.dcm")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    dataset = CHAOS()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["chaos_1"]
    assert dataset.notes == ("2 MR folders are ignored", "2 test scans without public masks are ignored")


def _first(home):
    return sorted((home / "Ground").iterdir())[0]


def _saved(path, array):
    Image.fromarray(array).save(path)


def _values(*values):
    """Return what gives the first masks of a case one of these values each, and zeros to the others."""

    def spoil(home, liver):
        for path, plane, value in zip(
            sorted((home / "Ground").iterdir()), liver[::-1], (*values, *[0] * 9), strict=False
        ):
            _saved(path, np.full(plane.shape, value, np.uint8))

    return spoil


@pytest.mark.parametrize("value", [1, 255])
def test_masks_of_eight_bits(tmp_path, put_chaos_case, scan, opened, value):
    home = put_chaos_case(tmp_path, 1, *scan, SPACING)
    for path, plane in zip(sorted((home / "Ground").iterdir()), scan[1][::-1], strict=True):
        _saved(path, (value * plane).astype(np.uint8))
    np.testing.assert_array_equal(opened(CHAOS, tmp_path).load("chaos_1").roi, scan[1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda home, _: _first(home).unlink(),
            r"/1: 14 DICOM slices, but 13 masks in Ground.*--exclude chaos:chaos_1",
        ),
        (_values(63, 126), r"Ground: mask values 0, 1, 63, 126, expected 0 and one of 1 and 255 \(63, 126"),
        (_values(255), "mask values 0, 1, 255, expected"),
        (
            lambda home, liver: _saved(_first(home), np.zeros((9, 32), bool)),
            r"000\.png: 32 x 9 pixels, .* have 32 x 24",
        ),
        (
            lambda home, liver: _saved(_first(home), np.zeros((24, 32, 3), np.uint8)),
            "a picture of mode RGB, expected one",
        ),
        (lambda home, _: _first(home).write_bytes(_first(home).read_bytes()[:40]), r"000\.png: cannot be read as PNG"),
        (lambda home, _: _first(home).write_bytes(b"<html>"), r"000\.png: cannot be read as PNG"),
    ],
)
def test_masks_that_do_not_fit(tmp_path, put_chaos_case, scan, opened, spoil, message):
    spoil(put_chaos_case(tmp_path, 1, *scan, SPACING), scan[1])
    with pytest.raises(DataError, match=message):
        opened(CHAOS, tmp_path).load("chaos_1")


def test_masks_in_the_wrong_order_empty_ones_and_numbers_in_no_order(tmp_path, put_chaos_case, scan, opened):
    image, liver = scan
    put_chaos_case(tmp_path / "chaos", 1, image, liver[::-1], SPACING)
    put_chaos_case(tmp_path / "chaos", 2, image, 0 * liver, SPACING)
    put_chaos_case(tmp_path / "chaos", 3, image, liver, SPACING, numbers=[1, 2, 2, *range(4, 15)])
    put_chaos_case(tmp_path / "chaos", 4, np.delete(image, 3, 0), np.delete(liver, 3, 0), SPACING, gap=3)
    put_chaos_case(tmp_path / "chaos", 5, image, np.roll(liver, 12, 2), SPACING)
    dataset = opened(CHAOS, tmp_path)
    for number, message in {
        1: r"chaos/1: mean -?\d+ HU, sd \d+ .*reversed\? \(in reverse order mean 57, sd 13\) .*--exclude chaos:chaos_1",
        2: r"empty region of interest .*--exclude chaos:chaos_2",
        3: r"3/DICOM_anon: instance numbers are missing, or follow no order .*--exclude chaos:chaos_3",
        4: r"uneven slice spacing, 2\.00 to 4\.00 mm",
        5: r"mask order reversed\? Use the published",
    }.items():
        with pytest.raises(DataError, match=message):
            dataset.load(f"chaos_{number}")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("03_CHAOS/ct/img/5_image.nii.gz", "03_CHAOS/ct/liver_label/5_segmentation.nii.gz"),
        ("data/nii/CHAOS/Train_Sets/CT/5/15_.nii.gz", "data/nii/CHAOS/Train_Sets/CT/5/label.nii.gz"),
    ],
)
def test_copies_as_nifti(tmp_path, put_nifti, scan, image, label):
    put_nifti(tmp_path / image, scan[0], codes="RAS")
    put_nifti(tmp_path / label, scan[1].astype(np.uint8), codes="RAS")
    put_nifti(tmp_path / "other" / "img" / "6_image.nii.gz", scan[0])
    dataset = CHAOS()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["chaos_5"]
    case = dataset.load("chaos_5")
    np.testing.assert_array_equal(case.image, scan[0])
    np.testing.assert_array_equal(case.roi, scan[1])
    put_nifti(tmp_path / label, scan[1][::-1].astype(np.uint8), codes="RAS")
    with pytest.raises(DataError, match=r"\d_(image)?\.nii\.gz: mean .* reversed\? \(in reverse order mean 57, sd 13"):
        dataset.load("chaos_5")


def test_the_same_scan_under_another_name_is_found(tmp_path, put_chaos_case, put_nifti, scan):
    put_chaos_case(tmp_path / "chaos", 1, *scan, SPACING)
    put_nifti(tmp_path / "btcv" / "img" / "img0001.nii.gz", scan[0][:9], codes="RAS")
    put_nifti(tmp_path / "btcv" / "label" / "label0001.nii.gz", 6 * scan[1][:9].astype(np.uint8), codes="RAS")
    report = check(tmp_path, {"btcv": BTCV(), "chaos": CHAOS()})
    assert report.errors == []
    assert "btcv:img0001 and chaos:chaos_1 share 9 slices" in report.general_warnings[0]


@pytest.mark.real_data
def test_real_slices_with_real_masks(real_ct_2):
    dataset = CHAOS()
    assert [ref.id for ref in dataset.discover(real_ct_2 / "chaos")] == ["chaos_1"]
    assert dataset.notes == ("1 MR folders are ignored", "1 test scans without public masks are ignored")
    case = dataset.load("chaos_1")
    assert (case.image.shape, case.spacing) == ((18, 512, 512), (2.0, 0.7265625, 0.7265625))
    assert (np.count_nonzero(case.roi), case.image.min(), case.notes) == (619181, -1000, ())
    means = [case.image[z][case.roi[z]].mean() for z in range(18)]
    assert 139 < min(means) < max(means) < 147


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("trap", "message"),
    [
        ("chaos_mask_reversed", r"mask order reversed\? \(in reverse order mean 139, sd 30\)"),
        ("chaos_count_differs", "6 DICOM slices, but 5 masks in Ground"),
    ],
)
def test_real_traps(real_ct_2, trap, message, opened):
    with pytest.raises(DataError, match=message):
        opened(CHAOS, real_ct_2 / "traps" / trap).load("chaos_2")
