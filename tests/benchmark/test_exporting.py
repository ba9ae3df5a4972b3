"""What is exported lies on the scans as they are stored, gives the numbers of the tables, and can be imported again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations
from uasbench import api
from uasbench.benchmark.commands import exporting
from uasbench.benchmark.planning.again import Source
from uasbench.benchmark.runs.records import Record
from uasbench.common.errors import DataError


class Here:
    """Writes in this process, because starting others takes longer."""

    def work(self, function, items, at_once=None):
        yield from ((item, function(item)) for item in items)

    def one(self, function, item):
        return function(item)


def reoriented(path: Path, codes: str) -> None:
    image = nib.load(path)
    wanted, own = orientations.axcodes2ornt(codes), orientations.io_orientation(image.affine)
    turned = image.as_reoriented(orientations.ornt_transform(own, wanted))
    nib.save(nib.Nifti1Image(np.array(turned.dataobj), turned.affine), path)


@pytest.fixture(scope="module")
def finished(quick_run, package, coarse_methods, root, cache, tmp_path_factory) -> Path:
    """A run on scans in several orientations, with its data root beside it."""
    from uasbench.benchmark.catalogue import registry

    home, site = tmp_path_factory.mktemp("exported"), tmp_path_factory.mktemp("site")
    shutil.copytree(root, home / "data")
    for path in (home / "data").rglob("*-0.nii*"):
        reoriented(path, "SAR")
    named = {"methods": {name: f"bright:{name.title()}" for name in ("bright", "everywhere")}}
    package(site, "bright", {"bright.py": coarse_methods}, named)
    options = {"data_root": home / "data", "cache": cache, "profile": "smoke", "seeds": [1], "trials": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        registry.refresh()
        quick_run("hu-deviation,bright,everywhere", "lits", out=home / "run", **options)
    registry.refresh()
    return home


@pytest.fixture(scope="module")
def exported(finished: Path) -> Path:
    run = api.open_run(finished / "run")
    exporting.export(run.folder, finished / "out", exporting.Chosen(), Source(), Here())
    return finished / "out" / "lits"


def record_of(finished: Path, method: str) -> Record:
    return next(r for r in api.open_run(finished / "run").records if r.cell.method == method)


def values(record: Record, metric: str) -> dict[tuple[str, str], float | None]:
    return {(row.protocol, row.case): row.value for row in record.per_case if row.metric == metric}


def test_every_file_has_the_shape_and_the_place_of_its_scan(finished, exported):
    written = sorted(exported.rglob("*.nii.gz"))
    assert len(written) == 2 * (2 + 3 + 5 + 6 + 6)
    for path in written:
        (scan,) = (finished / "data").rglob(path.name.replace(".gz", ""))
        image, own = nib.load(path), nib.load(scan)
        assert image.shape == own.shape
        np.testing.assert_allclose(image.affine, own.affine, atol=1e-4)
        assert image.get_data_dtype() == (np.float32 if path.parent.name.endswith(("s0", "s1")) else np.uint8)
    codes = {nib.aff2axcodes(nib.load(exported / "roi" / f"volume-{i}.nii.gz").affine) for i in (0, 1)}
    assert len(codes) == 2


@pytest.mark.parametrize("method", ["hu-deviation", "bright", "everywhere"])
def test_masks_give_the_dice_precision_and_sensitivity_of_the_record(finished, exported, method):
    """Computed from the files alone, the label file of the data set among them."""
    record = record_of(finished, method)
    folder = exported / record.cell.slug
    dice, psc, sen = (values(record, metric) for metric in ("dice", "psc", "sen"))
    compared = 0
    for (protocol, case), value in dice.items():
        path = folder / "masks" / protocol / f"{case}.nii.gz"
        if value is None or not path.exists():
            assert not path.exists(), "what has a mask has a Dice in these sets"
            continue
        (labels,) = (finished / "data").rglob(f"{case.replace('volume', 'segmentation')}.nii*")
        lesion = np.asarray(nib.load(labels).dataobj) == 2
        mask = np.asarray(nib.load(path).dataobj) > 0
        hits = np.count_nonzero(mask & lesion)
        assert value == pytest.approx(2 * hits / (mask.sum() + lesion.sum()), abs=1e-12)
        assert psc[protocol, case] == pytest.approx(hits / mask.sum() if mask.any() else 0.0, abs=1e-12)
        assert sen[protocol, case] == pytest.approx(hits / lesion.sum(), abs=1e-12)
        compared += 1
    assert compared == 2 * (5 if method == "hu-deviation" else 6)


def test_maps_above_the_threshold_are_the_mask(finished, exported):
    record = record_of(finished, "hu-deviation")
    folder = exported / record.cell.slug
    (threshold,) = [t for t in record.thresholds if t.protocol == "healthy-q95"]
    for case in record.data.cases:
        map_ = np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj)
        roi = np.asarray(nib.load(exported / "roi" / f"{case}.nii.gz").dataobj) > 0
        mask = np.asarray(nib.load(folder / "masks" / "healthy-q95" / f"{case}.nii.gz").dataobj) > 0
        assert (mask == ((map_ > np.float32(threshold.threshold)) & roi)).all()
        assert not map_[~roi].any()


def test_the_manifest_says_what_the_files_are(finished, exported):
    record = record_of(finished, "bright")
    held = json.loads((exported / record.cell.slug / "export.json").read_text())
    assert held["cell"] == record.cell.model_dump()
    assert (held["native_threshold"], held["own_masks"], held["region"]) == (0.5, True, "roi")
    assert held["thresholds"] == [threshold.model_dump() for threshold in record.thresholds]
    assert held["cases"]["volume-0"]["scan"] == "volume-0.nii"
    assert held["cases"]["volume-0"]["masks"] == [*held["protocols"]]


@pytest.mark.parametrize("method", ["hu-deviation", "bright", "everywhere"])
def test_what_was_exported_is_imported_with_the_same_numbers(finished, exported, quick, cache, tmp_path, method):
    record = record_of(finished, method)
    options = {"data_root": finished / "data", "cache": cache, "profile": "smoke", "trials": 2, "out": tmp_path / "run"}
    with quick():
        run = api.import_maps(exported / record.cell.slug, "again", "lits", **options)
    (again,) = run.records
    assert again.cell.seed == record.cell.seed == (0 if method == "hu-deviation" else 1)
    kept = ("native", "val", "oracle", "oracle-pooled", "none")  # no maps of healthy scans are exported
    for metric in ("dice", "psc", "sen", "auroc", "ap", "aupro"):
        before, after = values(record, metric), values(again, metric)
        assert {key: before[key] for key in before if key[0] in kept} == {k: after[k] for k in after if k[0] in kept}


@pytest.fixture
def choose(finished: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """Export some of the run."""

    def call(**chosen) -> list[Path]:
        run = api.open_run(finished / "run")
        return exporting.export(run.folder, tmp_path / "some", exporting.Chosen(**chosen), Source(), Here())

    return call


def test_methods_seeds_and_cases_are_chosen_by_name(choose, tmp_path):
    assert [path.name for path in choose(methods=["hu-*"], cases=["volume-1"])] == ["hu-deviation__lits__btcv__s0"]
    assert {path.name for path in (tmp_path / "some").rglob("*.nii.gz")} == {"volume-1.nii.gz"}
    assert len(choose(seeds=[1])) == 2


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"methods": ["hu-deviaton"]}, "did you mean 'hu-deviation'"),
        ({"seeds": [7]}, "no finished cell of these methods and seeds"),
        ({"cases": ["volume-7"]}, "--cases volume-7: the run has volume-0, volume-1"),
    ],
)
def test_names_that_the_run_does_not_know_are_refused(choose, chosen, message):
    with pytest.raises(exporting.ExportError, match=message):
        choose(**chosen)


def test_nothing_is_written_into_the_run_nor_onto_other_scans(finished, tmp_path):
    run = api.open_run(finished / "run")
    with pytest.raises(exporting.ExportError, match="outside the run"):
        exporting.export(run.folder, finished / "run" / "out", exporting.Chosen(), Source(), Here())
    other = shutil.copytree(finished / "data", tmp_path / "data")
    (path,) = other.rglob("volume-1.nii")
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + np.int16(1), image.affine), path)
    with pytest.raises(DataError, match="case volume-1 is not the scan that was mapped"):
        exporting.export(run.folder, tmp_path / "out", exporting.Chosen(), Source(other), Here())


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ('{"schema": 99}', "cannot be read"), (None, "maps of lits, not of coronacases")],
)
def test_an_export_that_cannot_be_imported_is_named(finished, exported, tmp_path, content, message):
    folder = shutil.copytree(exported / "hu-deviation__lits__btcv__s0", tmp_path / "maps")
    if content is not None:
        (folder / "export.json").write_text(content)
    options = {"data_root": finished / "data", "out": tmp_path / "run", "profile": "smoke"}
    with pytest.raises(DataError, match=message):
        api.import_maps(folder, "again", "coronacases", **options)
