"""The mirror of a run folder on MLflow: exactly one nested run per cell, whatever dies in between."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.runs.records import (
    CaseValue,
    CellKey,
    Cost,
    DataInfo,
    Failure,
    MethodInfo,
    Record,
    StageIds,
    write_json,
)
from uasbench.benchmark.tracking import mirror
from uasbench.benchmark.tracking import server as tracking_server
from uasbench.benchmark.tracking.server import QUIET, TrackingError, serve
from uasbench.benchmark.tracking.tracker import INTERRUPTED_WAIT_S, Tracker, publish, sync

TASK = {"dataset": "lits", "train": "btcv", "anatomy": "liver"}


def build(seed: int = 0, *, dataset: str = "lits", measure: str = "m", **config: Any) -> Record:
    return Record(
        cell=CellKey(method="ae", dataset=dataset, train="btcv", seed=seed),
        method=MethodInfo(name="ae", title="AE", family="reconstruction", supervision="none", uses="healthy",
                          deterministic=False, trivial=False),
        profile="quick",
        config={"width": 16, **config},
        ids=StageIds(fit=f"fit-{seed}", map=f"map-{seed}", measure=f"{measure}-{seed}"),
        data=DataInfo(anatomy="liver", cases={f"case-{i:05d}": f"{i:016x}" for i in range(400)}, patients={"c": "p"},
                      truth={"c": "t"}, train_cases={"h": "2"}, split={"hash": "5f1e"}, roi_source="label >= 1"),
        thresholds=[],
        per_case=[CaseValue(case="c", patient="p", protocol="oracle", metric="dice", value=0.5)],
        pooled=[],
        error_bounds={},
        cost=Cost(fit_s=1, score_s=1, measure_s=1, s_per_slice=1, peak_ram_mib=1, peak_gpu_mib=None, params=1,
                  device="cpu", threads=1, precision="fp32"),
        environment={},
        created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def write(folder: RunFolder, *records: Record) -> RunFolder:
    for record in records:
        write_json(folder.record_path(record.cell), record)
    return folder


def begin(path: Path, *records: Record, uri: str | None = None) -> RunFolder:
    folder = RunFolder(path)
    folder.update_info(
        command="bench run", profile="quick", phantom=None, tasks=[TASK], options={"tracking_uri": uri}, skipped=[]
    )
    return write(folder, *records)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests, each of which has parents of its own in it: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('server') / 'server.db'}"


@pytest.fixture
def folder(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    return begin(tmp_path / "it's a run", uri=uri)


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def state(folder: RunFolder, uri: str) -> dict[str, Any]:
    return folder.info()["mlflow"][uri]


def parent(folder: RunFolder, uri: str, name: str = "lits after btcv") -> str:
    return state(folder, uri)["parents"][name]["run"]


def nested(folder: RunFolder, uri: str, name: str = "lits after btcv") -> list[Any]:
    at = state(folder, uri)["parents"][name]
    query = f"tags.`mlflow.parentRunId` = '{at['run']}'"
    return list(client(uri).search_runs([at["experiment"]], query, max_results=1000))


def slugs(runs: list[Any]) -> list[str]:
    assert all(run.info.status == "FINISHED" for run in runs)
    return sorted(run.data.tags["uasbench.cell"] for run in runs)


def artifacts(uri: str, run: str, path: str = "") -> list[str]:
    return sorted(Path(a.path).name for a in client(uri).list_artifacts(run, path))


def test_cells_that_the_server_has_lost_are_sent_again(folder, uri):
    records = [build(s) for s in range(3)]
    write(folder, *records)
    assert publish(folder, uri, files=True) == 3
    assert publish(folder, uri, files=True) == 0
    lost = nested(folder, uri)[0].info.run_id
    client(uri).delete_run(lost)
    assert publish(folder, uri, files=True) == 1
    assert slugs(nested(folder, uri)) == [r.cell.slug for r in records]
    assert lost not in {r.info.run_id for r in nested(folder, uri)}


def test_a_new_parent_gets_every_cell_and_the_old_ones_go(folder, uri):
    write(folder, build(0), build(1))
    publish(folder, uri, files=True)
    before = nested(folder, uri)
    client(uri).delete_run(parent(folder, uri))
    assert publish(folder, uri, files=True) == 2
    assert len(slugs(nested(folder, uri))) == 2
    assert all(client(uri).get_run(r.info.run_id).info.lifecycle_stage == "deleted" for r in before)


def test_ids_that_the_server_does_not_know_are_no_obstacle(folder, uri):
    write(folder, build(0), build(1))
    gone = {"token": "t" * 32, "parents": {"lits after btcv": {"experiment": "77", "run": "a" * 32}}}
    cells = {build(s).cell.slug: {"run": f"{s}" * 32, "measure": f"m-{s}", "complete": True} for s in range(2)}
    folder.update_info(mlflow={uri: gone | {"cells": cells}})
    assert publish(folder, uri, files=True) == 2
    assert len(slugs(nested(folder, uri))) == 2


def test_after_the_database_was_deleted_everything_is_sent_anew(tmp_path):
    folder = begin(tmp_path / "run", build(0), build(1))
    code = (
        "import sys; from uasbench.benchmark.tracking import tracker as t; print(t.sync(t.RunFolder.open(sys.argv[1])))"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.stdout.startswith("2 cells sent"), done.stderr
        folder.mlflow_db.unlink()


def test_lost_state_doubles_neither_parent_nor_cell(folder, uri):
    write(folder, build(0))
    publish(folder, uri, files=False)
    before, ids = parent(folder, uri), [r.info.run_id for r in nested(folder, uri)]
    folder.update_info(mlflow={uri: {"token": state(folder, uri)["token"], "parents": {}, "cells": {}}})
    assert publish(folder, uri, files=False) == 0
    assert parent(folder, uri) == before
    assert [r.info.run_id for r in nested(folder, uri)] == ids


def test_a_kill_at_any_call_leaves_one_finished_run_per_cell(folder, uri, monkeypatch):
    from mlflow import MlflowClient

    write(folder, build(0), build(1))
    publish(folder, uri, files=False)
    for method in ("create_run", "log_batch", "log_artifact", "set_terminated"):
        write(folder, build(0, measure=method), build(1, measure=method))
        with monkeypatch.context() as patch:
            whole = getattr(MlflowClient, method)

            def killed(*arguments, whole=whole, **options):
                whole(*arguments, **options)
                raise KeyboardInterrupt

            patch.setattr(MlflowClient, method, killed)
            with pytest.raises(KeyboardInterrupt):
                publish(folder, uri, files=False)
        publish(folder, uri, files=False)
        runs = nested(folder, uri)
        assert len(slugs(runs)) == 2
        assert all(method in r.data.tags["uasbench.ids"] for r in runs)


def test_a_request_that_was_repeated_leaves_no_double(folder, uri, monkeypatch):
    from mlflow import MlflowClient

    write(folder, build(0), build(1))
    once = MlflowClient.create_run

    def twice(self, *arguments, **options):
        once(self, *arguments, **options)
        return once(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    publish(folder, uri, files=False)
    assert len(slugs(nested(folder, uri))) == 2


def test_the_listing_is_paged_and_asks_once_per_parent(folder, uri, monkeypatch):
    from mlflow import MlflowClient

    write(folder, *(build(s) for s in range(5)))
    publish(folder, uri, files=False)
    calls: list[str] = []
    for name in ("get_run", "search_runs", "create_run"):
        whole = getattr(MlflowClient, name)
        monkeypatch.setattr(
            MlflowClient, name, lambda *a, _w=whole, _n=name, **k: (calls.append(_n), _w(*a, **k))[1]
        )  # fmt: skip
    assert publish(folder, uri, files=False) == 0
    assert calls == ["get_run", "search_runs"]
    monkeypatch.setattr(mirror, "RUNS_PER_PAGE", 2)
    assert publish(folder, uri, files=False) == 0
    assert calls == ["get_run", "search_runs"] + ["get_run"] + 3 * ["search_runs"]


def test_names_that_mlflow_refuses_are_changed_and_kept_apart(folder, uri):
    record = build(0, **{"rate[β]/s": 1, "rate(β)/s": 2, "a//b/..": 3, "x" * 300: 4})
    write(folder, record)
    fit = folder.fit_dir(record.ids.fit)
    fit.mkdir(parents=True)
    (fit / "curves.csv").write_text(
        "step,name,value\n0,loss,0.5\n1,loss,0.25\n0,loss[seg],1\n0,loss(seg),2\n0,50%,nan\n"
    )
    assert publish(folder, uri, files=False) == 1
    data = nested(folder, uri)[0].data
    assert data.metrics["training/loss"] == 0.25
    assert sorted(v for n, v in data.metrics.items() if n.startswith("training/loss_")) == [1, 2]
    assert {"1", "2", "3", "4", "16"} <= {v for n, v in data.params.items() if n.startswith("config")}


def test_one_cell_that_is_refused_stops_no_other(folder, uri):
    records = [build(s) for s in range(3)]
    write(folder, *records)
    fit = folder.fit_dir(records[0].ids.fit)
    fit.mkdir(parents=True)
    (fit / "curves.csv").write_text("step,name,value\nhalf,loss,0.5\n")
    with pytest.raises(TrackingError, match=records[0].cell.slug) as refusal:
        publish(folder, uri, files=True)
    assert "\n" not in str(refusal.value)
    assert slugs(nested(folder, uri)) == [r.cell.slug for r in records[1:]]
    (fit / "curves.csv").unlink()
    assert publish(folder, uri, files=True) == 1
    assert len(slugs(nested(folder, uri))) == 3


def test_a_damaged_record_is_named_and_stops_no_other(folder, uri):
    write(folder, build(0))
    (folder.records_dir / "broken.json").write_text("{}")
    with pytest.raises(TrackingError, match=r"broken\.json"):
        sync(folder, uri)
    assert slugs(nested(folder, uri)) == [build(0).cell.slug]


@pytest.mark.parametrize("error", ["pydantic", "sqlalchemy", "folder", "odd"])
def test_no_error_of_the_tracker_ends_a_run(folder, uri, monkeypatch, capsys, error):
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
    with Tracker(uri, Console(width=1000)) as tracker:
        tracker.start(folder)
        tracker.cell(build(0))
        tracker.finish()
    assert tracker.problem
    assert "\n" not in tracker.problem
    assert "no number is lost" in capsys.readouterr().out
    monkeypatch.undo()
    write(folder, build(0))
    assert publish(folder, uri, files=True) == 1


def test_finish_without_start_and_a_lost_folder_raise_nothing(tmp_path, uri):
    with Tracker(uri, None) as tracker:
        tracker.finish()
    with Tracker(uri, None) as tracker:
        tracker.start(RunFolder(tmp_path / "nothing"))
        tracker.finish()
    assert tracker.problem
    assert "run.json" in tracker.problem


def test_the_tracker_sends_each_record_as_it_lands_and_reads_none_again(folder, uri, monkeypatch):
    reads: list[Path] = []
    whole = RunFolder.record
    monkeypatch.setattr(RunFolder, "record", lambda self, path: (reads.append(path), whole(self, path))[1])
    with Tracker(uri, None) as tracker:
        tracker.start(folder)
        for seed in range(3):
            write(folder, build(seed))
            tracker.cell(build(seed))
            until(lambda n=seed: len(state(folder, uri)["cells"]) == n + 1 if "mlflow" in folder.info() else False)
        assert client(uri).get_run(parent(folder, uri)).info.status == "RUNNING"
        assert reads == []
        tracker.finish()
    assert tracker.problem is None
    assert len(reads) == 3
    assert len(slugs(nested(folder, uri))) == 3
    assert client(uri).get_run(parent(folder, uri)).info.status == "FINISHED"


def test_an_interrupted_run_is_killed_and_the_next_one_finishes_it(folder, uri):
    write(folder, build(0), build(1))
    tracker = Tracker(uri, None)
    tracker.start(folder)
    tracker.cell(build(0))
    until(lambda: bool(folder.info().get("mlflow", {}).get(uri, {}).get("cells")))
    tracker.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    until(lambda: client(uri).get_run(parent(folder, uri)).info.status == "KILLED")
    with Tracker(uri, None) as tracker:
        tracker.start(folder)
        tracker.finish()
    assert len(slugs(nested(folder, uri))) == 2
    assert client(uri).get_run(parent(folder, uri)).info.status == "FINISHED"


def test_an_interrupted_run_does_not_wait_for_a_server_that_hangs(folder):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"http://127.0.0.1:{silent.getsockname()[1]}"
        waits: list[float | None] = []
        tracker = Tracker(hanging, None)
        tracker.start(folder)
        thread = tracker._thread
        assert thread is not None
        join = thread.join
        thread.join = lambda timeout=None: (waits.append(timeout), join(0.1))[1]
        tracker.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert waits == [INTERRUPTED_WAIT_S]


def test_overlays_go_to_their_own_seed_only(folder, uri):
    write(folder, build(1), build(10))
    overlays = folder.figures_dir / "overlays"
    overlays.mkdir(parents=True)
    for seed in (1, 10):
        (overlays / f"{build(seed).cell.slug}.png").write_bytes(b"png")
    publish(folder, uri, files=True)
    for run in nested(folder, uri):
        assert artifacts(uri, run.info.run_id, "overlays") == [f"{run.data.tags['uasbench.cell']}.png"]
        assert f"{run.data.tags['uasbench.cell']}.json" in artifacts(uri, run.info.run_id)


def test_artifacts_lie_beside_the_database_and_never_where_the_command_ran(folder, uri, tmp_path):
    write(folder, build(0))
    publish(folder, uri, files=True)
    assert not (tmp_path / "mlruns").exists()
    assert (Path(uri.removeprefix("sqlite:///")).parent / "mlruns").is_dir()


def test_data_tags_are_whole_and_tell_data_apart(folder, uri):
    changed = build(1)
    changed.data.cases["case-00399"] = "other"
    write(folder, build(0), changed)
    publish(folder, uri, files=False)
    tags = [run.data.tags for run in nested(folder, uri)]
    assert all(t["uasbench.data.test"].startswith("400 cases, ") for t in tags)
    assert tags[0]["uasbench.data.test"] != tags[1]["uasbench.data.test"]
    assert tags[0]["uasbench.data.train"] == tags[1]["uasbench.data.train"]


def test_tasks_of_earlier_commands_are_mirrored_too(folder, uri):
    write(folder, build(0), build(0, dataset="other"))
    write_json(folder.failure_path(build(5).cell), Failure(cell=build(5).cell, stage="fit", error="e"))
    assert publish(folder, uri, files=True) == 2
    assert slugs(nested(folder, uri, "other after btcv")) == [build(0, dataset="other").cell.slug]
    assert client(uri).get_run(parent(folder, uri)).info.status == "FAILED"
    assert client(uri).get_run(parent(folder, uri, "other after btcv")).info.status == "FINISHED"


def test_the_dashboard_of_a_server_is_its_address(tmp_path, capsys):
    assert serve(begin(tmp_path / "run", uri="http://127.0.0.1:9"), 5000) == 0
    assert "http://127.0.0.1:9" in capsys.readouterr().out


def test_the_dashboard_reads_the_database_that_the_run_used(tmp_path, monkeypatch):
    mine = tmp_path / "mine.db"
    folder = begin(tmp_path / "run", uri=f"sqlite:///{mine}")
    folder.mlflow_db.touch()
    with pytest.raises(TrackingError, match=r"mine\.db"):
        serve(folder, 5000)
    mine.touch()
    folder.mlflow_db.unlink()
    commands: list[list[str]] = []
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(tracking_server.subprocess, "run", lambda command, **_: (commands.append(command), done)[1])
    assert serve(folder, 5000) == 0
    assert f"sqlite:///{mine}" in commands[0]


class Server:
    """A real MLflow server on localhost that can be killed and started again."""

    def __init__(self, root: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.root = root
        self.database = root / "server.db"
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        script = Path(sys.executable).with_name("mlflow")
        command = [script, "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.database}", "--artifacts-destination", self.root / "files"]
        self.process = subprocess.Popen(
            command, cwd=self.root, env={**os.environ, **QUIET}, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(self.answers, 120)

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.uri}/health", timeout=2).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def until(true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_server_killed_in_the_middle_gets_the_rest_exactly_once(tmp_path):
    server = Server(tmp_path)
    records = [build(s) for s in range(12)]
    folder = begin(tmp_path / "run", *records, uri=server.uri)
    server.start()
    try:
        with Tracker(server.uri, None) as tracker:
            tracker.start(folder)
            for record in records:
                tracker.cell(record)
            until(lambda: len(folder.info().get("mlflow", {}).get(server.uri, {}).get("cells", {})) >= 3)
            server.kill()
            tracker.finish()
        assert tracker.problem
        assert len(folder.records()) == 12
        with pytest.raises(TrackingError):
            sync(folder)
        had = len(state(folder, server.uri)["cells"])
        assert 3 <= had < 12
        server.start()
        assert sync(folder).startswith(f"{12 - had} cells sent")
        assert sync(folder).startswith("0 cells sent")
        assert slugs(nested(folder, server.uri)) == sorted(r.cell.slug for r in records)
    finally:
        server.kill()
