"""The dashboard of a run reads where its cells were sent, and lives as long as its command."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.tracking.dashboard import serve
from uasbench.benchmark.tracking.server import TrackingError, client, database, sqlite_address, tracking_uri
from uasbench.cli import main

BENCH = """
import signal
from uasbench.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
STAND_IN = """
import json, subprocess, sys, time
worker = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
started = subprocess.Popen([sys.executable, "-c", worker], stdout=subprocess.PIPE)
started.stdout.readline()
print(json.dumps({"arguments": sys.argv[1:], "path": sys.path}), flush=True)
time.sleep(0 if "5001" in sys.argv else 600)
"""
LISTENER = """
import socket, sys
if seconds := {}:
    with socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1]))) as server:
        server.settimeout(seconds)
        try:
            server.accept()
        except TimeoutError:
            pass
"""
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """In place of MLflow's server a program that says how it was started; its worker ignores SIGTERM."""
    package = tmp_path / "site" / "mlflow"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


@pytest.mark.usefixtures("stand_in")
def test_the_dashboard_is_the_address_of_a_server_or_reads_the_database_that_the_run_used(begin, tmp_path, capfd):
    assert serve(begin(tmp_path / "server", uri="http://127.0.0.1:9").folder, 5001) == 0
    assert "http://127.0.0.1:9" in capfd.readouterr().out
    mine = tmp_path / "mine.db"
    here = begin(tmp_path / "run", uri=f"sqlite:///{mine}")
    here.folder.mlflow_db.touch()
    with pytest.raises(TrackingError, match=r"mine\.db"):
        serve(here.folder, 5001)
    mine.touch()
    here.folder.mlflow_db.unlink()
    assert serve(here.folder, 5001) == 0
    started = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert f"sqlite:///{mine}" in started["arguments"]
    assert not {"", ".", str(here.folder.path)} & {*started["path"]}


class Dashboard:
    """``bench ui`` in a process of its own, and whatever that starts."""

    def __init__(self, path: Path, port: int) -> None:
        command = [sys.executable, "-c", BENCH, "ui", str(path), "--port", str(port)]
        self.bench = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # ignored below nohup
        )

    def printed(self, text: str) -> None:
        assert self.bench.stdout is not None
        assert any(text in line for line in self.bench.stdout), "the dashboard has ended"
        self.processes = [psutil.Process(self.bench.pid), *psutil.Process(self.bench.pid).children(recursive=True)]

    def gone(self) -> bool:
        self.bench.poll()
        return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in self.processes)

    def end(self) -> None:
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("number", SIGNALS)
def test_the_server_and_what_it_has_started_end_with_the_command_however_it_ends(
    begin, until, servers, tmp_path, number
):
    here = begin(tmp_path / "run", uri=f"sqlite:///{tmp_path / 'mine.db'}")
    (tmp_path / "mine.db").touch()
    dashboard = Dashboard(here.folder.path, servers.free_port())
    try:
        dashboard.printed('"arguments"')
        assert len(dashboard.processes) == 4  # the command, the guard, the server and its worker
        dashboard.bench.send_signal(number)
        until(dashboard.gone)
    finally:
        dashboard.end()


def test_a_busy_port_is_an_error_with_the_reason_and_the_way_out(begin, tmp_path, monkeypatch, capsys):
    here = begin(tmp_path / "run", uri=f"sqlite:///{tmp_path / 'mine.db'}")
    (tmp_path / "mine.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["bench", "ui", str(here.folder.path), "--port", str(port)])
        with pytest.raises(SystemExit) as ended:
            main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert f"port {port} of localhost cannot be used: another program listens there" in told.err
    assert "--port" in told.err
    assert "Traceback" not in told.out + told.err


@pytest.fixture
def opened(monkeypatch):
    """The addresses that the browser was asked for."""
    addresses: list[str] = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    return addresses


@pytest.mark.parametrize(
    ("seconds", "asked", "opens"), [(60, ["--open"], True), (1, [], False), (0, ["--open"], False)]
)
def test_the_browser_opens_where_it_was_asked_for_once_the_server_answers(
    begin, until, servers, opened, tmp_path, monkeypatch, seconds, asked, opens
):
    here = begin(tmp_path / "run", uri=f"sqlite:///{tmp_path / 'mine.db'}")
    (tmp_path / "mine.db").touch()
    (tmp_path / "server.py").write_text(LISTENER.format(seconds))
    monkeypatch.setattr("uasbench.benchmark.tracking.dashboard.GUARD", tmp_path / "server.py")
    port = servers.free_port()
    monkeypatch.setattr(sys, "argv", ["bench", "ui", str(here.folder.path), "--port", str(port), *asked])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    if opens:
        until(lambda: opened)
    assert opened == [f"http://127.0.0.1:{port}"] * opens


def test_of_a_run_on_a_server_its_page_opens(begin, opened, tmp_path):
    folder = begin(tmp_path / "run", uri="http://127.0.0.1:9").folder
    assert serve(folder, 5001) == 0
    assert opened == []
    assert serve(folder, 5001, browse=True) == 0
    assert opened == ["http://127.0.0.1:9"]


@pytest.mark.usefixtures("stand_in")
def test_the_dashboard_names_the_run_list_of_every_task(begin, build, mlflow_tables, tmp_path, capsys):
    here = begin(tmp_path / "run", build(0))
    shutil.copyfile(mlflow_tables, here.folder.mlflow_db)
    here.publish()
    client = MlflowClient(tracking_uri=tracking_uri(here.folder))
    (experiment,) = client.search_experiments(filter_string="name LIKE 'uasbench: %'")
    serve(here.folder, 5001)
    task = experiment.name.removeprefix("uasbench: ")
    address = f"http://127.0.0.1:5001/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    assert f"{task}: {address}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["run", "run?x", "run?b&c=d", "run%41", "100%", "a#b;c", "ü b"])
def test_the_database_lies_in_the_run_folder_whatever_its_name(tmp_path, mlflow_tables, name):
    file = tmp_path / name / "mlflow.db"
    file.parent.mkdir()
    shutil.copy(mlflow_tables, file)
    address = sqlite_address(file)
    assert database(address) == file
    experiment = client(address).create_experiment("mine")
    assert client(address).get_experiment(experiment).name == "mine"
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", ["run", "a#b;c?d %41 ü's"])
def test_the_dashboard_of_a_moved_run_shows_its_artifacts_and_leaves_nothing(
    begin, build, until, servers, mlflow_tables, tmp_path, number, name
):
    here = begin(tmp_path / "before", build(0))
    shutil.copyfile(mlflow_tables, here.folder.mlflow_db)
    here.publish()
    folder = RunFolder(here.folder.path.rename(tmp_path / name))
    (experiment,) = client(tracking_uri(folder)).search_experiments(filter_string="name LIKE 'uasbench: %'")
    (cell,) = client(tracking_uri(folder)).search_runs([experiment.experiment_id], "tags.`uasbench.cell` != ''")
    port = servers.free_port()
    dashboard = Dashboard(folder.path, port)
    try:
        dashboard.printed("Uvicorn running")
        query = urllib.parse.urlencode({"run_id": cell.info.run_id})
        at = f"http://127.0.0.1:{port}/api/2.0/mlflow/artifacts/list?{query}"
        with urllib.request.urlopen(at, timeout=60) as answer:
            assert [f["path"] for f in json.load(answer)["files"]] == [f"{build(0).cell.slug}.json"]
        dashboard.bench.send_signal(number)
        until(dashboard.gone)
        assert sorted(p.name for p in tmp_path.iterdir()) == [name]
    finally:
        dashboard.end()
