"""What the phantom writes: layouts, headers, bytes, cache."""

import json

import nibabel as nib
import numpy as np
import pytest
from uasbench.datasets.phantom.files import write_metaimage, write_nifti


def test_layout_is_the_published_one(smoke_root, digests):
    btcv = {f"btcv/RawData/Training/{kind}/{kind}000{n}.nii.gz" for kind in ("img", "label") for n in (1, 2)}
    lits = {f"lits/Training Batch 1/{kind}-{n}.nii" for kind in ("volume", "segmentation") for n in (0, 1)}
    assert set(digests(smoke_root)) == btcv | lits | {"phantom.json"}


@pytest.mark.parametrize(
    ("images", "old", "new", "least", "most"),
    [
        ("btcv/RawData/Training/img/*.nii.gz", "img", "label", {6}, set(range(12))),
        ("lits/*/volume-*.nii", "volume", "segmentation", {0, 1, 2}, {0, 1, 2}),
    ],
)
def test_files_read_back_with_the_expected_types_and_labels(smoke_root, images, old, new, least, most):
    paths = list(smoke_root.glob(images))
    assert len(paths) == 2
    for path in paths:
        image, label = nib.load(path), nib.load(smoke_root / str(path.relative_to(smoke_root)).replace(old, new))
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
        assert image.shape == label.shape
        assert np.allclose(image.affine, label.affine)
        assert least <= set(np.unique(np.asarray(label.dataobj)).tolist()) <= most


def test_orientation_and_scaling_bring_back_the_same_patient(smoke_root, smoke_patients, as_lps):
    for number, patient in enumerate(smoke_patients["lits"]):
        folder = smoke_root / "lits" / "Training Batch 1"
        image = nib.load(folder / f"volume-{number}.nii")
        assert "".join(nib.aff2axcodes(image.affine)) == patient.scanner.orientation
        assert np.allclose(image.header.get_zooms()[::-1], patient.spacing, atol=1e-4)
        assert np.array_equal(as_lps(folder / f"volume-{number}.nii"), patient.hu)
        assert np.array_equal(as_lps(folder / f"segmentation-{number}.nii") == 2, patient.tumour)
    for number, patient in enumerate(smoke_patients["btcv"], start=1):
        assert np.array_equal(as_lps(smoke_root / f"btcv/RawData/Training/img/img{number:04d}.nii.gz"), patient.hu)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAS", "RPI"])
@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -1024.0)])
def test_every_orientation_and_scaling_round_trips(tmp_path, orientation, slope, intercept, as_lps):
    hu = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    stored = np.rint((hu - intercept) / slope).astype(np.int16)
    path = tmp_path / "a.nii.gz"
    write_nifti(path, stored, (5.0, 2.0, 3.0), orientation=orientation, slope=slope, intercept=intercept)
    assert "".join(nib.aff2axcodes(nib.load(path).affine)) == orientation
    assert np.array_equal(as_lps(path), hu)
    assert np.allclose(nib.load(path).affine @ [2.5, 2, 1.5, 1], [0, 0, 0, 1])


@pytest.mark.parametrize("write", [write_nifti, write_metaimage])
def test_transposed_axes_are_refused(tmp_path, write):
    with pytest.raises(ValueError, match="orientation 'PLS'"):
        write(tmp_path / "a.nii", np.zeros((2, 2, 2), np.int16), (1, 1, 1), orientation="PLS")


def test_info_names_the_phantom_and_its_lesions(smoke_root, as_lps):
    info = json.loads((smoke_root / "phantom.json").read_text())
    assert {"name", "version", "spec_hash", "generator_hash", "seed", "size", "patients"} == set(info)
    for entry in info["patients"]:
        if entry["set"] == "btcv":
            assert entry["lesions"] == []
            continue
        truth = as_lps(smoke_root / "lits" / "Training Batch 1" / f"segmentation-{entry['case']}.nii") == 2
        assert truth.sum() == sum(lesion["voxels"] for lesion in entry["lesions"]) > 0
