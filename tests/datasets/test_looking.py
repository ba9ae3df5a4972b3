"""Looking for cases opens no scan and no label in the command's own process."""

import subprocess
import sys

import numpy as np
import pytest

SHAPE = (6, 40, 50)
SCRIPT = """
import sys
from pathlib import Path
from uasbench.benchmark.catalogue.registry import datasets
from uasbench.datasets.looking import look
from uasbench.datasets.readers import Readers

if __name__ == "__main__":
    with Readers() as readers:
        found = look(datasets().get(sys.argv[1])(), Path(sys.argv[2]), readers)
    print([ref.id for ref in found.refs], found.dataset.notes, found.problems)
    print([name for name in ("SimpleITK", "nibabel", "pydicom", "isal") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("name", "files", "left_out"),
    [
        (
            "radiopaedia",
            {kind: f"rp_{kind}/{{}}.nii.gz" for kind in ("im", "msk", "lung_msk")},
            "rp_6",
        ),
        ("mosmed", {"im": "studies/CT-1/study_025{}.nii.gz", "msk": "masks/study_025{}_mask.nii.gz"}, "study_0256"),
    ],
)
def test_a_set_that_counts_voxels_is_looked_for_in_a_reader(tmp_path, put_nifti, chest, name, files, left_out):
    for number, voxels in ((5, 200), (6, 20)):
        image, lungs = chest(SHAPE, number)
        mask = np.zeros(SHAPE, np.uint8)
        mask.flat[np.flatnonzero(lungs)[:voxels]] = 1
        arrays = {"im": image, "msk": mask, "lung_msk": lungs}
        for kind, path in files.items():
            put_nifti(tmp_path / name / path.format(number), arrays[kind], spacing=(8.0, 10.0, 10.0))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, name, tmp_path], capture_output=True, text=True, check=True)
    cases, modules = done.stdout.splitlines()
    assert "excluded by rule" in cases
    assert left_out in cases.partition("excluded by rule")[2]
    assert cases.endswith(" ()")
    assert modules == "[]"
