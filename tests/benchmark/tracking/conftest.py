"""A run folder without a run, an MLflow database of its own, and what lies in it."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.runs.records import CaseValue, CellKey, Cost, DataInfo, MethodInfo, Record, StageIds, write_json
from uasbench.benchmark.tracking.tracker import publish

TASK = {"dataset": "lits", "train": "btcv", "anatomy": "liver"}
NAME = "lits after btcv"


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


class Mirrored:
    """A run folder, the server that it is sent to, and what lies there."""

    def __init__(self, path: Path, *records: Record, uri: str | None = None) -> None:
        self.folder = RunFolder(path)
        self.uri = uri
        self.folder.update_info(
            command="bench run", profile="quick", phantom=None, tasks=[TASK], options={"tracking_uri": uri}, skipped=[]
        )
        self.write(*records)

    def write(self, *records: Record) -> None:
        for record in records:
            write_json(self.folder.record_path(record.cell), record)

    def publish(self, *, files: bool = False) -> int:
        return publish(self.folder, self.uri, files=files)

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)

    @property
    def state(self) -> dict[str, Any]:
        """What the folder knows about the server."""
        return self.folder.info()["mlflow"][self.uri]

    def parent(self, name: str = NAME) -> Any:
        return self.client.get_run(self.state["parents"][name]["run"])

    def below(self, name: str = NAME) -> list[Any]:
        """The runs below the parent: cells, and rows of methods."""
        at = self.state["parents"][name]
        query = f"tags.`mlflow.parentRunId` = '{at['run']}'"
        return list(self.client.search_runs([at["experiment"]], query, max_results=1000))

    def nested(self, name: str = NAME) -> list[Any]:
        """The runs of cells."""
        return [run for run in self.below(name) if "uasbench.row" not in run.data.tags]

    def slugs(self, name: str = NAME) -> list[str]:
        """The cells behind finished runs."""
        runs = self.nested(name)
        assert all(run.info.status == "FINISHED" for run in runs)
        return sorted(run.data.tags["uasbench.cell"] for run in runs)

    def sent(self) -> int:
        """How many cells are there, whole."""
        begun = NAME in self.folder.info().get("mlflow", {}).get(self.uri, {}).get("parents", {})
        return sum(run.info.status == "FINISHED" for run in self.nested()) if begun else 0

    def artifacts(self, run: str, path: str = "") -> list[str]:
        return sorted(Path(a.path).name for a in self.client.list_artifacts(run, path))


def _until(true: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def build() -> Callable[..., Record]:
    return _build


@pytest.fixture(scope="session")
def begin() -> type[Mirrored]:
    return Mirrored


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    return _until


@pytest.fixture(scope="module")
def uri(mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests, each of which has parents of its own in it: making one takes seconds."""
    return f"sqlite:///{shutil.copyfile(mlflow_tables, tmp_path_factory.mktemp('server') / 'server.db')}"


@pytest.fixture
def here(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> Mirrored:
    monkeypatch.chdir(tmp_path)
    return Mirrored(tmp_path / "it's a run", uri=uri)
