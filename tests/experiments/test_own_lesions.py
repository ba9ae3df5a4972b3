import sys

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_dilation
from uasbench.experiments.diagnostics import own_lesions


def test_a_pair_differs_by_its_tumours_alone():
    for clean, ill, mask in own_lesions.pairs(3, "smoke"):
        assert mask.any()
        assert not (mask & ~ill.roi).any()
        np.testing.assert_array_equal(clean.roi, ill.roi)
        around = binary_dilation(mask, iterations=3)
        assert np.abs(clean.image - ill.image)[~around].max() <= 3  # blur, and rounding
        assert np.abs(clean.image - ill.image)[mask].mean() > 15


def test_writes_a_map_for_every_test_patient(monkeypatch, tmp_path):
    small = ["size=32", "wf=2", "seg_base=4", "restoration_updates=2", "segmentation_updates=2"]
    command = [
        "own_lesions",
        "--phantom-seed",
        "3",
        "--size",
        "smoke",
        "--out",
        str(tmp_path / "maps"),
        "--set",
        *small,
    ]
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", command)
    own_lesions.main()
    files = sorted((tmp_path / "maps").iterdir())
    assert [file.name for file in files] == ["volume-0.nii.gz", "volume-1.nii.gz"]
    for file in files:
        values = np.asarray(nib.load(file).dataobj)
        assert values.dtype == np.float32
        assert 0 <= values.min() < values.max() <= 1
