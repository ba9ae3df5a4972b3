"""Measuring again: moved runs, other working directories, single cells that cannot be measured."""

import json
import shutil
from pathlib import Path

import pytest
from uasbench.benchmark.commands.rescoring import load_task, rescore
from uasbench.benchmark.commands.running import run
from uasbench.benchmark.planning.options import OptionError
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError, hold
from uasbench.benchmark.runs.records import write_json
from uasbench.benchmark.stages.measure import MeasureTask


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


@pytest.mark.slow
def test_a_case_that_was_left_out_stays_out_even_where_its_map_lies_there(folder, smoke, tmp_path):
    options = smoke("hu-deviation", exclude=["lits:volume-1"], trials=1)
    part, _ = run(options)
    (old,) = part.records()
    assert old.data.excluded == ["lits:volume-1"]
    assert set(old.data.cases) == {"volume-0"}
    count, problems, (new,) = again(part)
    assert (count, problems) == (1, {})
    numbers = ("ids", "thresholds", "per_case", "pooled", "froc", "data")
    assert [getattr(new, name) for name in numbers] == [getattr(old, name) for name in numbers]

    # The maps of all cases, and a plan that measures one of them.
    cell = old.cell
    path = folder.cell_path(cell)
    whole = MeasureTask.model_validate_json(path.read_text())
    less = MeasureTask.model_validate_json(part.cell_path(cell).read_text())
    assert {case.id for case in whole.cases} == {"volume-0", "volume-1"}
    chosen = {name: getattr(less, name) for name in ("cases", "truths", "data")}
    write_json(path, whole.model_copy(update=chosen))
    count, problems, records = again(folder)
    assert (count, problems) == (3, {})
    (told,) = (record for record in records if record.cell == cell)
    assert [getattr(told, name) for name in numbers[1:]] == [getattr(old, name) for name in numbers[1:]]
    assert (folder.map_dir(cell) / "volume-1.map").exists()


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
