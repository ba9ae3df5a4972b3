"""The ledger, and the runs that trials disturb."""

import time
from pathlib import Path

import pytest
from uasbench.benchmark.environment import source_digest

from .bits import bits, doubled_or_missing
from .commands import Bench, Whole
from .ledger import Ledger, default_folder


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    """The counts of this version of the package."""
    return Ledger(default_folder(), source_digest())


@pytest.fixture(scope="session")
def bench(root: Path, mlflow_tables: Path) -> Bench:
    """Three methods, two seeds: 15 stages."""
    return Bench(root, mlflow_tables)


@pytest.fixture(scope="session")
def small_bench(root: Path, mlflow_tables: Path) -> Bench:
    """Two methods, one seed: 6 stages."""
    return Bench(root, mlflow_tables, methods="hu-deviation,ae", seeds=1)


@pytest.fixture(scope="session")
def tiny_bench(root: Path, mlflow_tables: Path) -> Bench:
    """One method, one seed, 3 stages: for the short versions in the default suite."""
    return Bench(root, mlflow_tables, methods="hu-deviation", seeds=1)


@pytest.fixture(scope="session")
def whole(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run that nothing disturbs."""
    return _undisturbed(bench, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def small_whole(small_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A small run that nothing disturbs; whoever changes files does so in a copy."""
    return _undisturbed(small_bench, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def tiny_whole(tiny_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A tiny run that nothing disturbs."""
    return _undisturbed(tiny_bench, tmp_path_factory.mktemp("whole"))


def _undisturbed(bench: Bench, folder: Path) -> Whole:
    started = time.monotonic()
    run, cache, log = folder / "run", folder / "cache", folder / "log"
    assert bench.finish(bench.run(run, cache), log) == 0, log.read_text()
    assert not doubled_or_missing(run / "mlflow.db", run)
    return Whole(run, cache, bits(run), time.monotonic() - started)
