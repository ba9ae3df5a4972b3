import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.kits23 import KiTS23


@pytest.fixture
def put(abdomen, put_nifti):
    """Return ``put(folder, *numbers)``: cases stored as the release stores them, with a cyst beside the tumour."""

    def cases(folder, *numbers, image=True, index="kits23.json"):
        labels = abdomen.labels.copy()
        labels[8][labels[8] == 1] = 3
        stored = {"codes": "IPL", "form_codes": (2, 0)}
        for number in numbers:
            case = folder / f"case_{number:05d}"
            put_nifti(case / "segmentation.nii.gz", labels, **stored)
            if image:
                put_nifti(case / "imaging.nii.gz", abdomen.image.astype(np.float64) + number, **stored)
        if index:
            (folder / index).write_text("[]")
        return labels

    return cases


def test_cysts_are_neither_organ_nor_lesion(tmp_path, put, opened, abdomen):
    labels = put(tmp_path / "kits23/dataset", 61, 534)
    dataset = opened(KiTS23, tmp_path)
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["case_00061", "case_00534"]
    assert dataset.notes == ()
    case, lesion = dataset.load("case_00061"), dataset.load_truth("case_00061").lesion
    np.testing.assert_array_equal(case.image, abdomen.image + 61)
    np.testing.assert_array_equal(case.roi, (labels == 1) | (labels == 2))
    np.testing.assert_array_equal(lesion, labels == 2)
    assert case.spacing == (2.0, 1.5, 1.25)
    assert [str(note) for note in case.notes] == [
        "arterial phase, by the number of the case",
        f"{(labels == 3).sum()} voxels of cyst lie outside the region of interest and are not measured",
    ]
    assert "nephrographic phase, by the number of the case" in map(str, dataset.load("case_00534").notes)


def test_missing_and_broken_downloads_are_refused(tmp_path, put):
    put(tmp_path / "dataset", 1)
    put(tmp_path / "dataset", 2, 3, image=False)
    with pytest.raises(DataError, match=r"no imaging\.nii\.gz in 2 case folders \(case_00002, case_00003\); run "):
        KiTS23().discover(tmp_path)
    (tmp_path / "dataset/case_00003/.partial.imaging.nii.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"\.partial\.imaging\.nii\.gz: 1 downloads broke off \(case_00003\); delete"):
        KiTS23().discover(tmp_path)


def test_other_releases_are_refused_by_name(tmp_path, put):
    put(tmp_path / "19/data", 1, index="kits.json")
    put(tmp_path / "moved/dataset", 1, index="kits.json")
    put(tmp_path / "21/data", 1, index="kits.json")
    (tmp_path / "21/data/case_00001/aggregated_MAJ_seg.nii.gz").write_bytes(b"")
    for folder, version in (("19", "KiTS19"), ("moved", "KiTS19"), ("21", "KiTS21")):
        with pytest.raises(DataError, match=rf"{folder}/\w+: files of {version}.*labels of 2023 alone"):
            KiTS23().discover(tmp_path / folder)
    put(tmp_path / "dataset", 300, 1)
    with pytest.raises(DataError, match="case_00300 are no cases of KiTS23, which has 0 to 299 and 400 to 588"):
        KiTS23().discover(tmp_path / "dataset")


def test_labels_of_unknown_release_are_a_note_and_a_second_copy_is_refused(tmp_path, put):
    put(tmp_path / "a/dataset", 1, index=None)
    dataset = KiTS23()
    dataset.discover(tmp_path)
    assert "no kits23.json, so that nothing tells these labels from those of KiTS19" in dataset.notes[0]
    put(tmp_path / "b/dataset", 1)
    with pytest.raises(DataError, match="case_00001 lies in 2 places"):
        KiTS23().discover(tmp_path)


@pytest.mark.real_data
def test_real_labels(second_pack, opened):
    dataset = opened(KiTS23, second_pack)
    counts = {"case_00061": (123831, 23400), "case_00534": (104283, 8773)}
    assert {ref.id for ref in dataset.discover(second_pack)} == set(counts)
    for name, (kidney, tumour) in counts.items():
        case, lesion = dataset.load(name), dataset.load_truth(name).lesion
        assert (case.roi.sum(), lesion.sum()) == (kidney + tumour, tumour)
        assert case.trust.orientation_source == "header"
        assert len(case.notes) == 1
        assert 150 < np.median(case.image[case.roi]) < 170


@pytest.mark.real_data
def test_real_labels_of_2019_are_refused_in_their_layout_and_noted_in_another(second_pack, opened):
    with pytest.raises(DataError, match="kits19_layout/data: files of KiTS19"):
        KiTS23().discover(second_pack / "traps/kits19_layout")
    dataset = opened(KiTS23, second_pack / "traps/kits19_labels_as_kits23")
    assert "no kits23.json" in dataset.notes[0]
