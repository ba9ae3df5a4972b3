"""Measuring again: moved runs, other working directories, single cells that cannot be measured."""

import json
import shutil
from pathlib import Path

import pytest
from uasbench.benchmark.commands.rescoring import load_task, rescore
from uasbench.benchmark.planning.options import OptionError
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError, hold


@pytest.fixture
def folder(small_run: RunFolder, tmp_path: Path) -> RunFolder:
    """The run after a move: its plans still name the place where it was made."""
    return RunFolder.open(shutil.copytree(small_run.path, tmp_path / "moved"))


def again(folder: RunFolder, workers: int = 1):
    records = []
    count, problems = rescore(folder, workers, lambda _: None, records.append)
    return count, problems, records


def test_a_moved_run_is_measured_where_it_lies_from_any_working_directory(small_run, folder, monkeypatch):
    def files(path: Path) -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}

    before = files(small_run.path)
    old = folder.records()
    monkeypatch.chdir(folder.path.parent)
    count, problems, records = again(RunFolder.open("moved"), 2)
    assert (count, problems, len(records)) == (3, {}, 3)
    assert [(r.ids, r.per_case, r.pooled) for r in folder.records()] == [(r.ids, r.per_case, r.pooled) for r in old]
    assert [r.cost.fit_s for r in folder.records()] == [r.cost.fit_s for r in old]
    assert files(small_run.path) == before


def test_plans_are_rebased_and_imported_ones_have_no_fit(folder):
    record = folder.records()[0]
    task = load_task(folder, record.cell)
    assert task.fit_dirs == (folder.fit_dir(record.ids.fit),)
    assert all(p.is_relative_to(folder.path) for p in (task.maps, task.record, task.study))
    path = folder.cell_path(record.cell)
    path.write_text(json.dumps({**json.loads(path.read_text()), "fit_dirs": []}))
    assert load_task(folder, record.cell).fit_dirs == ()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder, cell: folder.cell_path(cell).unlink(), "run the same"),
        (lambda folder, cell: folder.cell_path(cell).write_text("{}"), "cannot be used"),
        (lambda folder, cell: shutil.rmtree(folder.map_dir(cell)), "no longer holds the maps"),
    ],
    ids=["plan", "plan of another version", "maps"],
)
def test_what_is_gone_is_named_with_the_fix(folder, damage, message):
    cell = folder.records()[0].cell
    damage(folder, cell)
    with pytest.raises(RunFolderError, match=message):
        load_task(folder, cell)


def test_cells_that_cannot_be_measured_stop_no_other(folder):
    cells = [record.cell for record in folder.records()]
    fit = folder.records()[2].ids.fit
    folder.record_path(cells[0]).write_text("{")
    shutil.rmtree(folder.fit_dir(fit))
    count, problems, records = again(folder)
    assert (count, [record.cell for record in records]) == (1, [cells[1]])
    assert problems.keys() == {cells[0].slug, cells[2].slug}
    assert "not a readable record" in problems[cells[0].slug]
    assert "fit.json" in problems[cells[2].slug]


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(folder, workers):
    with pytest.raises(OptionError, match="--workers"):
        again(folder, workers)


def test_a_folder_in_use_is_refused(folder):
    with hold(folder), pytest.raises(RunFolderError, match="another bench works"):
        again(folder)
