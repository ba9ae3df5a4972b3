"""What a run says and measures where headers differ from what they should be."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations
from uasbench.benchmark.commands.running import run
from uasbench.datasets.phantom.disk import phantom_root
from uasbench.reports.build import build
from uasbench.reports.tables import tables_of


@pytest.fixture
def scans(tmp_path):
    """A liver phantom whose files may be changed."""
    return phantom_root(tmp_path / "scans", anatomy="liver", seed=3, size="smoke")


def reoriented(path: Path, codes: str) -> None:
    image = nib.load(path)
    wanted, own = orientations.axcodes2ornt(codes), orientations.io_orientation(image.affine)
    turned = image.as_reoriented(orientations.ornt_transform(own, wanted))
    nib.save(nib.Nifti1Image(np.array(turned.dataobj), turned.affine), path)


@pytest.mark.parametrize(
    ("image", "label"),
    [("SAR", "LPI"), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((None, "PIL"), ("RIA", None)))],
)
def test_any_orientation_of_image_and_label_gives_the_same_numbers(smoke, scans, tmp_path, image, label):
    plain = run(smoke("hu-deviation", data_root=scans, out=tmp_path / "plain"))[0]
    for path in scans.rglob("*.nii*"):
        codes = image if path.name.startswith(("volume", "img")) else label
        if codes is not None:
            reoriented(path, codes)
    turned = run(smoke("hu-deviation", data_root=scans, out=tmp_path / "turned"))[0]
    first, second = (tables_of(folder).per_case.to_csv(index=False) for folder in (plain, turned))
    assert first == second


def test_a_contradiction_reaches_run_record_and_report(smoke, scans, tmp_path):
    (path,) = scans.rglob("volume-0.nii*")
    image = nib.load(path)
    data, affine = np.array(image.dataobj), image.affine.copy()
    changed = nib.Nifti1Image(data, affine)
    changed.set_sform(affine @ np.diag([1.5, 1.5, 1.5, 1]), 1)
    changed.set_qform(affine, 1)
    nib.save(changed, path)
    folder = run(smoke("hu-deviation", data_root=scans, out=tmp_path / "run"))[0]
    text = "in pixdim (i, j, k): the sform's is used, and lengths in mm are not trusted"
    said = json.loads(folder.run_json.read_text())["warnings"]
    assert any(line.startswith("WARNING lits:volume-0: voxel size") and text in line for line in said)
    (record,) = folder.records()
    assert any(text in note for note in record.data.notes["volume-0"])
    assert not record.data.trust["volume-0"].spacing_trusted
    build(folder)
    assert "lengths in mm are not trusted" in folder.report_html.read_text(encoding="utf-8")
