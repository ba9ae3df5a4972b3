from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from uasbench.datasets.adapters.btcv import BTCV
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.check import check, format_report
from uasbench.datasets.dataset import Dataset


def _check(path):
    report = check(path, {"lits": LiTS(), "btcv": BTCV()})
    return report, format_report(report)


def test_good_sets(tmp_path, put_lits_case, put_btcv_case):
    put_lits_case(tmp_path / "lits", 0)
    put_lits_case(tmp_path / "lits", 32, tumour=False)
    put_btcv_case(tmp_path / "btcv", 1)
    assert [one.name for one in _check(tmp_path / "btcv")[0].sets] == ["btcv"], "only what lies there is reported"
    report, text = _check(tmp_path)
    assert (report.ok, report.warnings) == (True, [])
    assert [one.name for one in report.sets] == ["lits", "btcv"]
    assert report.sets[0].lesion_free == ["volume-32"]
    assert "2 of 2 cases usable" in text
    assert "14x24x32  2x1.5x1.25 mm" in text
    assert "ready to use" in text


def test_missing_root_and_empty_folder(tmp_path):
    assert "no such folder" in _check(tmp_path / "nowhere")[1]
    report, text = _check(tmp_path)
    assert not report.ok
    assert all(words in text for words in ("no known data set found", "volume-N", "--phantom"))


def test_every_bad_file_is_reported(tmp_path, abdomen, put_nifti, put_lits_case):
    folder = tmp_path / "lits"
    for number in range(8):
        put_lits_case(folder, number, ext=".nii.gz", seed=number)
    nan = abdomen.image.astype(np.float32)
    nan[0, 0, 0] = np.nan
    (folder / "segmentation-0.nii.gz").unlink()
    cut = (folder / "volume-1.nii.gz").read_bytes()
    (folder / "volume-1.nii.gz").write_bytes(cut[: len(cut) // 2])
    put_nifti(folder / "volume-2.nii.gz", nan)
    put_nifti(folder / "segmentation-3.nii.gz", abdomen.labels[2:])
    put_nifti(folder / "segmentation-4.nii.gz", abdomen.labels * 40)
    put_nifti(folder / "segmentation-5.nii.gz", np.zeros_like(abdomen.labels))
    nib.save(nib.Nifti1Image(abdomen.image[0], np.eye(4)), folder / "volume-6.nii.gz")
    report, text = _check(tmp_path)
    expected = [
        "volume-0.nii.gz: image without label",
        "volume-1.nii.gz: the gzip stream ends early (truncated file)",
        "volume-2.nii.gz: 1 voxels are NaN",
        "segmentation-3.nii.gz: shape (32, 24, 12) differs",
        "segmentation-4.nii.gz: unexpected labels 40, 80",
        "segmentation-5.nii.gz: empty region of interest (no voxel with label 1, 2; found 0)",
        "volume-6.nii.gz: 2D data",
    ]
    assert [words for words in expected if words not in text] == []
    assert len(report.errors) == len(expected)
    assert "1 of 7 cases usable" in text
    assert [case.id for case in report.sets[0].cases if case.error is None] == ["volume-7"]


def test_copies_and_twins(tmp_path, put_lits_case, put_nifti, abdomen):
    put_lits_case(tmp_path, 0, seed=5)
    put_lits_case(tmp_path, 1, seed=5)
    assert "lits:volume-0 and lits:volume-1 are the same volume" in _check(tmp_path)[1]
    image = abdomen.image.copy()
    image[10:] += 3
    put_lits_case(tmp_path, 0, seed=0)
    put_nifti(tmp_path / "volume-1.nii", image)
    report, text = _check(tmp_path)
    assert report.ok
    assert "share 10 slices" in text
    assert "2 of 2 cases usable, 1 patients" in text


def test_a_tested_patient_among_the_healthy_and_a_broken_patients_csv(tmp_path, put_lits_case, put_btcv_case):
    put_lits_case(tmp_path / "lits", 0)
    put_btcv_case(tmp_path / "btcv", 1)
    (tmp_path / "patients.csv").write_text("set,case,patient\nlits,volume-0,p\nbtcv,img0001,p\n")
    assert "btcv:img0001 is left out of training" in _check(tmp_path)[1]
    (tmp_path / "patients.csv").write_text("case\nvolume-0\n")
    report, text = _check(tmp_path)
    assert not report.ok
    assert "no column set, patient" in text


def test_disagreement_with_the_tumour_free_list_is_a_finding_except_in_a_phantom(tmp_path, put_lits_case):
    put_lits_case(tmp_path, 0, tumour=False)
    report, text = _check(tmp_path)
    assert report.ok
    assert "no tumour label in volume-0" in text
    (tmp_path / "phantom.json").write_text("{}")
    assert "no tumour label" not in _check(tmp_path)[1]


def test_label_beside_the_organ_is_warned_about(tmp_path, abdomen, put_nifti):
    labels = np.zeros_like(abdomen.labels)
    labels[:, :2, :2] = 1
    put_nifti(tmp_path / "volume-0.nii", abdomen.image)
    put_nifti(tmp_path / "segmentation-0.nii", labels)
    assert "median of the liver is -1000 HU" in _check(tmp_path)[1]


class _Broken(Dataset):
    card = replace(LiTS.card, name="broken")

    def discover(self, root):
        raise ZeroDivisionError("oops")

    def load(self, case_id):
        raise NotImplementedError

    load_truth = load


def test_an_adapter_that_raises_does_not_stop_the_check(tmp_path, put_lits_case):
    put_lits_case(tmp_path / "lits", 0)
    (tmp_path / "broken").mkdir()
    report = check(tmp_path, {"broken": _Broken(), "lits": LiTS()})
    assert "ZeroDivisionError: oops" in format_report(report)
    assert report.sets[1].cases[0].error is None


@pytest.mark.real_data
def test_real_pack(real_ct):
    report, text = _check(real_ct)
    assert report.ok
    assert "lits (lesion)" in text
    assert "2 of 2 cases usable, 1 patients" in text
    assert any("blobs below liver mean" in warning for warning in report.warnings)
    report, text = _check(real_ct / "robustness" / "lits_header_lost")
    assert report.ok
    assert report.sets[0].lesion_free == ["volume-32"]
    assert "spacing and orientation are not trusted" in text
    assert not any("published labels" in warning for warning in report.warnings)
