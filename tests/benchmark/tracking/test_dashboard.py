"""The dashboard of a run reads where its cells were sent."""

import shutil
import subprocess

import pytest
from mlflow import MlflowClient
from uasbench.benchmark.tracking import server as tracking_server
from uasbench.benchmark.tracking.server import TrackingError, client, database, serve, sqlite_address, tracking_uri


@pytest.fixture
def commands(monkeypatch):
    """The commands that would have been run."""
    kept, done = [], subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(tracking_server.subprocess, "run", lambda command, **_: (kept.append(command), done)[1])
    return kept


def test_the_dashboard_is_the_address_of_a_server_or_reads_the_database_that_the_run_used(
    begin, tmp_path, capsys, commands
):
    assert serve(begin(tmp_path / "server", uri="http://127.0.0.1:9").folder, 5000) == 0
    assert "http://127.0.0.1:9" in capsys.readouterr().out
    mine = tmp_path / "mine.db"
    here = begin(tmp_path / "run", uri=f"sqlite:///{mine}")
    here.folder.mlflow_db.touch()
    with pytest.raises(TrackingError, match=r"mine\.db"):
        serve(here.folder, 5000)
    mine.touch()
    here.folder.mlflow_db.unlink()
    assert serve(here.folder, 5000) == 0
    assert f"sqlite:///{mine}" in commands[0]


@pytest.mark.usefixtures("commands")
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
