"""A run folder may be moved and copied: what it sends stays its own."""

import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.runs.records import write_json
from uasbench.benchmark.tracking.server import TrackingError, client, tracking_uri
from uasbench.benchmark.tracking.tracker import publish

NAMES = ["moved", "run?x", "run%41", "100%", "a#b;c", "it's ü b", '"q"']


@pytest.fixture
def sent(begin, build, mlflow_tables, tmp_path):
    """A run with a database of its own, to which one cell was sent."""
    here = begin(tmp_path / "original", build(0))
    here.folder.tables_dir.mkdir()
    (here.folder.tables_dir / "summary.csv").write_text("1")
    shutil.copyfile(mlflow_tables, here.folder.mlflow_db)
    assert here.publish(files=True) == 1
    return here.folder


def tree(path: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p.relative_to(path)): (p.read_bytes(), p.stat().st_mtime_ns) for p in path.rglob("*") if p.is_file()}


def runs(folder: RunFolder) -> list:
    mine = client(tracking_uri(folder))
    return [r for e in mine.search_experiments() for r in mine.search_runs([e.experiment_id])]


def check(folder: RunFolder, cells: int) -> None:
    """Every run says that its artifacts lie in the folder, and they do."""
    found = runs(folder)
    assert len(found) == 1 + cells
    for run in found:
        at = Path(unquote(urlsplit(run.info.artifact_uri).path))
        assert at == folder.path / "mlruns" / run.info.run_id / "artifacts"
        listed = {f.path for f in client(tracking_uri(folder)).list_artifacts(run.info.run_id)}
        cell = run.data.tags.get("uasbench.cell")
        assert listed >= ({f"{cell}.json"} if cell else {"tables", "run.json"})
        assert {p.name for p in at.iterdir()} == listed


@pytest.mark.parametrize("name", NAMES)
def test_a_moved_run_goes_on_in_its_folder_whatever_its_name_and_revives_no_other(sent, build, tmp_path, name):
    moved = RunFolder(sent.path.rename(tmp_path / name))
    write_json(moved.record_path(build(1).cell), build(1))
    assert publish(moved) == 1
    assert [p.name for p in tmp_path.iterdir()] == [name]
    check(moved, cells=2)
    (parent,) = (r for r in runs(moved) if "uasbench.cell" not in r.data.tags)
    assert parent.data.tags["uasbench.folder"] == str(moved.path)


def test_a_copy_writes_nothing_into_the_original_nor_the_original_into_the_copy(sent, build, tmp_path):
    copy = RunFolder(shutil.copytree(sent.path, tmp_path / "copy"))
    before = tree(sent.path)
    write_json(copy.record_path(build(1).cell), build(1))
    assert publish(copy) == 1
    assert tree(sent.path) == before
    check(copy, cells=2)
    before = tree(copy.path)
    (sent.tables_dir / "more.csv").write_text("2")
    assert publish(sent) == 0
    assert tree(copy.path) == before
    check(sent, cells=1)


def test_on_a_shared_server_a_copy_has_runs_of_its_own_and_a_moved_run_keeps_its(here, build, tmp_path):
    here.write(build(0))
    here.publish()
    parent = here.parent().info.run_id
    copy = type(here)(tmp_path / "other", uri=here.uri)
    shutil.copytree(here.folder.path, copy.folder.path, dirs_exist_ok=True)
    copy.write(build(0, measure="again"), build(1))
    assert copy.publish() == 2
    assert copy.publish() == 0
    assert len(copy.slugs()) == 2
    assert copy.parent().info.run_id != parent
    (own,) = here.nested()
    assert own.data.tags["uasbench.ids"] == build(0).ids.model_dump_json()
    here.folder = RunFolder(here.folder.path.rename(tmp_path / "moved"))
    assert here.publish() == 0
    assert here.parent().info.run_id == parent
    assert here.parent().data.tags["uasbench.folder"] == str(tmp_path / "moved")


def test_a_database_that_cannot_be_read_is_named_with_the_way_out(sent):
    sent.mlflow_db.write_bytes(b"no database at all" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be used.*bench track"):
        publish(sent)


def test_what_killed_processes_have_left_half_written_is_not_sent(here, build):
    here.write(build(0))
    for name in ("tables/summary.csv", "tables/.summary.csv.7.tmp", "tables/.x.csv.partial-host-7-ab", "figures/a.png"):
        (here.folder.path / name).parent.mkdir(exist_ok=True)
        (here.folder.path / name).write_text("1")
    (here.folder.figures_dir / ".b.partial-host-7-ab").mkdir()
    (here.folder.figures_dir / ".b.partial-host-7-ab" / "b.png").write_text("1")
    here.publish(files=True)
    run = here.parent().info.run_id
    assert here.artifacts(run, "tables") == ["summary.csv"]
    assert here.artifacts(run, "figures") == ["a.png"]
