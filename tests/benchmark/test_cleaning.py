"""Cleaning keeps what a run needs to continue, drops the rest, and never works beside another bench."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest
from uasbench.benchmark.commands.cleaning import clean
from uasbench.benchmark.runs.folder import RunFolderError, hold


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


def test_the_bytes_of_what_was_dropped_are_returned(folder):
    clean(folder)
    doomed = [
        fill(folder.fits_dir / "0123456789abcdef" / "last.pt"),
        fill(folder.maps_dir / "nobody__lits__btcv__s0" / "volume-0.map"),
        fill(folder.fits_dir / ".0123456789abcdef.1.tmp" / "last.pt"),
        fill(folder.fits_dir / ".0123456789abcdef.partial-host-1-00000000" / "last.pt"),
        fill(folder.map_dir(folder.records()[0].cell) / ".gallery.npz.partial-host-1-00000000"),
        fill(folder.cells_dir / ".x.json.1.tmp"),
        fill(folder.logs_dir / "fit-old.log"),
        fill(folder.stale_dir / "x.json"),
    ]
    assert clean(folder) == 1000 * len(doomed)
    assert not any(path.exists() for path in doomed)
    assert not folder.stale_dir.exists()


def test_fits_of_the_record_and_of_the_plan_that_replaces_it_are_kept(folder):
    record = folder.records()[0]
    plan = json.loads(folder.cell_path(record.cell).read_text())
    plan["ids"] |= {"fit": "1" * 16, "map": "2" * 16}
    folder.cell_path(record.cell).write_text(json.dumps(plan))
    new = fill(folder.fit_dir("1" * 16) / "fit.json")
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
    scratch = fill(folder.fits_dir / ".a.1.tmp" / "last.pt")
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
    scratch = fill(folder.fits_dir / ".a.1.tmp" / "last.pt")
    lock = fill(folder.path / "locks" / "fit-a", 0)
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
    kept = fill(folder.fits_dir / "0123456789abcdef" / "last.pt")
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


def test_a_linked_lock_empties_no_file(folder, tmp_path):
    mine = fill(tmp_path / "mine")
    (folder.path / "lock").unlink(missing_ok=True)
    (folder.path / "lock").symlink_to(mine)
    with pytest.raises(RunFolderError, match="it is a link, which is not followed"):
        clean(folder)
    assert mine.stat().st_size == 1000
