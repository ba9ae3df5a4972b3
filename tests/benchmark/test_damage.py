"""Files of a run that are not what was written: the same command gives the undisturbed tables, or names the file."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from uasbench.benchmark.commands import rescoring, running
from uasbench.benchmark.commands.preparing import prepare_only
from uasbench.benchmark.commands.rescoring import rescore
from uasbench.benchmark.planning import where
from uasbench.benchmark.planning.options import RunOptions, validated
from uasbench.benchmark.runs.folder import RecordError, RunFolder, RunFolderError
from uasbench.benchmark.runs.map_store import write_mask
from uasbench.benchmark.runs.records import FIT_SEAL, MAP_SEAL, UNCHECKED, Record, write_json
from uasbench.benchmark.stages import fit, measure
from uasbench.benchmark.stages import map as map_stage
from uasbench.benchmark.stages.apart import Here
from uasbench.benchmark.stages.measure import MeasureTask
from uasbench.common.atomic import DiskError
from uasbench.common.sealed import DamagedError, seal_folder
from uasbench.datasets.storing import store
from uasbench.reports.columns import record_flags
from uasbench.reports.compare import compare
from uasbench.reports.tables import tables_of

from .in_process import InProcess

HOW = ["flip", "truncate", "empty"]
STORED = [
    "native/*/image.npy", "native/*/roi.npy", "native/*/meta.json", "views/*/*/image.npy", "views/*/*/roi.npy",
    "views/*/*/support.npy", "views/*/*/meta.json", "truth/*/lesion.npy", "truth/*/meta.json", "index/*.json",
]  # fmt: skip
MADE = ["fits/*/last.pt", f"fits/*/{FIT_SEAL}", "maps/*/*.map", "maps/*/healthy/*.map", f"maps/*/{MAP_SEAL}"]


@pytest.fixture(scope="module")
def first(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of ``ae`` and the cache that it filled."""
    home = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, "find_executor", lambda name: InProcess)
        # Scans are indexed once they have settled; the readers that do it know nothing of a patch.
        newest = max(path.stat().st_ctime_ns for path in root.rglob("*"))
        time.sleep(max(0, newest + 1.1 * store._SETTLED_NS - time.time_ns()) / 1e9)
        _, failed = running.run(_options(home, root))
    assert failed == 0
    return home


@pytest.fixture
def home(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for one test; stages run in this process."""
    for module in (where, rescoring):
        monkeypatch.setattr(module, "find_executor", lambda name: InProcess)
    return shutil.copytree(first, tmp_path / "home")


def _options(home: Path, root: Path, **others: Any) -> RunOptions:
    settings = {"data_root": root, "cache": home / "cache", "profile": "smoke", "seeds": [0], "trials": 1}
    return validated(methods="ae", datasets=["lits"], **{**settings, "out": home / "run", **others})


def _spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) * 2 // 3] ^= 4
    path.unlink()
    path.write_bytes({"flip": content, "truncate": content[: len(content) // 2], "empty": b""}[how])


def _numbers(folder: RunFolder) -> list[str]:
    tables = tables_of(folder)
    return [frame.to_csv() for frame in (tables.summary, tables.per_case, tables.paired_tests, tables.failures)]


def _maps(run: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(run.glob("maps/**/*.map"))]


def _one(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[-1]


@pytest.mark.parametrize("pattern", STORED)
def test_a_damaged_entry_of_the_store_is_made_again_by_the_command_that_needs_it(first, home, root, pattern):
    for path in sorted((home / "cache" / "store").glob(pattern)):
        _spoil(path, "flip")
    folder, failed = running.run(_options(home, root, out=home / "fresh"))
    assert failed == 0
    assert _numbers(folder) == _numbers(RunFolder(first / "run"))
    assert _maps(folder.path) == _maps(first / "run")
    told = [w for w in folder.info()["warnings"] if "was damaged" in w]
    assert bool(told) == (pattern.startswith(("views", "native/*/im", "native/*/roi", "truth/*/les")))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("pattern", MADE)
def test_damaged_fits_and_maps_are_made_again_where_they_are_needed(first, home, root, pattern, how):
    folder = RunFolder(home / "run")
    path = _one(folder.path, pattern)
    _spoil(path, how)
    _one(folder.path, "records/*.json").unlink()
    if pattern == "fits/*/last.pt":
        shutil.rmtree(folder.maps_dir)
    _, failed = running.run(_options(home, root))
    assert failed == 0
    assert _numbers(folder) == _numbers(RunFolder(first / "run"))
    assert any(w.startswith(f"WARNING {path} was damaged") for w in folder.info()["warnings"])


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_record_is_set_aside_and_measured_anew(first, home, root, how):
    folder = RunFolder(home / "run")
    path = _one(folder.path, "records/*.json")
    _spoil(path, how)
    for read in (lambda: tables_of(folder).summary, lambda: compare(folder, "ae")):
        with pytest.raises(RecordError, match=str(path)):
            read()
    running.run(_options(home, root))
    assert _numbers(folder) == _numbers(RunFolder(first / "run"))
    assert (folder.stale_dir / path.name).exists()
    assert any(f"{path} is not a readable record" in w for w in folder.info()["warnings"])


def test_a_record_edited_by_hand_is_noticed(first, home, root):
    folder = RunFolder(home / "run")
    path = _one(folder.path, "records/*.json")
    content = json.loads(path.read_text())
    for row in content["per_case"]:
        row["value"] = 0.987
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match="digest differs"):
        folder.records()
    running.run(_options(home, root))
    assert _numbers(folder) == _numbers(RunFolder(first / "run"))


def test_a_record_without_a_digest_is_marked_in_tables_and_not_taken_by_a_run(first, home, root):
    folder = RunFolder(home / "run")
    path = _one(folder.path, "records/*.json")
    content = json.loads(path.read_text())
    del content["digest"]
    path.write_text(json.dumps(content))
    (record,) = folder.records()
    assert "unchecked" in record_flags(record)
    assert all("unchecked" in flags for flags in tables_of(folder).summary["flags"])
    write_json(path, record)
    assert UNCHECKED in folder.record(path).environment, "writing it again must not hide that nobody knows"
    path.write_text(json.dumps(content))
    running.run(_options(home, root))
    assert _numbers(folder) == _numbers(RunFolder(first / "run"))
    assert folder.records()[0].digest


def test_the_digest_of_a_record_is_that_of_its_content(home):
    (record,) = RunFolder(home / "run").records()
    written = home / "again.json"
    write_json(written, record)
    assert Record.model_validate_json(written.read_text()).digest == record.digest
    write_json(written, record.model_copy(update={"profile": "quick"}))
    assert Record.model_validate_json(written.read_text()).digest != record.digest


@pytest.mark.parametrize("pattern", ["maps/*/*.map", f"maps/*/{MAP_SEAL}"])
def test_a_map_beside_a_finished_record_is_noticed_by_who_opens_it_and_then_made_again(first, home, root, pattern):
    folder = RunFolder(home / "run")
    path = _one(folder.path, pattern)
    _spoil(path, "flip")
    count, problems = rescore(folder, 1, lambda _: None, lambda _: None)
    assert (count, len(problems)) == (0, 1)
    assert f"{path} is missing or damaged (" in next(iter(problems.values()))
    running.run(_options(home, root))
    assert _numbers(folder) == _numbers(RunFolder(first / "run"))
    assert _maps(folder.path) == _maps(first / "run")
    assert rescore(folder, 1, lambda _: None, lambda _: None) == (1, {})


def test_what_rescoring_finds_damaged_in_the_store_is_made_again_by_the_next_run(home, root):
    folder = RunFolder(home / "run")
    running.run(_options(home, root))  # the plans name the cache of the copy now
    path = _one(home / "cache" / "store", "truth/*/lesion.npy")
    _spoil(path, "flip")
    problems = rescore(folder, 1, lambda _: None, lambda _: None)[1]
    assert [str(path) in text for text in problems.values()] == [True]
    running.run(_options(home, root))
    assert rescore(folder, 1, lambda _: None, lambda _: None) == (1, {})


def test_preparing_makes_the_store_whole(home, root):
    arrays = (home / "cache" / "store").rglob("*.npy")
    before = {path: path.read_bytes() for path in arrays}
    for path in before:
        _spoil(path, "flip")
    prepare_only(_options(home, root))
    assert {path: path.read_bytes() for path in before} == before


class TestStages:
    """What a stage opens is compared also where nothing was planned anew: it may have changed meanwhile."""

    @pytest.fixture
    def cell(self, home, plan, root) -> SimpleNamespace:
        folder = RunFolder(home / "run")
        _, cells = plan("ae", cache=home / "cache", out=folder.path, trials=1)
        return SimpleNamespace(folder=folder, store=home / "cache" / "store", **vars(cells["ae"]))

    @pytest.mark.parametrize("name", ["image.npy", "roi.npy", "support.npy", "meta.json"])
    def test_a_fit_names_the_view(self, cell, name):
        shutil.rmtree(cell.folder.fits_dir)
        for path in cell.store.glob(f"views/*/*/{name}"):
            _spoil(path, "flip")
        with pytest.raises(DamagedError, match=rf"views/\w+/\w+/{name}"):
            fit.run(cell.fits.tasks[0], Here(_nothing))

    def test_a_mapping_names_the_checkpoint(self, cell):
        shutil.rmtree(cell.folder.maps_dir)
        _spoil(_one(cell.folder.path, "fits/*/last.pt"), "flip")
        with pytest.raises(DamagedError, match=r"fits/\w+/last\.pt"):
            map_stage.run(cell.maps, Here(_nothing))

    @pytest.mark.parametrize("name", ["image.npy", "roi.npy"])
    def test_a_mapping_names_the_scan(self, cell, name):
        shutil.rmtree(cell.folder.maps_dir)
        for path in cell.store.glob(f"native/*/{name}"):
            _spoil(path, "flip")
        with pytest.raises(DamagedError, match=rf"native/\w+/{name}"):
            map_stage.run(cell.maps, Here(_nothing))

    @pytest.mark.parametrize(
        "pattern", ["run/maps/*/volume-1.map", "run/maps/*/healthy/*.map", f"run/maps/*/{MAP_SEAL}",
                    f"run/fits/*/{FIT_SEAL}", "cache/store/native/*/roi.npy", "cache/store/truth/*/lesion.npy"],
    )  # fmt: skip
    def test_a_measuring_names_what_it_opens(self, cell, pattern):
        task: MeasureTask = cell.measure
        for path in cell.folder.path.parent.glob(pattern):
            _spoil(path, "flip")
        with pytest.raises(DamagedError, match=Path(pattern).name.replace("*", "")):
            measure.run(task, Here(_nothing))

    def test_a_mask_that_is_gone_is_not_taken_for_none(self, cell):
        mask = cell.maps.out / "volume-0.mask"
        write_mask(mask, np.ones((3, 4), bool))
        seal_folder(cell.maps.out / MAP_SEAL, json.loads((cell.maps.out / MAP_SEAL).read_text()))
        mask.unlink()
        with pytest.raises(DamagedError, match=r"volume-0\.mask"):
            measure.run(cell.measure, Here(_nothing))

    def test_a_finished_fit_and_its_maps_are_left_alone_and_damaged_ones_replaced(self, cell):
        run: list[tuple[Callable[..., None], Any, Path]] = [
            (fit.run, cell.fits.tasks[0], _one(cell.folder.path, "fits/*/last.pt")),
            (map_stage.run, cell.maps, _one(cell.folder.path, "maps/*/*.map")),
        ]
        for stage, task, path in run:
            size, inode = path.stat().st_size, path.stat().st_ino
            stage(task, Here(_nothing))
            assert path.stat().st_ino == inode
            _spoil(path, "truncate")
            stage(task, Here(_nothing))
            assert path.stat().st_size == size


def test_maps_of_an_earlier_version_are_measured_and_their_record_says_that_nobody_knows(home, root):
    folder = RunFolder(home / "run")
    path = _one(folder.path, f"maps/*/{MAP_SEAL}")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in ("files", "digest")}))
    assert rescore(folder, 1, lambda _: None, lambda _: None) == (1, {})
    assert "unchecked" in record_flags(folder.records()[0])


def test_a_run_of_a_newer_version_is_left_alone(home, root):
    folder = RunFolder(home / "run")
    content = json.loads(folder.run_json.read_text())
    folder.run_json.write_text(json.dumps(content | {"schema": 99}))
    with pytest.raises(RunFolderError, match="schema 99"):
        running.run(_options(home, root))
    assert json.loads(folder.run_json.read_text())["schema"] == 99


def test_a_disk_that_fills_while_a_checkpoint_is_saved_is_an_error_of_the_disk(home, plan, monkeypatch):
    _, cells = plan("ae", out=home / "other")

    def full(state, file):
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 6016 vs 5912")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DiskError, match=rf"^{home}/other/fits: the disk is full: \d+ MiB are free"):
        fit.run(cells["ae"].fits.tasks[0], Here(_nothing))


def _nothing(done: int, total: int) -> None: ...
