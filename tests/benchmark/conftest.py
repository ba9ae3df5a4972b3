"""Plug-in packages as pip leaves them, and a cache of their own."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uasbench.benchmark.commands.running import run
from uasbench.benchmark.planning.options import RunOptions, validated
from uasbench.benchmark.planning.plan import PlannedCell, plan_cells
from uasbench.benchmark.planning.tasks import Planned, planned_tasks
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.stages.task import Numerics

Install = Callable[..., Path]


@pytest.fixture(scope="session")
def small_run(root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of three cells, that of ``hu-deviation`` first; whoever changes it does so in a copy."""
    out = tmp_path_factory.mktemp("small") / "run"
    options = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0, 1], "trials": 1}
    return run(validated(methods="hu-deviation,random", datasets=["lits"], out=out, **options))[0]


@pytest.fixture
def folder(small_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the small run for one test."""
    return RunFolder.open(shutil.copytree(small_run.path, tmp_path / "run"))


@pytest.fixture
def smoke(root: Path, cache: Path, tmp_path: Path) -> Callable[..., RunOptions]:
    """Return ``smoke(methods, **options)``: a run of one seed on the smallest liver phantom, not started."""

    def options(methods: str, **others: Any) -> RunOptions:
        usual = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "out": tmp_path / "run"}
        return validated(methods=methods, **{"datasets": ["lits"], **usual, **others})

    return options


@pytest.fixture
def plan(smoke: Callable[..., RunOptions]) -> Callable[..., tuple[Planned, dict[str, PlannedCell]]]:
    """Return ``plan(methods, numerics, **options)``: the task of a run and its cells by method; nothing is trained."""
    on_cpu = Numerics(device="cpu", threads=1, precision="fp32")

    def call(methods: str, numerics: Numerics = on_cpu, **options: Any) -> tuple[Planned, dict[str, PlannedCell]]:
        chosen = smoke(methods, **options)
        (task,) = planned_tasks(chosen, 1, None)
        return task, {c.key.method: c for c in plan_cells(chosen, numerics, task.data, task.candidates)}

    return call
