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


def stored(path: Path, codes: str, dtype: str, wrong: str | None) -> None:
    """Store a file in another order and type; the form ``wrong`` runs its first axis the other way."""
    image = nib.load(path)
    wanted, own = orientations.axcodes2ornt(codes), orientations.io_orientation(image.affine)
    turned = image.as_reoriented(orientations.ornt_transform(own, wanted))
    made = nib.Nifti1Image(np.asanyarray(turned.dataobj).astype(dtype), turned.affine, dtype=dtype)
    flipped = turned.affine @ np.diag([-1.0, 1, 1, 1])
    made.set_sform(flipped if wrong == "sform" else turned.affine, 1)
    made.set_qform(flipped if wrong == "qform" else turned.affine, 1)
    nib.save(made, path)


SLOW = [
    (("RAS", "<i2", None), ("PIL", "<f8", None)),
    (("RIA", "<f4", None), ("RAS", "u1", None)),
    (("LPS", "<f4", "sform"), ("SRP", "u1", None)),
    (("LPS", ">f8", "qform"), ("PSR", ">i4", "qform")),
]


@pytest.mark.parametrize(
    ("image", "label"),
    [(("SAR", ">i4", None), ("LAI", "<f4", "sform")), *(pytest.param(*both, marks=pytest.mark.slow) for both in SLOW)],
)
def test_any_storage_of_image_and_label_gives_the_same_numbers(smoke, scans, tmp_path, image, label):
    plain = run(smoke("hu-deviation", data_root=scans, out=tmp_path / "plain"))[0]
    for path in scans.rglob("*.nii*"):
        stored(path, *(image if path.name.startswith(("volume", "img")) else label))
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
