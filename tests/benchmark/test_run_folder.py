"""A run folder whose files were damaged or come from a later version: named in a few words, never a traceback."""

import json

import pytest
from uasbench.benchmark.commands.cleaning import clean
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError
from uasbench.benchmark.stages.map import finished

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


def test_an_odd_row_of_skipped_methods_is_named(folder):
    folder.update_info(skipped=[{"reason": 3}])
    with pytest.raises(RunFolderError, match=r"run\.json: its list of skipped methods"):
        folder.skipped()


@pytest.mark.parametrize("schema", [99, "two", None])
def test_a_run_of_a_newer_schema_is_refused_and_left_as_it_is(folder, smoke, schema):
    from uasbench.benchmark.commands.running import run

    folder.run_json.write_text(json.dumps(json.loads(folder.run_json.read_text()) | {"schema": schema}))
    before = folder.run_json.read_bytes()
    with pytest.raises(RunFolderError, match=r"run\.json has schema .*, this version reads up to 1"):
        run(smoke("hu-deviation,random", out=folder.path, seeds=[0, 1]))
    assert folder.run_json.read_bytes() == before


@pytest.mark.parametrize("content", [*DAMAGED.values(), b"{}", b'"text"', b"3"])
def test_maps_that_do_not_say_whose_they_are_are_not_finished(tmp_path, content):
    (tmp_path / "map.json").write_bytes(content)
    assert finished(tmp_path) is None


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path):
    mine = tmp_path / "project" / "logs" / "mine.log"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(RunFolderError, match=r"no run folder and not empty \(it holds logs\)"):
        RunFolder.create(tmp_path / "project")
    assert [p.name for p in (tmp_path / "project").rglob("*")] == ["logs", "mine.log"]


def test_a_folder_of_a_run_that_ended_at_its_start_is_used_again(tmp_path):
    (tmp_path / "lock").touch()
    (tmp_path / ".run.json.77.tmp").touch()
    assert RunFolder.create(tmp_path).path == tmp_path
