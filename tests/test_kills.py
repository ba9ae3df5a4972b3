"""Whatever is killed, and whenever: the same command completes the run, with the tables of an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

METHODS = "hu-deviation,ae"
MOMENTS = {
    "the first stage starts": "logs/*",
    "a cell is being measured": "tuning/*",
    "a record has landed": "records/*.json",
    "tables are being written": "tables/*",
    "MLflow gets the report": "report.html",
}
SLOW = ("a cell is being measured", "a record has landed", "tables are being written")


@pytest.fixture(scope="module")
def whole(quick_run, root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of a run that nothing disturbs."""
    options = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "workers": 2}
    return tables(quick_run(METHODS, "lits", out=tmp_path_factory.mktemp("whole") / "run", **options).path)


@pytest.fixture
def command(root: Path, cache: Path, tmp_path: Path) -> list[str]:
    return [
        *(str(Path(sys.executable).with_name("bench")), "run", "--methods", METHODS, "--dataset", "lits"),
        *("--data-root", str(root), "--cache", str(cache), "--profile", "smoke", "--seeds", "1", "--workers", "2"),
        *("--out", str(tmp_path / "run")),
    ]


def tables(run: Path) -> dict[str, bytes]:
    """The tables that a rerun must reproduce byte for byte; costs are times and differ."""
    return {p.name: p.read_bytes() for p in (run / "tables").glob("*.csv") if p.name != "cost.csv"}


def start_and_wait(command: list[str], cwd: Path, ready: Callable[[], object]) -> subprocess.Popen:
    """Start the command and return once ``ready`` holds, while the command still runs."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd)
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None, "the command ended before it could be killed"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.005)
    return process


@pytest.mark.parametrize("moment", [pytest.param(m, marks=pytest.mark.slow if m in SLOW else ()) for m in MOMENTS])
def test_a_killed_parent_is_continued(command, whole, tmp_path, moment):
    folder = tmp_path / "run"
    process = start_and_wait(command, tmp_path, lambda: next(folder.glob(MOMENTS[moment]), None))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    finished = {p: p.stat().st_mtime_ns for p in (folder / "records").glob("*.json")}
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert tables(folder) == whole
    assert not [p for p in folder.rglob(".*.tmp") if p.exists()]
    assert len(nested_runs(folder)) == len(set(nested_runs(folder))) == 2


def test_a_killed_worker_is_a_failure_row_and_the_next_run_completes(command, whole, tmp_path):
    folder = tmp_path / "run"
    process = start_and_wait(command, tmp_path, lambda: next(folder.glob("logs/*"), None))
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.parent().pid != process.pid and "forkserver" in " ".join(child.cmdline())
    ]
    os.kill(workers[0].pid, signal.SIGKILL)
    assert process.wait() == 3
    assert "SIGKILL" in (folder / "tables" / "failures.csv").read_text()
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert again.returncode == 0, again.stderr
    assert tables(folder) == whole


def nested_runs(folder: Path) -> list[str]:
    """Cells of the active nested runs on the run folder's own dashboard."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return [
        r.data.tags["mlflow.runName"] for r in client.search_runs(experiments) if "mlflow.parentRunId" in r.data.tags
    ]
