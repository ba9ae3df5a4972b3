import gzip
import os
import shutil

import numpy as np
import pytest
from scipy import ndimage
from uasbench.common.errors import DataError
from uasbench.datasets.adapters import nifti_pair
from uasbench.datasets.adapters.lits import TUMOUR_FREE, LiTS
from uasbench.datasets.case import Trust


def test_the_named_folder_wins_over_the_rest_of_the_root_and_test_scans_are_ignored(tmp_path, put_lits_case):
    put_lits_case(tmp_path / "lits", 1)
    put_lits_case(tmp_path / "robustness", 1)
    shutil.copy(tmp_path / "lits" / "volume-1.nii", tmp_path / "lits" / "test-volume-0.nii")
    dataset = LiTS()
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["volume-1"]
    assert "1 test scans without public labels" in dataset.notes[0]


def _as_twin(source, root):
    for name, folder in (("volume", "imagesTr"), ("segmentation", "labelsTr")):
        for path in source.glob(f"{name}-*.nii"):
            target = root / "Task03_Liver" / folder / path.name.replace(name + "-", "liver_").replace(".nii", ".nii.gz")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(gzip.compress(path.read_bytes()))


def test_decathlon_twin_alone_is_read_and_beside_lits_refused(tmp_path, put_lits_case):
    scan = put_lits_case(tmp_path / "data" / "batch", 7)
    _as_twin(tmp_path / "data" / "batch", tmp_path / "twin")
    task = tmp_path / "twin" / "Task03_Liver"
    (task / "imagesTs").mkdir()
    shutil.copy(task / "imagesTr" / "liver_7.nii.gz", task / "imagesTs" / "liver_132.nii.gz")
    dataset = LiTS()
    assert [ref.id for ref in dataset.discover(tmp_path / "twin")] == ["volume-7"]
    np.testing.assert_array_equal(dataset.load("volume-7").image, scan.image)
    assert any("liver_N is read as volume-N" in note for note in dataset.notes)
    _as_twin(tmp_path / "data" / "batch", tmp_path / "data")
    (tmp_path / "named").mkdir()
    shutil.copytree(tmp_path / "data" / "batch", tmp_path / "named" / "lits")
    _as_twin(tmp_path / "named" / "lits", tmp_path / "named")
    for folder in ("data", "named"):
        with pytest.raises(DataError, match="same scans twice"):
            LiTS().discover(tmp_path / folder)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "RPS", "RAI", "LPI"])
def test_lost_header_is_turned_by_anatomy(tmp_path, put_lits_case, codes, opened):
    abdomen = put_lits_case(tmp_path, 32, codes=codes, affine=np.eye(4))
    dataset = opened(LiTS, tmp_path)
    case = dataset.load("volume-32")
    np.testing.assert_array_equal(case.image, abdomen.image)
    np.testing.assert_array_equal(case.roi, abdomen.labels > 0)
    np.testing.assert_array_equal(dataset.load_truth("volume-32").lesion, abdomen.labels == 2)
    trust = Trust("header", spacing_trusted=False, orientation_source="anatomy")
    assert (case.spacing, case.trust) == ((1.0, 1.0, 1.0), trust)
    assert sum("not trusted" in note.text for note in case.notes) == 1
    assert any("orientation chosen by anatomy" in note.text for note in case.notes)


def test_a_set_may_know_no_anatomy_and_its_labels_by_case(tmp_path, put_lits_case, opened, monkeypatch):
    class Other(LiTS):
        case_labels = frozenset()
        find_flips = staticmethod(nifti_pair.NiftiPairDataset.find_flips)

        def lesion_values(self, case_id):
            return frozenset({0, 1, 2}), self.lesion_labels

    scan, read, reads = put_lits_case(tmp_path, 1, affine=np.eye(4)), nifti_pair.read_labels, []
    monkeypatch.setattr(nifti_pair, "read_labels", lambda *args: reads.append(args) or read(*args))
    dataset = opened(Other, tmp_path)
    np.testing.assert_array_equal(dataset.load_truth("volume-1").lesion, (scan.labels == 2)[:, ::-1, ::-1])
    assert len(reads) == 1
    assert dataset.load("volume-1").trust.orientation_source != "anatomy"


def test_side_table_of_spacings(tmp_path, put_lits_case):
    put_lits_case(tmp_path / "lits", 32, affine=np.eye(4))
    (tmp_path / "spacing.csv").write_text("case,z,y,x\nlits:volume-32,2.5,0.7,0.7\n")
    dataset = LiTS()
    (ref,) = dataset.discover(tmp_path)
    assert ref.extra == (tmp_path / "spacing.csv",)
    case = dataset.load("volume-32")
    assert (case.spacing, case.trust) == ((2.5, 0.7, 0.7), Trust("table", orientation_source="anatomy"))
    assert any("spacing.csv" in note.text for note in case.notes)
    for bad in ("0", "nan", "wide"):
        (tmp_path / "spacing.csv").write_text(f"case,z,y,x\nvolume-32,{bad},0.7,0.7\n")
        with pytest.raises(DataError, match="line 2: spacing"):
            LiTS().discover(tmp_path)


@pytest.mark.parametrize(("number", "doubted"), [(27, False), (28, True), (47, True), (48, False)])
def test_unit_spacing_of_the_lost_headers_is_trusted_only_from_a_table(
    tmp_path, put_lits_case, number, doubted, opened
):
    put_lits_case(tmp_path, number, spacing=(1.0, 1.0, 1.0))
    case = opened(LiTS, tmp_path).load(f"volume-{number}")
    assert case.trust == Trust(spacing_trusted=not doubted)
    assert any("spacing 1 x 1 x 1 mm is not trusted" in note.text for note in case.notes) == doubted
    (tmp_path / "spacing.csv").write_text(f"case,z,y,x\nvolume-{number},1,1,1\n")
    assert opened(LiTS, tmp_path).load(f"volume-{number}").trust == Trust("table")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch, put_lits_case):
    put_lits_case(tmp_path / "closed", 0)
    listing = os.scandir

    def deny(path):
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(DataError, match=r"closed: cannot be listed \(Permission denied\)"):
        LiTS().discover(tmp_path)


def test_mirrored_scan_with_an_intact_header_is_kept_with_a_warning(tmp_path, abdomen, put_nifti, opened):
    put_nifti(tmp_path / "volume-0.nii", abdomen.image[..., ::-1])
    put_nifti(tmp_path / "segmentation-0.nii", abdomen.labels[..., ::-1])
    case = opened(LiTS, tmp_path).load("volume-0")
    np.testing.assert_array_equal(case.image, abdomen.image[..., ::-1])
    assert any(str(note).startswith("warning: the liver lies on the patient's left") for note in case.notes)


def test_thirteen_tumour_free_scans():
    assert len(TUMOUR_FREE) == 13
    published = {f"volume-{n}": 0 if f"volume-{n}" in TUMOUR_FREE else 500 for n in range(131)}
    assert LiTS().inspect_all(published) == []
    assert LiTS().inspect_all({"volume-32": 0}) == []
    assert "volume-0" in LiTS().inspect_all({**published, "volume-0": 0})[0]
    assert "volume-119" in LiTS().inspect_all({**published, "volume-119": 4})[0]


@pytest.mark.real_data
def test_real_scan_stored_twice_differs_only_at_its_lesions(real_ct, opened):
    dataset = opened(LiTS, real_ct)
    first, second = dataset.load("volume-0"), dataset.load("volume-1")
    assert first.patient == second.patient == "totalsegmentator-example"
    np.testing.assert_array_equal(first.roi, second.roi)
    assert first.spacing == second.spacing == (3.0, 3.0, 3.0)
    lesions = [dataset.load_truth(name).lesion for name in ("volume-0", "volume-1")]
    changed = first.image != second.image
    assert not (changed & ~first.roi).any()
    regions, count = ndimage.label(changed)
    assert count > 0
    assert set(np.unique(regions[(lesions[0] | lesions[1]) & changed])) - {0} == set(range(1, count + 1))
    assert [mask.sum() for mask in lesions] == [1073, 1272]


@pytest.mark.real_data
def test_real_scan_with_a_lost_header(real_ct, opened):
    dataset = opened(LiTS, real_ct / "robustness" / "lits_header_lost")
    case = dataset.load("volume-32")
    assert case.spacing == (1.0, 1.0, 1.0)
    assert any("spacing and orientation are not trusted" in note.text for note in case.notes)
    assert not dataset.load_truth("volume-32").lesion.any()
    host = opened(LiTS, real_ct).load("volume-0")
    every_second = host.image[::2, ::-2, ::-2][:, ::-1, ::-1]
    healthy = np.abs(every_second - case.image) < 1
    assert healthy[~case.roi].all()
