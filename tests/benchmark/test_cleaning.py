"""Cleaning keeps what a run needs to continue, drops the rest, and never works beside another bench."""

import fcntl
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from uasbench.benchmark.commands.cleaning import clean
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError, hold
from uasbench.common.atomic import new_folder, resumable
from uasbench.common.errors import DataError


def fill(path: Path, size: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def test_a_finished_run_keeps_records_fits_and_maps(folder):
    record, *others = folder.records()
    clean(folder)
    assert folder.records() == [record, *others]
    assert (folder.fit_dir(record.ids.fit) / "fit.json").exists()
    assert (folder.map_dir(record.cell) / "map.json").exists()
    assert folder.cell_path(record.cell).exists()
    assert clean(folder) == 0


def test_an_unfinished_training_stays_for_a_planned_cell_alone(folder):
    fit = folder.records()[0].ids.fit
    kept, dropped = (fill(resumable(folder.fits_dir / name) / "resume-1.pt") for name in (fit, "0123456789abcdef"))
    clean(folder)
    assert kept.exists()
    assert not dropped.parent.exists()


def made(folder, path: Path) -> Path:
    """A file of a folder as bench makes it, or a file alone."""
    alone = path.parent in folder.parts
    folder.ledger.add(path if alone else path.parent)
    if alone:
        return fill(path)
    with new_folder(path.parent, listed=True) as scratch:
        fill(scratch / path.name)
    return path


def fill_folder(folder) -> tuple[list[Path], list[Path]]:
    """Put into a finished run what bench made and nothing refers to, and what it did not make; return both."""
    clean(folder)
    half = "partial-host-1-00000000"
    ours = [
        made(folder, folder.fits_dir / "0123456789abcdef" / "last.pt"),
        made(folder, folder.maps_dir / "nobody__lits__btcv__s0" / "volume-0.map"),
        made(folder, folder.logs_dir / "fit-old.log"),
        made(folder, folder.stale_dir / "x.json"),
        made(folder, folder.tasks_dir / "fit-old.json"),
        fill(folder.fits_dir / f".0123456789abcdef.{half}" / "last.pt"),
        fill(folder.map_dir(folder.records()[0].cell) / f".gallery.npz.{half}"),
        fill(folder.cells_dir / f".x.json.{half}"),
        fill(folder.tables_dir / f".skipped.csv.{half}"),
    ]
    foreign = [
        fill(folder.fits_dir / "0123456789abcdee" / "last.pt"),
        fill(folder.fits_dir / "0123456789abcdef" / "notes" / "mine.txt"),
        fill(folder.fits_dir / "model.pkl"),
        fill(folder.maps_dir / "eu" / "map.tif"),
        fill(folder.logs_dir / "mine.log"),
        fill(folder.stale_dir / "mine.json"),
        fill(folder.locks_dir / "mine" / "lock"),
        fill(folder.tables_dir / "mine.csv"),
        fill(folder.path / "src" / f".editor.py.{half}"),
        fill(folder.path / "src" / ".editor.py.tmp"),
        fill(folder.cells_dir / ".x.json.1.tmp"),
        fill(folder.fits_dir / ".mine.partial-1"),
    ]
    return ours, foreign


def test_what_bench_made_goes_and_what_it_did_not_make_stays(folder):
    ours, foreign = fill_folder(folder)
    lines: list[str] = []
    freed = clean(folder, show=lines.append)
    lists = 2 * len('["volume-0.map", ".contents"]') - len("volume-0.map") + len("last.pt")
    assert freed == 1000 * len(ours) + lists
    assert [path for path in ours if path.exists()] == []
    assert [path for path in foreign if not path.exists()] == []
    assert len(lines) == len(ours) + 1
    assert "left alone, because the ledger of this run does not name it: " in lines[-1]
    assert "mine" in lines[-1]
    assert clean(folder) == 0


def test_a_dry_run_lists_the_same_and_deletes_nothing(folder):
    fill_folder(folder)
    before = sorted(folder.path.rglob("*"))
    dry: list[str] = []
    real: list[str] = []
    freed = clean(folder, dry_run=True, show=dry.append)
    assert sorted(folder.path.rglob("*")) == before
    assert clean(folder, show=real.append) == freed > 0
    assert real == dry


def test_a_run_of_an_earlier_version_keeps_what_no_ledger_names(folder):
    folder.ledger.path.unlink()
    old = [fill(folder.fits_dir / "0123456789abcdef" / "last.pt"), *folder.logs_dir.iterdir()]
    lines: list[str] = []
    assert clean(folder, show=lines.append) == 0
    assert all(path.exists() for path in old)
    assert any("fits/0123456789abcdef" in line for line in lines)


LEADING_OUT = ["../mine", "/etc/hostname", "fits/../../mine", "fits/link/mine", "", ".", "..", "fits/link", "run.json"]


@pytest.mark.parametrize("ledger", ["\n".join(LEADING_OUT) + "\n", "../mine", "\0\n", "fits/\xff\n"])
def test_a_ledger_that_leads_out_of_the_run_deletes_nothing(folder, tmp_path, ledger):
    clean(folder)
    mine = fill(tmp_path / "mine" / "mine")
    (folder.fits_dir / "link").symlink_to(tmp_path / "mine")
    folder.ledger.path.write_text(ledger, encoding="latin-1")
    before = sorted(folder.path.rglob("*"))
    assert clean(folder, maps=True) == 0
    assert mine.exists()
    assert sorted(folder.path.rglob("*")) == before


def test_a_list_of_contents_that_leads_out_of_its_folder_deletes_nothing(folder, tmp_path):
    clean(folder)
    mine = fill(tmp_path / "mine" / "mine")
    fit = made(folder, folder.fits_dir / "0123456789abcdef" / "last.pt").parent
    (fit / "link").symlink_to(tmp_path / "mine")
    (fit / ".contents").write_text(json.dumps(["../../../mine/mine", str(mine), "link/mine", "link", "last.pt", "."]))
    clean(folder)
    assert mine.exists()
    assert (fit / "link").is_symlink()
    assert not (fit / "last.pt").exists()


def test_a_linked_ledger_is_refused(folder, tmp_path):
    other = fill(tmp_path / "other")
    folder.ledger.path.unlink()
    folder.ledger.path.symlink_to(other)
    with pytest.raises(RunFolderError, match="ledger is a link"):
        clean(folder)
    with pytest.raises(DataError, match="the list of what bench made, cannot be used"):
        RunFolder(folder.path).ledger.add(folder.fits_dir / "new")
    assert other.stat().st_size == 1000


def test_fits_of_the_record_and_of_the_plan_that_replaces_it_are_kept(folder):
    record = folder.records()[0]
    plan = json.loads(folder.cell_path(record.cell).read_text())
    plan["ids"] |= {"fit": "1" * 16, "map": "2" * 16}
    folder.cell_path(record.cell).write_text(json.dumps(plan))
    new = made(folder, folder.fit_dir("1" * 16) / "fit.json")
    clean(folder)
    assert new.exists()
    assert folder.fit_dir(record.ids.fit).exists()


def test_maps_of_finished_cells_go_only_on_demand_and_only_if_measured(folder):
    record, *others = folder.records()
    maps = folder.map_dir(record.cell)
    stored = (maps / "map.json").read_text()
    (maps / "map.json").write_text(json.dumps({**json.loads(stored), "id": "2" * 16}))
    clean(folder, maps=True)
    assert maps.exists()
    (maps / "map.json").write_text(stored)
    assert clean(folder, maps=True) > 0
    assert not maps.exists()
    assert folder.records() == [record, *others]


def test_a_folder_in_use_is_left_alone(folder):
    scratch = fill(folder.fits_dir / ".a.partial-host-1-00000000" / "last.pt")
    code = (
        "import sys, time\nfrom uasbench.benchmark.runs.folder import RunFolder\n"
        "from uasbench.benchmark.runs.folder import hold\n"
        "with hold(RunFolder(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder.path.parent) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(RunFolderError, match=rf"another bench works in .*pid {other.pid} "):
                clean(folder)
            assert scratch.exists()
        finally:
            other.kill()
    assert clean(folder) >= 1000
    assert (folder.path / "lock").exists()


def test_a_lock_is_refused_twice_and_free_again_after_an_error(folder):
    def fail() -> None:
        with hold(folder):
            with pytest.raises(RunFolderError, match="another bench"), hold(folder):
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with hold(folder):
        pass
    assert (folder.path / "lock").read_text() == ""


def test_a_worker_that_still_runs_keeps_its_scratch_and_lock(folder):
    scratch = fill(folder.fits_dir / ".a.partial-host-1-00000000" / "last.pt")
    lock = made(folder, folder.locks_dir / "fit-a")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunFolderError, match="held by a worker"):
            clean(folder)
        assert scratch.exists()
    assert lock.exists()
    clean(folder)
    assert not scratch.exists()
    assert not lock.exists()


def test_an_unreadable_plan_is_named_and_nothing_is_deleted(folder):
    record = folder.records()[0]
    folder.cell_path(record.cell).write_text("{")
    kept = made(folder, folder.fits_dir / "0123456789abcdef" / "last.pt")
    with pytest.raises(RunFolderError, match=record.cell.slug):
        clean(folder)
    assert kept.exists()


@pytest.mark.parametrize("part", ["fits", "maps", "logs", "locks", "stale"])
@pytest.mark.parametrize("maps", [False, True])
def test_nothing_is_deleted_behind_a_link(folder, tmp_path, part, maps):
    elsewhere = tmp_path / "elsewhere"
    if (folder.path / part).exists():
        (folder.path / part).rename(elsewhere)
    fill(elsewhere / "mine" / "precious.bin")
    (folder.path / part).symlink_to(elsewhere)
    before = sorted(p.relative_to(elsewhere) for p in elsewhere.rglob("*"))
    with pytest.raises(RunFolderError, match=f"{part} is a link, and nothing is deleted"):
        clean(folder, maps=maps)
    assert sorted(p.relative_to(elsewhere) for p in elsewhere.rglob("*")) == before


def test_a_run_tidies_up_behind_no_link(run, tmp_path):
    folder = run("hu-deviation").path
    half = f".mine.partial-{socket.gethostname()}-{2**22 + 1}-00000000"  # of a process that cannot be
    elsewhere = tmp_path / "elsewhere"
    (folder / "records").rename(elsewhere)
    (folder / "records").symlink_to(elsewhere)
    for place in (elsewhere, folder / "logs"):
        fill(place / half)
    run("hu-deviation")
    assert (elsewhere / half).exists()
    assert not (folder / "logs" / half).exists()


def test_a_linked_lock_empties_no_file(folder, tmp_path):
    mine = fill(tmp_path / "mine")
    (folder.path / "lock").unlink(missing_ok=True)
    (folder.path / "lock").symlink_to(mine)
    with pytest.raises(RunFolderError, match="it is a link, which is not followed"):
        clean(folder)
    assert mine.stat().st_size == 1000
