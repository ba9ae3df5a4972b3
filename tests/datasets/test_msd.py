import json
import re
import shutil

import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.adapters.msd import MSDColon, MSDLung, MSDPancreas, MSDVessels

LISTED = [{"image": f"./imagesTr/pancreas_{n}.nii.gz", "label": f"./labelsTr/pancreas_{n}.nii.gz"} for n in (9, 1)]
INDEX = {
    "name": "Pancreas",
    "relase": "0.0",
    "tensorImageSize": "3D",
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "pancreas", "2": "cancer"},
    "training": LISTED,
    "test": ["./imagesTs/pancreas_2.nii.gz"],
}


@pytest.fixture
def put(abdomen, put_nifti):
    """Return ``put(task, *numbers, file, marks)``: scans with labels in a task's folder, and its index."""

    def case(task, *numbers, file="pancreas", marks=None, suffix="", **index):
        for number in numbers:
            put_nifti(task / f"imagesTr/{file}_{number}{suffix}.nii.gz", abdomen.image + number)
            put_nifti(task / f"labelsTr/{file}_{number}.nii.gz", abdomen.labels if marks is None else marks)
        (task / "dataset.json").write_text(json.dumps({**INDEX, **index}))
        return abdomen

    return case


def test_the_published_layout(tmp_path, put, put_nifti, opened):
    task = tmp_path / "Task07_Pancreas"
    abdomen = put(task, 9, 1)
    put_nifti(task / "imagesTs/pancreas_2.nii.gz", abdomen.image)
    (task / "imagesTr/._pancreas_1.nii.gz").write_bytes(b"\0\5\x16\7")
    dataset = opened(MSDPancreas, tmp_path)
    assert [ref.id for ref in dataset.discover(tmp_path)] == ["pancreas_1", "pancreas_9"]
    assert dataset.notes == ("1 test scans without public labels are ignored",)
    np.testing.assert_array_equal(dataset.load("pancreas_9").roi, abdomen.labels > 0)
    np.testing.assert_array_equal(dataset.load_truth("pancreas_9").lesion, abdomen.labels == 2)


def test_the_names_of_nnu_net(tmp_path, put):
    task = tmp_path / "Dataset007_Pancreas"
    labels = {"background": 0, "pancreas": 1, "cancer": 2}
    put(task, 5, suffix="_0000")
    index = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (task / "dataset.json").write_text(json.dumps(index))
    assert [ref.id for ref in MSDPancreas().discover(tmp_path)] == ["pancreas_5"]
    shutil.copy(task / "imagesTr/pancreas_5_0000.nii.gz", task / "imagesTr/pancreas_5_0001.nii.gz")
    with pytest.raises(DataError, match=r"pancreas_5_0001\.nii\.gz: a second channel; .* _0000 alone, remove"):
        MSDPancreas().discover(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": {"0": "MRI"}}, "dataset.json: modality MRI, images of 3D; Task07_Pancreas is 3D CT"),
        ({"tensorImageSize": "4D"}, "dataset.json: modality CT, images of 4D"),
        ({"modality": {"0": "CT", "1": "PET"}}, "modality CT, PET"),
        ({"labels": {"0": "background", "1": "cancer"}}, "labels 1 cancer; those of .* are 1 pancreas, 2 cancer"),
        ({"labels": {"0": "background", "1": "cancer", "2": "pancreas"}}, "labels 1 cancer, 2 pancreas; those of"),
        ({"labels": None}, "labels none; those of"),
        ({"training": LISTED[:1]}, "does not list pancreas_1 under training; use"),
    ],
)
def test_an_index_that_says_something_else_is_refused(tmp_path, put, change, message):
    put(tmp_path / "Task07_Pancreas", 9, 1, **change)
    with pytest.raises(DataError, match=message):
        MSDPancreas().discover(tmp_path)


def test_without_an_index_the_name_of_the_folder_has_to_say_which_task_it_is(tmp_path, put):
    put(tmp_path / "Task07_Pancreas", 1)
    (tmp_path / "Task07_Pancreas/dataset.json").unlink()
    dataset = MSDPancreas()
    assert len(dataset.discover(tmp_path)) == 1
    assert "no dataset.json; the labels are taken for those of Task07_Pancreas" in dataset.notes[0]
    (tmp_path / "Task07_Pancreas").rename(tmp_path / "mine")
    with pytest.raises(DataError, match=r"mine: no dataset\.json, and the folder is not named Task07_Pancreas; unpack"):
        MSDPancreas().discover(tmp_path)
    (tmp_path / "mine/dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: cannot be read as JSON"):
        MSDPancreas().discover(tmp_path)


def test_listed_scans_that_are_not_there_are_counted(tmp_path, put):
    put(tmp_path / "Task07_Pancreas", 1)
    dataset = MSDPancreas()
    dataset.discover(tmp_path)
    assert "1 of 2 listed scans are not there: pancreas_9" in dataset.notes[0]


def test_tasks_that_are_mr_or_4d_are_named_where_nothing_else_is_found(tmp_path, put):
    put(tmp_path / "Task01_BrainTumour", 1, file="BRATS", modality={"0": "FLAIR", "1": "T1w"}, tensorImageSize="4D")
    with pytest.raises(DataError, match=r"no case of .*Found Task01_BrainTumour \(modality FLAIR, T1w, images of 4D\)"):
        MSDPancreas().discover(tmp_path)


def test_a_4d_file_is_refused(tmp_path, abdomen, put, opened):
    import nibabel as nib

    put(tmp_path / "Task07_Pancreas", 1)
    path = tmp_path / "Task07_Pancreas/imagesTr/pancreas_1.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([abdomen.image] * 2, -1), np.diag([2, 2, 2, 1])), path)
    with pytest.raises(DataError, match=r"pancreas_1\.nii\.gz: 4D data"):
        opened(MSDPancreas, tmp_path).load("pancreas_1")


VESSELS = {"labels": {"0": "background", "1": "Vessel", "2": "Tumour"}, "training": []}


def test_livers_of_the_vessel_task_are_laid_beside_it(tmp_path, abdomen, put, put_nifti, opened):
    marks = np.where(abdomen.labels == 2, 2, 0).astype(np.uint8)
    marks[-1, -1] = 1
    put(tmp_path / "msd/Task08_HepaticVessel", 1, 2, file="hepaticvessel", marks=marks, **VESSELS)
    survey = MSDVessels().survey(tmp_path)
    assert survey.absent
    assert "rois/msd-vessels: no liver masks. msd-vessels needs one file per case" in survey.problems[0]
    put_nifti(tmp_path / "rois/msd-vessels/hepaticvessel_1.nii.gz", abdomen.labels, codes="RAS")
    (tmp_path / "rois/msd-vessels/source.txt").write_text("a network\n")
    dataset = opened(MSDVessels, tmp_path)
    case, lesion = dataset.load("hepaticvessel_1"), dataset.load_truth("hepaticvessel_1").lesion
    np.testing.assert_array_equal(case.roi, abdomen.labels > 0)
    np.testing.assert_array_equal(lesion, abdomen.labels == 2)
    assert case.roi_source == "mask file rois/msd-vessels/hepaticvessel_1.nii.gz, by a network"
    assert {path.name for path in dataset.discover(tmp_path)[0].extra} == {"hepaticvessel_1.nii.gz", "source.txt"}
    with pytest.raises(DataError, match=r"hepaticvessel_2\.nii\.gz: no organ mask.*--exclude msd-vessels:"):
        dataset.load("hepaticvessel_2")


def test_where_axes_are_lost_livers_and_tumours_turn_together(tmp_path, abdomen, put_nifti, opened):
    task, marks = tmp_path / "Task08_HepaticVessel", np.where(abdomen.labels == 2, 2, 0).astype(np.uint8)
    lost = {"codes": "RAS", "affine": np.eye(4)}
    put_nifti(task / "imagesTr/hepaticvessel_1.nii.gz", abdomen.image, **lost)
    put_nifti(task / "labelsTr/hepaticvessel_1.nii.gz", marks, **lost)
    put_nifti(tmp_path / "rois/msd-vessels/hepaticvessel_1.nii.gz", (abdomen.labels > 0).astype(np.uint8), **lost)
    dataset = opened(MSDVessels, tmp_path)
    np.testing.assert_array_equal(dataset.load("hepaticvessel_1").roi, abdomen.labels > 0)
    np.testing.assert_array_equal(dataset.load_truth("hepaticvessel_1").lesion, abdomen.labels == 2)


@pytest.mark.parametrize(
    ("adapter", "file", "value", "index"),
    [
        (MSDVessels, "hepaticvessel", 2, VESSELS),
        (MSDColon, "colon", 1, {"labels": {"0": "background", "1": "colon cancer primaries"}, "training": []}),
    ],
)
def test_a_lesion_file_that_lies_elsewhere_is_warned_about_beside_a_laid_organ(
    tmp_path, abdomen, put, put_nifti, two_forms, opened, adapter, file, value, index
):
    task = tmp_path / adapter.task.title
    put(task, 1, file=file, marks=np.where(abdomen.labels == 2, value, 0).astype(np.uint8), **index)
    put_nifti(tmp_path / f"rois/{adapter.card.name}/{file}_1.nii.gz", (abdomen.labels > 0).astype(np.uint8))
    dataset = opened(adapter, tmp_path)
    assert dataset.load(f"{file}_1").notes == ()
    path = task / f"labelsTr/{file}_1.nii.gz"
    for form in ("sform", "qform"):
        two_forms(path, (0,), form)
        warned = [note.text for note in dataset.load(f"{file}_1").notes if note.level == "warning"]
        assert any(re.match(rf"{file}_1\.nii\.gz is stored as (RPS or LPS|LPS or RPS), its", text) for text in warned)
        np.testing.assert_array_equal(dataset.load_truth(f"{file}_1").lesion, abdomen.labels == 2)
        put_nifti(path, np.where(abdomen.labels == 2, value, 0).astype(np.uint8))


def test_a_colon_needs_its_mask(tmp_path, abdomen, put):
    lesion = (abdomen.labels == 2).astype(np.uint8)
    labels = {"labels": {"0": "background", "1": "colon cancer primaries"}, "training": []}
    put(tmp_path / "Task10_Colon", 1, file="colon", marks=lesion, **labels)
    with pytest.raises(DataError, match="rois/msd-colon: no colon masks"):
        MSDColon().discover(tmp_path)


def test_laid_lung_masks_go_before_the_segmentation(tmp_path, chest, put_nifti, opened):
    image, lungs = chest((12, 24, 32))
    options = {"spacing": (6.0, 10.0, 10.0)}
    for folder, array in (("imagesTr", image), ("labelsTr", (lungs == 1).astype(np.uint8))):
        put_nifti(tmp_path / f"Task06_Lung/{folder}/lung_001.nii.gz", array, **options)
    put_nifti(tmp_path / "rois/msd-lung/lung_001.nii.gz", lungs, **options)
    dataset = opened(MSDLung, tmp_path)
    case = dataset.load("lung_001")
    np.testing.assert_array_equal(case.roi, lungs > 0)
    assert case.roi_source == "mask file rois/msd-lung/lung_001.nii.gz, maker unknown"
    assert dataset.load_truth("lung_001").lesion.sum() == (lungs == 1).sum()


@pytest.mark.real_data
def test_real_scans(second_pack, opened):
    dataset = opened(MSDPancreas, second_pack)
    counts = {"pancreas_001": (449 + 114, 114), "pancreas_004": (495 + 63, 63)}
    assert {ref.id for ref in dataset.discover(second_pack)} == set(counts)
    for name, found in counts.items():
        case, lesion = dataset.load(name), dataset.load_truth(name).lesion
        assert (case.roi.sum(), lesion.sum()) == found
        assert (case.notes, case.image.shape, case.spacing) == ((), (24, 101, 122), (3.0, 3.0, 3.0))
    first, second = (dataset.load(name) for name in counts)  # one host, stored once as RAS and once as LPS
    assert np.mean(first.image == second.image) > 0.99


@pytest.mark.real_data
def test_real_liver_task_beside_lits_is_refused(second_pack):
    from uasbench.datasets.adapters.lits import LiTS

    with pytest.raises(DataError, match="hold the same scans twice"):
        LiTS().discover(second_pack / "traps" / "msd03_beside_lits")
