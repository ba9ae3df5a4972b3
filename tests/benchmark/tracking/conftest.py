"""A run folder without a run, an MLflow database of its own, and what lies in it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.runs.records import CaseValue, CellKey, Cost, DataInfo, MethodInfo, Record, StageIds, write_json

TASK = {"dataset": "lits", "train": "btcv", "anatomy": "liver"}


def _build(seed: int = 0, *, dataset: str = "lits", measure: str = "m", **config: Any) -> Record:
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


def _write(folder: RunFolder, *records: Record) -> RunFolder:
    for record in records:
        write_json(folder.record_path(record.cell), record)
    return folder


def _begin(path: Path, *records: Record, uri: str | None = None) -> RunFolder:
    folder = RunFolder(path)
    folder.update_info(
        command="bench run", profile="quick", phantom=None, tasks=[TASK], options={"tracking_uri": uri}, skipped=[]
    )
    return _write(folder, *records)


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _state(folder: RunFolder, uri: str) -> dict[str, Any]:
    return folder.info()["mlflow"][uri]


def _parent(folder: RunFolder, uri: str, name: str = "lits after btcv") -> str:
    return _state(folder, uri)["parents"][name]["run"]


def _nested(folder: RunFolder, uri: str, name: str = "lits after btcv") -> list[Any]:
    at = _state(folder, uri)["parents"][name]
    query = f"tags.`mlflow.parentRunId` = '{at['run']}'"
    return list(_client(uri).search_runs([at["experiment"]], query, max_results=1000))


def _slugs(runs: list[Any]) -> list[str]:
    assert all(run.info.status == "FINISHED" for run in runs)
    return sorted(run.data.tags["uasbench.cell"] for run in runs)


def _artifacts(uri: str, run: str, path: str = "") -> list[str]:
    return sorted(Path(a.path).name for a in _client(uri).list_artifacts(run, path))


def _until(true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    """Return ``build(seed)``: the record of a finished cell."""
    return _build


@pytest.fixture(scope="session")
def write() -> Callable[..., Any]:
    """Return ``write(folder, *records)``."""
    return _write


@pytest.fixture(scope="session")
def begin() -> Callable[..., Any]:
    """Return ``begin(path, *records, uri=None)``: a run folder."""
    return _begin


@pytest.fixture(scope="session")
def client() -> Callable[..., Any]:
    """Return ``client(uri)`` of MLflow."""
    return _client


@pytest.fixture(scope="session")
def state() -> Callable[..., Any]:
    """Return ``state(folder, uri)``: what the folder knows about a server."""
    return _state


@pytest.fixture(scope="session")
def parent() -> Callable[..., Any]:
    """Return ``parent(folder, uri)``: the id of its parent run."""
    return _parent


@pytest.fixture(scope="session")
def nested() -> Callable[..., Any]:
    """Return ``nested(folder, uri)``: the runs below the parent."""
    return _nested


@pytest.fixture(scope="session")
def slugs() -> Callable[..., Any]:
    """Return ``slugs(runs)``: the cells behind finished runs."""
    return _slugs


@pytest.fixture(scope="session")
def artifacts() -> Callable[..., Any]:
    """Return ``artifacts(uri, run)``: their names."""
    return _artifacts


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Return ``until(true, seconds)``: wait."""
    return _until


@pytest.fixture(scope="module")
def uri(mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests, each of which has parents of its own in it: making one takes seconds."""
    return f"sqlite:///{shutil.copyfile(mlflow_tables, tmp_path_factory.mktemp('server') / 'server.db')}"


@pytest.fixture
def folder(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    return _begin(tmp_path / "it's a run", uri=uri)
