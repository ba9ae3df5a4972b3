"""Fixtures shared by every folder of tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # tests share the cores; set before torch and NumPy start their threads

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository root, which is the package."""
    return ROOT


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The development pack of real CT; tests that need it skip where it is absent."""
    path = Path(os.environ.get("UASBENCH_REAL_CT", ROOT.parent / "shared" / "data" / "real-ct"))
    if not path.is_dir():
        pytest.skip(f"real CT pack not found at {path}; set UASBENCH_REAL_CT to its folder")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the smallest liver phantom."""
    from uasbench.datasets.phantom.disk import write_phantom

    path = tmp_path_factory.mktemp("data")
    write_phantom(path, anatomy="liver", seed=0, size="smoke")
    return path


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database that holds nothing yet; MLflow makes one by dozens of migrations."""
    from uasbench.benchmark.tracking.server import lay_out

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    lay_out(path)
    return path


@pytest.fixture(scope="session")
def quick_run(mlflow_tables: Path) -> Callable[..., Any]:
    """Return ``uasbench.run`` without what a tiny run spends most of its time on: figures and those migrations."""
    import uasbench
    from uasbench.benchmark.tracking import mirror
    from uasbench.reports import build
    from uasbench.reports.figures.pictures import Pictures

    def call(*arguments: Any, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build, "draw", lambda *_: Pictures())
            patch.setattr(mirror, "lay_out", lambda file: shutil.copyfile(mlflow_tables, file))
            return uasbench.run(*arguments, **options)

    return call


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder for prepared data."""
    return tmp_path_factory.mktemp("cache")
