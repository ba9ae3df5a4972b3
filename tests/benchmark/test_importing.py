"""Imported maps: replaced whole, told apart from methods, refused where they cannot be right."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from uasbench.benchmark.commands import importing
from uasbench.benchmark.commands.importing import import_maps
from uasbench.benchmark.planning.options import RunOptions
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError, hold
from uasbench.benchmark.runs.map_store import read_map
from uasbench.benchmark.runs.records import Record
from uasbench.common.errors import DataError

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def written(small_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The maps of the run as another program would have written them."""
    folder = tmp_path_factory.mktemp("maps")
    for path in small_run.map_dir(small_run.records()[0].cell).glob("*.map"):
        write(folder / f"{path.stem}.nii.gz", read_map(path).native())
    return folder


@pytest.fixture
def maps(written: Path, tmp_path: Path) -> Path:
    """A copy of the maps for one test."""
    return shutil.copytree(written, tmp_path / "maps")


@pytest.fixture
def bring(smoke: Callable[..., RunOptions], folder: RunFolder, maps: Path) -> Callable[..., Record]:
    """Import the maps into the run."""

    def call(method: str = "elsewhere", threshold: float | None = None, **options) -> Record:
        chosen = smoke("all", **{"trials": 1, "out": folder.path, **options})
        return import_maps(maps, method, chosen, threshold)[1]

    return call


def write(path: Path, values: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), AFFINE), path)


def change(path: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    write(path, edit(np.asarray(nib.load(path).dataobj, np.float32).transpose(2, 1, 0)))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


def test_new_maps_replace_the_old_ones_and_nothing_of_those_survives(bring, folder, maps):
    first = bring()
    target = folder.map_dir(first.cell)
    (target / "volume-0.mask").write_bytes(b"old")
    for path in maps.iterdir():
        change(path, lambda values: values * 2)
    second = bring()
    assert first.ids.map != second.ids.map
    assert not list(target.glob("*.mask"))
    assert json.loads((target / "map.json").read_text())["id"] == second.ids.map
    assert not list(folder.maps_dir.glob(".*"))


def test_importing_again_gives_the_same_addresses_and_the_numbers_are_those_of_the_method(bring, folder):
    by_itself = folder.records()[0]
    assert by_itself.cell.method == "hu-deviation"
    first, second = bring(), bring()
    assert first.ids == second.ids
    assert first.per_case == second.per_case
    oracle = [[v for v in r.per_case if v.protocol == "oracle"] for r in (first, by_itself)]
    assert oracle[0] == oracle[1] != []


def test_a_failed_import_leaves_the_former_one_as_it_was(bring, folder, maps):
    first = bring()
    before = content(folder.path)
    last = sorted(maps.iterdir())[-1]
    change(last, lambda values: np.full_like(values, np.nan))
    with pytest.raises(DataError, match=f"{last.name}: .* NaN or infinite"):
        bring()
    assert content(folder.path) == before
    assert folder.record(folder.record_path(first.cell)) == first
    assert not list(folder.maps_dir.glob(".*"))


def test_a_record_never_stands_beside_maps_it_was_not_measured_on(bring, folder, maps, monkeypatch):
    first = bring()

    def killed(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing.stage_measure, "run", killed)
    for path in maps.iterdir():
        change(path, lambda values: values + 1)
    with pytest.raises(KeyboardInterrupt):
        bring()
    assert not folder.record_path(first.cell).exists()
    monkeypatch.undo()
    assert bring().ids.map != first.ids.map


def test_the_threshold_is_part_of_the_address_and_scores_native(bring):
    without, low, high = bring(), bring(threshold=0.0), bring(threshold=1e6)
    assert len({r.ids.map for r in (without, low, high)}) == 3
    assert len({r.ids.measure for r in (without, low, high)}) == 3

    def native(record: Record) -> list[float | None]:
        return [v.value for v in record.per_case if (v.protocol, v.metric) == ("native", "dice")]

    assert native(low) != native(high)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_outside_the_region_of_interest_do_not_count(bring, folder, maps, value):
    first = bring()
    for path in maps.iterdir():
        support = read_map(folder.map_dir(first.cell) / f"{path.name.removesuffix('.nii.gz')}.map").support
        change(path, lambda values, inside=support: np.where(inside, values, np.float32(value)))
    assert bring().ids == first.ids


@pytest.mark.parametrize("kind", ["records", "cells"])
def test_the_name_of_another_cell_of_the_run_is_refused(bring, folder, kind):
    record = folder.records()[0]
    cell = record.cell.model_copy(update={"method": "gone@v2"})
    path = folder.path / kind / f"{cell.slug}.json"
    source = json.loads((folder.path / kind / f"{record.cell.slug}.json").read_text())
    path.write_text(json.dumps({**source, "cell": cell.model_dump()}))
    with pytest.raises(DataError, match="belongs to a method of that name"):
        bring("gone")


@pytest.mark.parametrize(
    ("name", "threshold", "message"),
    [
        *((name, None, "is a registered method") for name in ("ae", "draem@authors", "hu-deviation")),
        *((name, None, "lower-case") for name in ("Bad Name", "a__b")),
        ("fine", float("nan"), "finite"),
    ],
)
def test_a_bad_or_registered_name_and_a_bad_threshold_are_refused(bring, name, threshold, message):
    with pytest.raises(DataError, match=message):
        bring(name, threshold)


def test_a_missing_map_a_wrong_shape_and_a_folder_in_use_are_refused(bring, folder, maps):
    with hold(folder), pytest.raises(RunFolderError, match="another bench works"):
        bring()
    first = sorted(maps.iterdir())[0]
    change(first, lambda values: values[1:])
    with pytest.raises(DataError, match=f"{first.name}: the map has shape"):
        bring()
    first.unlink()
    with pytest.raises(DataError, match="no map for case"):
        bring()


def test_a_scan_that_lost_its_header_is_refused_and_can_be_left_out(bring, root, tmp_path):
    root = shutil.copytree(root, tmp_path / "data")
    lost = sorted(root.rglob("volume-*.nii*"))[0]
    image = nib.load(lost)
    bare = nib.Nifti1Image(np.asanyarray(image.dataobj).astype(np.int16), np.eye(4))
    lost.unlink()
    nib.save(bare, lost)
    case = lost.name.partition(".")[0]
    options = {"data_root": root, "out": tmp_path / "other"}
    with pytest.raises(DataError, match=f"{case}: .*--exclude lits:{case}"):
        bring(**options)
    assert case not in bring(**options, exclude=[f"lits:{case}"]).data.cases
