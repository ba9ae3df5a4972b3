"""What the phantom writes: layouts, headers, bytes, cache."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.phantom import disk, liver
from uasbench.datasets.phantom.disk import phantom_identity, phantom_root, write_phantom
from uasbench.datasets.phantom.nifti import write_nifti


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def as_lps(path: Path) -> np.ndarray:
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]


def test_layout_is_the_published_one(smoke_root: Path) -> None:
    assert set(digests(smoke_root)) == {
        "btcv/RawData/Training/img/img0001.nii.gz",
        "btcv/RawData/Training/img/img0002.nii.gz",
        "btcv/RawData/Training/label/label0001.nii.gz",
        "btcv/RawData/Training/label/label0002.nii.gz",
        "lits/Training Batch 1/volume-0.nii",
        "lits/Training Batch 1/volume-1.nii",
        "lits/Training Batch 1/segmentation-0.nii",
        "lits/Training Batch 1/segmentation-1.nii",
        "phantom.json",
    }


def test_same_seed_same_bytes_and_other_seed_other_voxels(smoke_root: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "same", anatomy="liver", seed=3, size="smoke")
    assert digests(tmp_path / "same") == digests(smoke_root)
    write_phantom(tmp_path / "other", anatomy="liver", seed=4, size="smoke")
    other, own = digests(tmp_path / "other"), digests(smoke_root)
    assert other.keys() == own.keys()
    assert not set(other.values()) & set(own.values())


def test_files_read_back_with_the_expected_types_and_labels(smoke_root: Path) -> None:
    for image_path in smoke_root.glob("btcv/RawData/Training/img/*.nii.gz"):
        label_path = smoke_root / "btcv/RawData/Training/label" / image_path.name.replace("img", "label")
        image, label = nib.load(image_path), nib.load(label_path)
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        assert np.allclose(image.affine, label.affine)
        values = set(np.unique(np.asarray(label.dataobj)).tolist())
        assert 6 in values
        assert values <= set(range(12))
    for image_path in smoke_root.glob("lits/*/volume-*.nii"):
        label_path = image_path.with_name(image_path.name.replace("volume", "segmentation"))
        image, label = nib.load(image_path), nib.load(label_path)
        assert image.get_data_dtype() == np.int16
        assert image.shape == label.shape
        assert np.allclose(image.affine, label.affine)
        assert set(np.unique(np.asarray(label.dataobj)).tolist()) == {0, 1, 2}


def test_orientation_and_scaling_bring_back_the_same_patient(smoke_root: Path, smoke_patients: dict) -> None:
    for number, patient in enumerate(smoke_patients["lits"]):
        folder = smoke_root / "lits" / "Training Batch 1"
        image = nib.load(folder / f"volume-{number}.nii")
        assert "".join(nib.aff2axcodes(image.affine)) == patient.scanner.orientation
        assert np.allclose(image.header.get_zooms()[::-1], patient.spacing, atol=1e-4)
        assert np.array_equal(as_lps(folder / f"volume-{number}.nii"), patient.hu)
        assert np.array_equal(as_lps(folder / f"segmentation-{number}.nii") == 2, patient.tumour)
    for number, patient in enumerate(smoke_patients["btcv"], start=1):
        path = smoke_root / f"btcv/RawData/Training/img/img{number:04d}.nii.gz"
        assert np.array_equal(as_lps(path), patient.hu)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAS", "RPI"])
@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -1024.0)])
def test_every_orientation_and_scaling_round_trips(
    tmp_path: Path, orientation: str, slope: float, intercept: float
) -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    stored = np.rint((hu - intercept) / slope).astype(np.int16)
    path = tmp_path / "a.nii.gz"
    write_nifti(path, stored, (5.0, 2.0, 3.0), orientation=orientation, slope=slope, intercept=intercept)
    assert "".join(nib.aff2axcodes(nib.load(path).affine)) == orientation
    assert np.array_equal(as_lps(path), hu)
    assert np.allclose(nib.load(path).affine @ [2.5, 2, 1.5, 1], [0, 0, 0, 1])


def test_transposed_axes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="orientation 'PLS'"):
        write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.int16), (1, 1, 1), orientation="PLS")


def test_info_names_the_phantom_and_its_lesions(smoke_root: Path) -> None:
    info = json.loads((smoke_root / "phantom.json").read_text())
    assert {"name", "version", "spec_hash", "generator_hash", "seed", "size", "patients"} == set(info)
    for entry in info["patients"]:
        if entry["set"] == "btcv":
            assert entry["lesions"] == []
            continue
        truth = as_lps(smoke_root / "lits" / "Training Batch 1" / f"segmentation-{entry['case']}.nii") == 2
        assert truth.sum() == sum(lesion["voxels"] for lesion in entry["lesions"]) > 0


def test_a_second_call_returns_what_is_there_and_refuses_anything_else(smoke_root: Path, tmp_path: Path) -> None:
    before = digests(smoke_root)
    assert write_phantom(smoke_root, anatomy="liver", seed=3, size="smoke")["seed"] == 3
    assert digests(smoke_root) == before
    with pytest.raises(DataError, match="seed 3"):
        write_phantom(smoke_root, anatomy="liver", seed=5, size="smoke")
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(DataError, match="not empty"):
        write_phantom(tmp_path, anatomy="liver", seed=3, size="smoke")
    with pytest.raises(DataError, match="smoke, quick, full"):
        write_phantom(tmp_path / "b", anatomy="liver", seed=3, size="huge")  # pyright: ignore[reportArgumentType]


def test_damaged_info_and_unwritable_folder_are_explained(tmp_path: Path) -> None:
    (tmp_path / "phantom.json").write_text("{")
    with pytest.raises(DataError, match=r"phantom\.json"):
        write_phantom(tmp_path, anatomy="liver", seed=3, size="smoke")
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(DataError, match="file"):
        write_phantom(blocker / "root", anatomy="liver", seed=3, size="smoke")
    with pytest.raises(DataError, match="writable"):
        phantom_root(blocker, anatomy="liver", seed=3, size="smoke")


@pytest.fixture
def no_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phantom without patients: the cache treats it like any other, and it takes no time."""
    monkeypatch.setattr(liver, "patients", lambda **_: iter(()))


def test_cache_writes_once_and_only_whole_phantoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = phantom_root(tmp_path, anatomy="liver", seed=3, size="smoke")
    stamp = (root / "phantom.json").stat().st_mtime_ns
    assert phantom_root(tmp_path, anatomy="liver", seed=3, size="smoke") == root
    assert (root / "phantom.json").stat().st_mtime_ns == stamp

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(liver, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        phantom_root(tmp_path, anatomy="liver", seed=4, size="smoke")
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


@pytest.mark.usefixtures("no_patients")
def test_cache_accepts_a_phantom_that_another_process_finished_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = liver.write_patients

    def race(root: Path, *, seed: int, size: str) -> object:
        monkeypatch.setattr(liver, "write_patients", write)
        write_phantom(
            tmp_path / root.name.removeprefix(".").partition(".partial")[0], anatomy="liver", seed=3, size=size
        )
        return write(root, seed=seed, size=size)

    monkeypatch.setattr(liver, "write_patients", race)
    root = phantom_root(tmp_path, anatomy="liver", seed=3, size="smoke")
    assert (root / "phantom.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


@pytest.mark.usefixtures("no_patients")
def test_cache_name_follows_specification_and_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = phantom_root(tmp_path, anatomy="liver", seed=3, size="smoke")
    monkeypatch.setattr(disk, "generator_digest", lambda _: "0" * 16)
    assert phantom_root(tmp_path, anatomy="liver", seed=3, size="smoke") != first


@pytest.mark.usefixtures("no_patients")
def test_a_phantom_cut_off_by_kill_is_written_again(tmp_path: Path) -> None:
    root = phantom_root(tmp_path, anatomy="liver", seed=3, size="smoke")
    (root / "phantom.json").unlink()
    (root / "btcv").mkdir()
    assert phantom_root(tmp_path, anatomy="liver", seed=3, size="smoke") == root
    assert (root / "phantom.json").is_file()
    assert not (root / "btcv").exists()


def test_identity_tells_phantoms_from_other_data_roots(smoke_root: Path, tmp_path: Path) -> None:
    identity = phantom_identity(smoke_root)
    assert identity is not None
    assert {key: identity[key] for key in ("name", "seed", "size")} == {"name": "liver", "seed": 3, "size": "smoke"}
    assert "patients" not in identity
    assert phantom_identity(tmp_path) is None
