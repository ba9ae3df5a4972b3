"""The MedSeg volumes: three folders paired by number, effusion, the rule that leaves volumes out."""

import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.lung_folders import MIN_LESION_VOXELS
from uasbench.datasets.adapters.radiopaedia import Radiopaedia

SPACING = (3.0, 0.7, 0.7)
SHAPE = (6, 40, 50)


@pytest.fixture
def put_volume(put_nifti, chest):
    def put(root, number, *, lesion=200, effusion=50, ext=".nii.gz", shape=SHAPE, spacing=SPACING, **options):
        image, lungs = chest(shape, number)
        labels = np.zeros(shape, np.uint8)
        places = np.flatnonzero(lungs)
        labels.flat[places[:lesion]] = 1 + np.arange(lesion) % 2
        labels.flat[places[lesion : lesion + effusion]] = 3
        for folder, array in (("rp_im", image), ("rp_msk", labels), ("rp_lung_msk", lungs)):
            put_nifti(root / folder / f"{number}{ext}", array, spacing=spacing, **options)
        return image, labels, lungs

    return put


def test_effusion_is_not_lesion_and_any_lung_value_counts(tmp_path, put_volume, put_nifti, opened):
    _, labels, lungs = put_volume(tmp_path, 1, lesion=150, effusion=300)
    lesion = opened(Radiopaedia, tmp_path).load_truth("rp_1").lesion
    assert lesion is not None
    assert lesion.sum() == 150
    assert not lesion[labels == 3].any()
    put_nifti(tmp_path / "rp_lung_msk" / "1.nii.gz", np.where(lungs > 0, 17, 0).astype(np.uint8), spacing=SPACING)
    np.testing.assert_array_equal(opened(Radiopaedia, tmp_path).load("rp_1").roi, lungs > 0)


@pytest.mark.parametrize(("voxels", "stays"), [(MIN_LESION_VOXELS - 1, False), (MIN_LESION_VOXELS, True), (0, False)])
def test_volumes_with_few_lesion_voxels_are_excluded_and_counted(tmp_path, put_volume, two_forms, voxels, stays):
    put_volume(tmp_path, 5)
    put_volume(tmp_path, 6, lesion=voxels, effusion=400)
    two_forms(tmp_path / "rp_msk" / "6.nii.gz", (0,))  # how they lie does not matter for counting
    dataset = Radiopaedia()
    ids = [ref.id for ref in dataset.discover(tmp_path)]
    assert ids == (["rp_5", "rp_6"] if stays else ["rp_5"])
    assert len(dataset.notes) == (0 if stays else 1)
    if not stays:
        assert dataset.notes[0].startswith("1 of 2 volumes excluded by rule")
        assert "rp_6" in dataset.notes[0]
        (tmp_path / "rp_im" / "5.nii.gz").unlink()
        with pytest.raises(DataError, match="1 of 1 volumes excluded by rule"):
            Radiopaedia().discover(tmp_path)


def test_an_unreadable_mask_stays_a_case_and_other_numbers_in_other_folders_are_none(tmp_path, put_volume, put_nifti):
    image, _, _ = put_volume(tmp_path, 1)
    path = tmp_path / "rp_msk" / "1.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    put_nifti(tmp_path / "elsewhere" / "2.nii.gz", image, spacing=SPACING)
    dataset = Radiopaedia()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["rp_1"]
    with pytest.raises(DataError, match=r"rp_msk/1\.nii\.gz: "):
        dataset.load_truth("rp_1")
