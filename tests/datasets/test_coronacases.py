"""COVID-19-CT-Seg under both namings, what is refused, and the robustness files of the real pack."""

from dataclasses import dataclass

import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.coronacases import COMBINED_ROI, Coronacases, case_id
from uasbench.datasets.case import Trust
from uasbench.datasets.check import check

ZENODO = ("COVID-19-CT-Seg_20cases", "Lung_Mask", "Infection_Mask", "Lung_and_Infection_Mask")
KAGGLE = ("ct_scans", "lung_mask", "infection_mask", "lung_and_infection_mask")
SPACING = (2.0, 1.5, 1.25)


@dataclass
class Scan:
    """CT (HU), lungs (1 left, 2 right), infection (1) and both combined, all (z, y, x) in LPS."""

    image: np.ndarray
    lungs: np.ndarray
    infection: np.ndarray

    @property
    def combined(self):
        return np.where(self.infection > 0, 3, self.lungs).astype(np.uint8)


@pytest.fixture
def make_scan(chest):
    def make(seed=0):
        image, lungs = chest((10, 24, 32), seed)
        infection = np.zeros_like(lungs)
        infection[4:7, 9:15, 19:27] = 1
        image[infection > 0] += 600
        return Scan(image, lungs, infection)

    return make


@pytest.fixture
def put_scan(put_nifti, make_scan):
    def put(root, number=1, *, folders=ZENODO, ct="coronacases_{:03d}.nii.gz", mask=None, without=(), **options):
        """Write a scan; what is given as ``scan`` replaces the made one, ``spacing`` the usual."""
        scan = options.pop("scan", None) or make_scan(number)
        arrays = (scan.image, scan.lungs, scan.infection, scan.combined)
        for folder, array, name in zip(folders, arrays, (ct, *3 * (mask or ct,)), strict=True):
            if folder not in without:
                put_nifti(root / folder / name.format(number), array, **{"spacing": SPACING, **options})
        return scan

    return put


def test_kaggle_naming_and_the_ids_of_both(tmp_path, put_scan, opened):
    scan = put_scan(tmp_path, 3, folders=KAGGLE, ct="coronacases_org_{:03d}.nii", mask="coronacases_{:03d}.nii")
    dataset = opened(Coronacases, tmp_path)
    np.testing.assert_array_equal(dataset.load("coronacases_003").roi, scan.lungs > 0)
    np.testing.assert_array_equal(dataset.load_truth("coronacases_003").lesion, scan.infection > 0)
    assert case_id("coronacases_001") == case_id("coronacases_org_001") == "coronacases_001"
    windowed = "radiopaedia_14_85914_0", "radiopaedia_org_covid-19-pneumonia-14_85914_0-dcm"
    assert {case_id(name) for name in windowed} == {"radiopaedia_14_85914_0"}
    assert case_id("volume-1") is case_id("coronacases_001_copy") is None


def test_windowed_radiopaedia_files_are_counted_and_left_out_and_alone_refused_with_the_reason(tmp_path, put_scan):
    put_scan(tmp_path, 1)
    kaggle = {"folders": KAGGLE, "ct": "radiopaedia_org_covid-19-pneumonia-{}_85914_0-dcm.nii"}
    for number in (14, 27):
        put_scan(tmp_path, number, **kaggle, mask="radiopaedia_{}_85914_0.nii")
    dataset = Coronacases()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["coronacases_001"]
    (note,) = dataset.notes
    assert note.startswith("2 radiopaedia_* CT")
    assert "windowed to 0-255" in note
    put_scan(tmp_path / "alone", 10, ct="radiopaedia_{}_85902_1.nii.gz")
    with pytest.raises(DataError, match=r"radiopaedia_10_85902_1.*windowed to 0-255 .* use the coronacases_\* files"):
        Coronacases().discover(tmp_path / "alone")


def test_combined_file_alone_whose_permuted_truth_changes_nothing_the_methods_see(
    tmp_path, put_scan, put_nifti, opened
):
    scan = put_scan(tmp_path, without=("Lung_Mask", "Infection_Mask"))
    dataset = opened(Coronacases, tmp_path)
    case = dataset.load("coronacases_001")
    labels, inside = scan.combined.copy(), scan.combined > 0
    np.testing.assert_array_equal(case.roi, inside)
    assert case.roi_source == COMBINED_ROI
    np.testing.assert_array_equal(dataset.load_truth("coronacases_001").lesion, scan.infection > 0)
    labels[inside] = np.random.default_rng(0).permutation(labels[inside])
    put_nifti(tmp_path / ZENODO[3] / "coronacases_001.nii.gz", labels, spacing=SPACING)
    np.testing.assert_array_equal(case.roi, opened(Coronacases, tmp_path).load("coronacases_001").roi)


def test_infection_of_the_combined_file_where_its_own_is_missing(tmp_path, put_scan):
    scan = put_scan(tmp_path, without=("Infection_Mask",))
    dataset = Coronacases()
    (ref,) = dataset.discover(tmp_path)
    assert "infection is label 3" in ref.notes[0]
    assert dataset.load(ref.id).roi_source == "mask file"
    np.testing.assert_array_equal(dataset.load_truth(ref.id).lesion, scan.infection > 0)


@pytest.mark.parametrize(("outside", "warned"), [(np.s_[0, :2], True), (np.s_[0, 0, :2], False)])
def test_infection_outside_the_lungs_warns_beyond_a_little(tmp_path, put_scan, make_scan, outside, warned, opened):
    scan = make_scan()
    scan.infection[outside] = 1
    put_scan(tmp_path, scan=scan)
    dataset = opened(Coronacases, tmp_path)
    case, truth = dataset.load("coronacases_001"), dataset.load_truth("coronacases_001")
    share = scan.infection[outside].size / scan.infection.sum()
    assert truth.share_outside(case.roi) == pytest.approx(share)
    text = f"{100 * share:.0f} % of the lesions lies outside the lung mask (mask file)"
    assert dataset.inspect(case, truth) == [text] * warned
    assert dataset.inspect(case, None) == []
    report = check(tmp_path, {"coronacases": Coronacases()})
    assert any("outside the lung mask" in text for text in report.warnings) == warned


def test_sides_that_contradict_the_axes_warn(tmp_path, put_scan, make_scan, opened):
    scan = make_scan()
    scan.lungs = np.where(scan.lungs > 0, 3 - scan.lungs, 0).astype(np.uint8)
    put_scan(tmp_path, scan=scan)
    (note,) = opened(Coronacases, tmp_path).load("coronacases_001").notes
    assert str(note).startswith("warning: the left lung (1) of coronacases_001.nii.gz lies on the patient's right")


def test_thick_and_repeated_slices_are_noted(tmp_path, put_scan, make_scan, opened):
    scan = make_scan()
    scan.image[4] = scan.image[3]
    put_scan(tmp_path, scan=scan, spacing=(8.0, 1.5, 1.25))
    case = opened(Coronacases, tmp_path).load("coronacases_001")
    assert case.trust == Trust("header", spacing_trusted=False)
    assert [str(note)[:26] for note in case.notes] == ["warning: slices 8 mm apart", "warning: 1 of 10 slices re"]


def test_every_file_of_a_case_is_known_and_masks_without_ct_are_ignored_but_alone_incomplete(tmp_path, put_scan):
    put_scan(tmp_path, 1)
    put_scan(tmp_path, 2, without=(ZENODO[0],))
    dataset = Coronacases()
    (ref,) = dataset.discover(tmp_path)
    assert [path.parent.name for path in (ref.image, ref.label, *ref.extra)] == [ZENODO[0], ZENODO[2], ZENODO[1]]
    assert ["coronacases_002" in note and "ignored" in note for note in dataset.notes] == [True]
    put_scan(tmp_path / "alone", without=ZENODO[:1])
    with pytest.raises(DataError, match=rf"without its CT \(no {ZENODO[0]}/coronacases_001.nii.gz\): the case is inc"):
        Coronacases().discover(tmp_path / "alone")


def _outcome(root):
    """Return what happens to the only case of a folder: discover, load and truth errors, or ``loaded``."""
    dataset = Coronacases()
    try:
        (ref,) = dataset.discover(root)
    except DataError as error:
        return f"discover: {error}"
    for name, step in (("load", dataset.load), ("truth", dataset.load_truth)):
        try:
            step(ref.id)
        except DataError as error:
            return f"{name}: {error}"
    return "loaded"


ROBUSTNESS = {
    "valid_crop": "loaded",
    "windowed_0_255": "discover: windowed to 0-255",
    "truncated_gz": "load: ends early (truncated file)",
    "nan_values": "load: voxels are NaN or infinite",
    "shape_mismatch": "truth: differs from the image's",
    "unexpected_labels": "truth: unexpected labels 7, 255",
    "all_zero_mask": "loaded",
    "empty_lung_mask": "load: the lung mask is empty",
    "mask_missing": "loaded",
    "two_dimensional": "load: 2D data of shape",
    "gzip_named_nii": "loaded",
    "plain_named_nii_gz": "loaded",
    "wrong_extension": "discover: mask of coronacases_001 without its CT",
    "lits_header_lost": "discover: no case of Coronacases",
    "head_tilt_uneven": "discover: no case of Coronacases",
}


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (lambda scan: scan.infection[:9], r"Infection_Mask.*differs from the image's"),
        (lambda scan: np.where(scan.infection > 0, 255, 7 * (scan.lungs > 0)), "unexpected labels 7, 255"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused_and_the_image_is_not(tmp_path, put_scan, put_nifti, odd, message, opened):
    scan = put_scan(tmp_path)
    put_nifti(tmp_path / "Infection_Mask" / "coronacases_001.nii.gz", odd(scan).astype(np.uint8), spacing=SPACING)
    dataset = opened(Coronacases, tmp_path)
    dataset.load("coronacases_001")
    with pytest.raises(DataError, match=message):
        dataset.load_truth("coronacases_001")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ROBUSTNESS)
def test_real_bad_input(real_ct, monkeypatch, name):
    monkeypatch.setenv("UASBENCH_LUNGMASK_WEIGHTS", str(real_ct / "absent.pth"))
    stage, _, text = ROBUSTNESS[name].partition(": ")
    outcome = _outcome(real_ct / "robustness" / name)
    assert outcome.startswith(stage)
    assert text in outcome


@pytest.mark.real_data
def test_every_robustness_folder_has_an_outcome_and_the_truth_of_two_is_right(real_ct, opened):
    assert {path.name for path in (real_ct / "robustness").iterdir()} == set(ROBUSTNESS)
    for name, voxels in (("all_zero_mask", 0), ("mask_missing", 3110)):
        dataset = opened(Coronacases, real_ct / "robustness" / name)
        assert dataset.load_truth("coronacases_001").lesion.sum() == voxels
