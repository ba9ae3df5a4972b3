"""The raw layout that nnU-Net reads, and the split by patient; neither needs the package."""

import json

import numpy as np
import pytest
import SimpleITK
from uasbench.common.boxes import bounding_box
from uasbench.common.errors import DataError
from uasbench.datasets.case import Case
from uasbench.methods.supervised.parts.nnunet_layout import DATASET, organ_image, raw_name, write_raw, write_split


def labelled(count=3, *, lesion=True, empty=()):
    pairs = []
    for i in range(count):
        rng = np.random.default_rng(i)
        roi = np.zeros((6, 20, 24), bool)
        if i not in empty:
            roi[1:5, 4:16, 3 : 15 + i] = True
        mask = np.zeros_like(roi)
        if lesion:
            mask[2:4, 2:8, 5:9] = True  # two rows of it lie outside the region of interest
        case = Case(
            f"set/case {i}", f"p{i // 2}", rng.normal(50, 20, roi.shape).astype(np.float32), (5.0, 0.8, 0.7), roi
        )
        pairs.append((case, mask))
    return pairs


def read(path):
    image = SimpleITK.ReadImage(str(path))
    return SimpleITK.GetArrayFromImage(image), image


def test_the_layout_is_the_published_one(tmp_path):
    cases = labelled()
    patients = write_raw(tmp_path / DATASET, cases)
    names = ["0000-set-case-0", "0001-set-case-1", "0002-set-case-2"]
    assert patients == dict(zip(names, ["p0", "p0", "p1"], strict=True))
    assert sorted(p.name for p in (tmp_path / DATASET / "imagesTr").iterdir()) == [f"{n}_0000.nii.gz" for n in names]
    assert sorted(p.name for p in (tmp_path / DATASET / "labelsTr").iterdir()) == [f"{n}.nii.gz" for n in names]
    assert json.loads((tmp_path / DATASET / "dataset.json").read_text()) == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    assert DATASET == "Dataset001_Lesions"


def test_image_and_label_are_cropped_to_the_organ_and_keep_spacing_and_hu(tmp_path):
    (case, lesion), *_ = cases = labelled(1)
    write_raw(tmp_path / DATASET, cases)
    image, header = read(tmp_path / DATASET / "imagesTr" / "0000-set-case-0_0000.nii.gz")
    label, label_header = read(tmp_path / DATASET / "labelsTr" / "0000-set-case-0.nii.gz")
    box = (slice(1, 5), slice(4, 16), slice(3, 15))
    assert np.array_equal(image, case.image[box])
    assert image.dtype == np.float32
    assert label.dtype == np.uint8
    assert np.array_equal(label, (lesion & case.roi)[box])
    assert 0 < label.sum() < lesion.sum()
    assert header.GetSpacing() == pytest.approx((0.7, 0.8, 5.0))
    assert header.GetSpacing() == label_header.GetSpacing()
    assert header.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_outside_the_organ_is_air_unless_told_otherwise():
    case, _ = labelled(1)[0]
    case.roi[2, 4, 3] = False
    box = bounding_box(case.roi, 2)
    assert box == (slice(0, 6), slice(2, 18), slice(1, 17))
    inside = case.roi[box]
    masked = organ_image(case, box, masked=True)
    assert np.array_equal(masked[inside], case.image[box][inside])
    assert (masked[~inside] == -1024).all()
    assert np.array_equal(organ_image(case, box, masked=False), case.image[box])


def test_a_case_without_an_organ_is_left_out_and_no_lesion_at_all_is_refused(tmp_path):
    assert list(write_raw(tmp_path / "a", labelled(3, empty=(1,)))) == ["0000-set-case-0", "0002-set-case-2"]
    with pytest.raises(DataError, match="3 labelled cases show no lesion"):
        write_raw(tmp_path / "b", labelled(3, lesion=False))


def test_names_are_unique_and_plain():
    cases = [Case(name, "p", np.zeros((1, 1, 1)), (1, 1, 1), np.zeros((1, 1, 1), bool)) for name in ("a/1", "a 1", "ü")]
    assert [raw_name(i, c) for i, c in enumerate(cases)] == ["0000-a-1", "0001-a-1", "0002"]


def test_every_case_of_a_fold_trains_and_one_patient_shows_the_curves_where_the_trainer_looks(tmp_path):
    patients = {f"c{i:02d}": f"p{i % 7}" for i in range(20)}
    write_split(tmp_path / "preprocessed" / DATASET, patients)
    written = json.loads((tmp_path / "preprocessed" / DATASET / "splits_final.json").read_text())
    assert written == [{"train": sorted(patients), "val": ["c00", "c07", "c14"]}]
