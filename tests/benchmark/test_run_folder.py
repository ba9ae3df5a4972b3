"""A run folder whose files were damaged or come from a later version: named in a few words, never a traceback."""

import fcntl
import json
import os
import shutil
import threading
import time

import pytest
from uasbench.benchmark.commands.cleaning import clean
from uasbench.benchmark.commands.running import run
from uasbench.benchmark.runs import folder as folders
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError, hold
from uasbench.benchmark.runs.records import Record
from uasbench.benchmark.stages.map import finished
from uasbench.common.atomic import new_folder
from uasbench.common.errors import UasbenchError

DAMAGED = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe{}",
    "a list": b"[]",
    "null": b"null",
    "brackets": b"[" * 100_000,
    "truncated": b'{"schema": 1, "cells": [',
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_run_json_records_and_failures_are_named(folder, kind):
    (record, *_) = folder.records_dir.glob("*.json")
    failure = folder.failures_dir / "x.json"
    failure.parent.mkdir(exist_ok=True)
    for path, read in ((record, folder.records), (failure, folder.failures), (folder.run_json, folder.info)):
        path.write_bytes(DAMAGED[kind])
        with pytest.raises(RunFolderError) as refused:
            read()
        assert path.name in str(refused.value)
        assert len(str(refused.value)) < 600
    with pytest.raises(RunFolderError, match=r"run\.json"):
        RunFolder.open(folder.path)
    with pytest.raises(RunFolderError, match=rf"run\.json|{record.name}"):
        clean(folder)


def test_the_schema_of_records_names_every_part_of_their_files(folder):
    schema = Record.model_json_schema()
    for path in folder.records_dir.glob("*.json"):
        written = json.loads(path.read_text())
        assert written.keys() == schema["properties"].keys()
        assert {*schema["required"]} <= written.keys()
        (threshold, *_) = written["thresholds"]
        assert threshold.keys() <= schema["$defs"]["Threshold"]["properties"].keys()


def test_an_odd_row_of_skipped_methods_is_named(folder):
    folder.update_info(skipped=[{"reason": 3}])
    with pytest.raises(RunFolderError, match=r"run\.json: its list of skipped methods"):
        folder.skipped()


@pytest.mark.parametrize("schema", [99, "two", None])
def test_a_run_of_a_newer_schema_is_refused_and_left_as_it_is(folder, smoke, schema):
    folder.run_json.write_text(json.dumps(json.loads(folder.run_json.read_text()) | {"schema": schema}))
    before = folder.run_json.read_bytes()
    with pytest.raises(RunFolderError, match=r"run\.json has schema .*, this version reads up to 1"):
        run(smoke("hu-deviation,random", out=folder.path, seeds=[0, 1]))
    assert folder.run_json.read_bytes() == before


@pytest.mark.parametrize("content", [*DAMAGED.values(), b"{}", b'"text"', b"3"])
def test_maps_that_do_not_say_whose_they_are_are_not_finished(tmp_path, content):
    (tmp_path / "map.json").write_bytes(content)
    assert finished(tmp_path) is None


def below(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*"))


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path):
    mine = tmp_path / "project" / "logs" / "mine.log"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with (
        pytest.raises(RunFolderError, match=r"no run folder and not empty \(it holds logs\)"),
        RunFolder.working(tmp_path / "project"),
    ):
        pass
    assert below(tmp_path / "project") == ["logs", "logs/mine.log"]


def test_a_folder_of_a_run_that_ended_at_its_start_is_used_again(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / ".run.json.partial-host-77-00000000").touch()
    (tmp_path / "ledger").write_text("maps/cell\n")
    (tmp_path / "maps").mkdir()
    with RunFolder.working(tmp_path) as folder:
        assert folder.path == tmp_path


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "a finished run"])
def test_what_failed_before_there_was_a_run_leaves_nothing_behind(folder, tmp_path, there):
    path = tmp_path / "new" / "deep" / "run"
    if there == "an empty folder":
        path.mkdir(parents=True)
    if there == "a finished run":
        path = folder.path
    before = below(tmp_path)

    def fail():
        with RunFolder.working(path) as working:
            cell = working.maps_dir / "cell"
            if there != "a finished run":
                working.ledger.add(cell)
                with new_folder(cell, listed=True) as scratch:
                    (scratch / "volume-0.map").write_text("map")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert below(tmp_path) == before


def test_a_lock_that_its_holder_deletes_is_not_held_twice(tmp_path, monkeypatch):
    flock = fcntl.flock

    def slow(file, how):
        flock(file, how)
        (tmp_path / "lock").unlink()

    monkeypatch.setattr(fcntl, "flock", slow)
    with pytest.raises(RunFolderError, match="another bench"), hold(RunFolder(tmp_path)):
        pass


@pytest.mark.parametrize("host", ["elsewhere", os.uname().nodename])
@pytest.mark.parametrize("alive", [True, False])
def test_a_lock_that_another_machine_touches_is_held_where_locks_do_not_reach(tmp_path, monkeypatch, host, alive):
    monkeypatch.setattr(folders, "LOST_S", 1.0)
    monkeypatch.setattr(folders, "TOUCHED_S", 0.05)
    lock, ended = tmp_path / "lock", threading.Event()
    lock.write_text(f"7 on {host}")
    there = threading.Thread(target=lambda: [os.utime(lock) for _ in iter(lambda: ended.wait(0.05), True)])
    if alive:
        there.start()
    try:
        if alive and host == "elsewhere":
            with pytest.raises(RunFolderError, match=r"another bench works in .* \(pid 7 on elsewhere\)"):
                hold(RunFolder(tmp_path)).__enter__()
        else:
            with hold(RunFolder(tmp_path)):
                before = lock.stat().st_mtime_ns
                time.sleep(0.3)
                assert lock.stat().st_mtime_ns > before
    finally:
        ended.set()
    assert not lock.read_text() or alive


OPTIONS = {
    "an unknown method": {"methods": "draemm"},
    "an unknown data set": {"datasets": ["litss"]},
    "an unknown setting": {"methods": "ae", "settings": {"ae": {"lrr": 1}}},
    "an unknown case": {"exclude": ["lits:volume-99"]},
    "an unknown case alone": {"only": ["lits:volume-99"]},
    "another anatomy": {"train": "luna16"},
    "no data": {"data_root": "nowhere"},
    "nobody who can run": {"methods": "learns-from-many"},
}


@pytest.mark.parametrize("why", [*OPTIONS, "a full disk"])
def test_a_typo_or_a_failed_plan_leaves_nothing_behind_and_a_run_as_it_was(folder, smoke, install, monkeypatch, why):
    source = (
        "from uasbench import Method, MethodCard\n"
        "class Many(Method):\n    card = MethodCard(name='learns-from-many', title='Many')\n    min_patients = 1000\n"
    )
    install("many", {"learns_from_many.py": source}, methods={"learns-from-many": "learns_from_many:Many"})
    cache = folder.path.parent / "new-cache"
    monkeypatch.setenv("UASBENCH_CACHE", str(cache))
    if why == "a full disk":
        usage = shutil.disk_usage("/")._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    options = {"methods": "hu-deviation,hu-threshold", "seeds": [0, 7], **OPTIONS.get(why, {})}
    if why not in ("a full disk", "an unknown case", "an unknown case alone", "nobody who can run"):
        options["cache"] = None
    new = folder.path.parent / "new" / "run"
    for path in (new, folder.path):
        stamps = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.name != "lock"}
        with pytest.raises(UasbenchError):
            run(smoke(out=path, **options))
        assert {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.name != "lock"} == stamps
    assert not new.parent.exists()
    assert not cache.exists()


def test_half_written_files_of_a_killed_process_go_at_the_next_run_wherever_they_lie(folder, smoke):
    here, ended = os.uname().nodename, 2**22 + 1  # no system counts its processes so far
    parts = [folder.path, *folder.parts, folder.map_dir(folder.records()[0].cell)]
    ours = [part / f".x.json.partial-{here}-{ended}-00000000" for part in parts]
    others = [part / f".x.json.partial-{here}-{os.getpid()}-00000000" for part in parts]
    others += [part / name for part in parts for name in (".x.json.tmp", f".x.partial-{here}-{ended}", ".x.partial-1")]
    for path in (*ours, *others):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    run(smoke("hu-deviation,random", out=folder.path, seeds=[0, 1], trials=1))
    assert [path for path in ours if path.exists()] == []
    assert [path for path in others if not path.exists()] == []
