"""Whatever is killed, and whenever: the same command completes the run, with the tables of an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from .csv_tables import csv_tables

METHODS = "hu-deviation,ae"
MOMENTS = {
    "the first stage starts": "logs/*",
    "a cell is being measured": "tuning/*",
    "a record has landed": "records/*.json",
    "tables are being written": "tables/*",
    "MLflow gets the report": "report.html",
}
USUAL = ("a record has landed",)
QUICK_BENCH = """
import shutil
from uasbench.benchmark.tracking import mirror
from uasbench.cli import main
from uasbench.reports import build
from uasbench.reports.figures.pictures import Pictures
build.draw = lambda *_: Pictures()
mirror.lay_out = lambda file: shutil.copyfile({tables!r}, file)
main()
"""


@pytest.fixture(scope="module")
def whole(quick_run, root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of a run that nothing disturbs."""
    options = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "trials": 1}
    return csv_tables(quick_run(METHODS, "lits", out=tmp_path_factory.mktemp("whole") / "run", **options).path)


@pytest.fixture
def start(mlflow_tables: Path, root: Path, cache: Path, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen]]:
    """Start ``bench run`` and return its process once a file of the run is there, while it still runs."""
    command = [sys.executable, "-c", QUICK_BENCH.format(tables=str(mlflow_tables))]
    command += ["run", "--methods", METHODS, "--dataset", "lits", "--data-root", str(root), "--cache", str(cache)]
    command += ["--profile", "smoke", "--seeds", "1", "--trials", "1", "--workers", "2", "--out", str(tmp_path / "run")]
    processes = []

    def call(file: str) -> subprocess.Popen:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
        processes.append(process)
        deadline = time.monotonic() + 300
        while not next((tmp_path / "run").glob(file), None):
            assert process.poll() is None, "the command ended before it could be killed"
            assert time.monotonic() < deadline, "the moment never came"
            time.sleep(0.005)
        return process

    yield call
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("moment", [pytest.param(m, marks=() if m in USUAL else pytest.mark.slow) for m in MOMENTS])
def test_a_killed_parent_is_continued(start, whole, run, moment, tmp_path):
    process = start(MOMENTS[moment])
    process.kill()
    assert process.wait() == -signal.SIGKILL
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "records").glob("*.json")}
    folder = run(METHODS).path
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert csv_tables(folder) == whole
    assert not [p for p in folder.rglob(".*.partial-*") if p.exists()]
    assert len(nested_runs(folder)) == len(set(nested_runs(folder))) == 2


@pytest.mark.slow
def test_a_killed_worker_is_a_failure_row_and_the_next_run_completes(start, whole, run, tmp_path):
    process = start("logs/*")
    zygotes = [c for c in psutil.Process(process.pid).children() if "uasbench.common.zygote" in " ".join(c.cmdline())]
    workers = [child for zygote in zygotes for child in zygote.children()]
    os.kill(workers[0].pid, signal.SIGKILL)
    assert process.wait() == 3
    assert "SIGKILL" in (tmp_path / "run" / "tables" / "failures.csv").read_text()
    assert csv_tables(run(METHODS).path) == whole


def nested_runs(folder: Path) -> list[str]:
    """Cells of the active nested runs on the run folder's own dashboard."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return [
        r.data.tags["mlflow.runName"]
        for r in client.search_runs(experiments)
        if "mlflow.parentRunId" in r.data.tags and "uasbench.row" not in r.data.tags
    ]
