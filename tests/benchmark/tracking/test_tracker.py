"""The tracker beside a run: it sends as cells land, never ends a run, and survives its server."""

import threading
from pathlib import Path
from typing import Any

import pytest
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError, hold
from uasbench.benchmark.runs.records import Failure
from uasbench.benchmark.tracking.server import TrackingError
from uasbench.benchmark.tracking.tracker import Tracker, publish


@pytest.mark.parametrize("error", ["pydantic", "sqlalchemy", "folder", "odd"])
def test_no_error_of_the_tracker_ends_a_run(build, here, monkeypatch, capsys, error):
    from mlflow import MlflowClient
    from rich.console import Console
    from sqlalchemy.exc import OperationalError
    from uasbench.benchmark.runs.folder import RunFolderError

    def broken(*arguments, **options):
        if error == "pydantic":
            Failure.model_validate({})
        raise {
            "sqlalchemy": OperationalError("SELECT\n1", None, Exception("disk I/O\nerror")),
            "folder": RunFolderError("run.json is gone\nquite"),
            "odd": RuntimeError(),
        }[error]

    monkeypatch.setattr(MlflowClient, "search_runs", broken)
    with Tracker(here.uri, Console(width=1000)) as tracker:
        tracker.start(here.folder)
        tracker.cell(build(0))
        tracker.finish()
    assert tracker.problem
    assert "\n" not in tracker.problem
    assert "no number is lost" in capsys.readouterr().out
    monkeypatch.undo()
    here.write(build(0))
    assert here.publish(files=True) == 1


def test_finish_without_start_and_a_lost_folder_raise_nothing(here, tmp_path):
    with Tracker(here.uri, None) as tracker:
        tracker.finish()
    with Tracker(here.uri, None) as tracker:
        tracker.start(RunFolder(tmp_path / "nothing"))
        tracker.finish()
    assert tracker.problem
    assert "the folder of the run is gone" in tracker.problem


def test_the_tracker_sends_each_record_as_it_lands_and_reads_none_again(build, here, until, monkeypatch):
    reads: list[Path] = []
    whole = RunFolder.record
    monkeypatch.setattr(RunFolder, "record", lambda self, path: (reads.append(path), whole(self, path))[1])
    with Tracker(here.uri, None) as tracker:
        tracker.start(here.folder)
        for seed in range(3):
            here.write(build(seed))
            tracker.cell(build(seed))
            until(lambda n=seed: here.sent() == n + 1)
        assert here.parent().info.status == "RUNNING"
        assert reads == []
        tracker.finish()
    assert tracker.problem is None
    assert len(reads) == 3
    assert len(here.slugs()) == 3
    assert here.parent().info.status == "FINISHED"


def test_an_interrupted_run_is_killed_and_the_next_one_finishes_it(build, here, until):
    here.write(build(0), build(1))
    tracker = Tracker(here.uri, None)
    tracker.start(here.folder)
    tracker.cell(build(0))
    until(here.sent)
    tracker.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    until(lambda: here.parent().info.status == "KILLED")
    with Tracker(here.uri, None) as tracker:
        tracker.start(here.folder)
        tracker.finish()
    assert len(here.slugs()) == 2
    assert here.parent().info.status == "FINISHED"


def test_of_two_that_send_a_run_at_once_one_is_refused_and_nothing_is_doubled(build, here, monkeypatch):
    here.write(build(0), build(1))
    begun, other = threading.Event(), threading.Event()
    whole = RunFolder.info

    def first_waits(folder: RunFolder) -> dict[str, Any]:
        if threading.current_thread().name == "mlflow" and not begun.is_set():
            begun.set()
            assert other.wait(60)
        return whole(folder)

    monkeypatch.setattr(RunFolder, "info", first_waits)
    with Tracker(here.uri, None) as tracker:
        tracker.start(here.folder)
        assert begun.wait(60)
        with pytest.raises(RunFolderError, match="another bench sends to MLflow"):
            publish(here.folder)
        with Tracker(here.uri, None) as second:
            second.start(here.folder)
            second.finish()
        other.set()
        tracker.finish()
    assert "another bench sends to MLflow" in (second.problem or "")
    assert tracker.problem is None
    assert len(here.slugs()) == 2
    with hold(here.folder), pytest.raises(RunFolderError, match="another bench works in"):
        publish(here.folder)
    assert here.publish() == 0
    assert len(here.slugs()) == 2


@pytest.mark.slow
def test_a_server_killed_in_the_middle_gets_the_rest_exactly_once(build, servers, begin, until, tmp_path):
    server = servers.RealServer(tmp_path, until)
    records = [build(s) for s in range(12)]
    here = begin(tmp_path / "run", *records, uri=server.uri)
    server.start()
    try:
        with Tracker(server.uri, None) as tracker:
            tracker.start(here.folder)
            for record in records:
                tracker.cell(record)
            until(lambda: here.sent() >= 3)
            server.kill()
            tracker.finish()
        assert tracker.problem
        assert len(here.folder.records()) == 12
        with pytest.raises(TrackingError):
            publish(here.folder)
        server.start()
        had = here.sent()
        assert 3 <= had < 12
        assert publish(here.folder) == 12 - had
        assert publish(here.folder) == 0
        assert here.slugs() == sorted(r.cell.slug for r in records)
    finally:
        server.kill()
