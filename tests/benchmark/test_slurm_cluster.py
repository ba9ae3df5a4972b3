"""The executor of Slurm on a real cluster of one node: the contract, whole runs, and what goes wrong on clusters."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner
from uasbench.benchmark.commands.status import status
from uasbench.benchmark.conformance.executors import CHECKS, Bench
from uasbench.benchmark.executors.contract import Event
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.cli import app

from ..csv_tables import csv_tables
from . import one_node_slurm as slurm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TARGET = "uasbench.benchmark.executors.slurm:SlurmExecutor"
FAST = {"poll_s": 1, "grace_s": 1, "gather_s": 0.5}
METHODS = "hu-deviation,ae"


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if (reason := slurm.missing()) is not None:
        pytest.skip(reason)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path) -> Iterator[None]:
    """Neither in the queue nor among the processes."""
    yield
    end = time.monotonic() + 30
    while slurm.queue() or groups(tmp_path):
        assert time.monotonic() < end, (slurm.queue(), groups(tmp_path))
        time.sleep(0.2)


def groups(run: Path) -> list[psutil.Process]:
    """The processes that run a group of stages of a run in the queue."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "uasbench.benchmark.stages.batch" in words and str(run) in words[-2]:
            found.append(process)
    return found


def stages(run: Path) -> list[psutil.Process]:
    """The processes that hold the stages which run now: forks of one that each group has."""
    found = []
    for group in groups(run):
        with suppress(psutil.Error):
            found += [stage for zygote in group.children() for stage in zygote.children()]
    return found


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 300
    while not true():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("check", list(CHECKS))
def test_the_contract(check, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    CHECKS[check](Bench(TARGET, folder, FAST))


def made(run: RunFolder) -> dict[Path, int]:
    """When each fit, map and record was made."""
    files = [*run.fits_dir.glob("*/*"), *run.maps_dir.glob("*/*"), *run.records_dir.glob("*")]
    return {file: file.stat().st_mtime_ns for file in files}


@pytest.mark.parametrize("dataset", ["lits", "coronacases"])
def test_a_run_has_the_tables_of_a_local_one(dataset, quick_run, cache, tmp_path):
    options = {"phantom": True, "profile": "smoke", "seeds": [0, 1], "trials": 1, "cache": cache}
    queue = {**FAST, "unknown_s": 1, "group_s": 3}
    local = quick_run(METHODS, dataset, out=tmp_path / "local", workers=2, **options)
    there = quick_run(METHODS, dataset, out=tmp_path / "there", executor="slurm", queue=queue, **options)
    assert csv_tables(there.path) == csv_tables(local.path)
    assert there.failures == []
    before = made(there.folder)
    again = quick_run(METHODS, dataset, out=tmp_path / "there", executor="slurm", queue=queue, **options)
    assert made(again.folder) == before


class Disturbed:
    """A run through the queue in a process of its own, which a test disturbs once something of it runs."""

    def __init__(self, dataset: str, cache: Path, out: Path) -> None:
        self.dataset, self.out, self.folder = dataset, out, RunFolder(out)
        values = [f"--queue={key}={value}" for key, value in {**FAST, "group_s": 0}.items()]
        code = "from uasbench.cli import main; main()"
        self.command = [sys.executable, "-c", code, "run", "--methods", METHODS, "--dataset", dataset, "--phantom"]
        self.command += ["--cache", str(cache), "--profile", "smoke", "--seeds", "2"]
        self.command += ["--trials", "1", "--executor", "slurm", *values, "--out", str(out)]

    def start(self) -> subprocess.Popen[bytes]:
        with self.out.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.out.parent)

    def running(self) -> list[str]:
        return [line.partition("|")[0] for line in slurm.queue() if line.endswith("|RUNNING")]

    def finish(self) -> int:
        process = self.start()
        return process.wait(600)

    def is_as(self, local: dict[str, bytes]) -> None:
        """It has the tables of a local run, no stage was done twice by the last command, and no file is left over."""
        assert csv_tables(self.out) == local
        lines = [json.loads(line) for line in self.folder.progress.read_text().splitlines()[1:]]
        done = [line[1] for line in lines if line[0] == "done"]
        assert len(done) == len(set(done)) > 0
        left = [path.name for path in self.folder.tasks_dir.glob("bench-*") if path.suffix != ".out"]
        assert not left + [path.name for path in self.out.rglob(".*.partial-*")]


@pytest.fixture(scope="module")
def local_tables(quick_run, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    options = {"phantom": True, "cache": cache, "profile": "smoke", "seeds": [0, 1], "trials": 1}

    @functools.cache
    def of(dataset: str) -> dict[str, bytes]:
        return csv_tables(quick_run(METHODS, dataset, out=tmp_path_factory.mktemp("local") / "run", **options).path)

    return of


@pytest.fixture
def disturbed(request: pytest.FixtureRequest, cache: Path, tmp_path: Path) -> Disturbed:
    return Disturbed(getattr(request, "param", "lits"), cache, tmp_path / "run")


@pytest.fixture
def local(disturbed: Disturbed, local_tables: Callable[[str], dict[str, bytes]]) -> dict[str, bytes]:
    return local_tables(disturbed.dataset)


def test_a_cancelled_job_is_a_failure_row_and_the_next_run_completes(disturbed, local):
    process = disturbed.start()
    until(disturbed.running, "a job runs")
    slurm.run("scancel", disturbed.running()[0])
    assert process.wait(600) == 3
    assert "its Slurm job was cancelled" in (disturbed.folder.tables_dir / "failures.csv").read_text()
    before = made(disturbed.folder)
    assert disturbed.finish() == 0
    disturbed.is_as(local)
    assert {path: at for path, at in made(disturbed.folder).items() if path in before} == before


@pytest.mark.parametrize("disturbed", ["lits", "coronacases"], indirect=True)
@pytest.mark.parametrize(("find", "reason"), [(stages, "SIGKILL"), (groups, "its Slurm job ended without a result")])
def test_what_is_killed_is_a_failure_row_and_the_next_run_completes(find, reason, disturbed, local):
    process = disturbed.start()
    until(lambda: stages(disturbed.out), "a stage runs")
    os.kill(find(disturbed.out)[0].pid, signal.SIGKILL)
    assert process.wait(600) == 3
    assert reason in (disturbed.folder.tables_dir / "failures.csv").read_text()
    before = made(disturbed.folder)
    assert disturbed.finish() == 0
    disturbed.is_as(local)
    assert {path: at for path, at in made(disturbed.folder).items() if path in before} == before


def test_a_full_queue_is_waited_for(disturbed, local):
    foreign = slurm.run(
        "sbatch", "--parsable", f"--cpus-per-task={slurm.CPUS}", "--output=/dev/null", "--wrap=sleep 600"
    )
    until(disturbed.running, "another's job has all processors")
    process = disturbed.start()
    until(lambda: len(slurm.queue()) > 2, "jobs wait behind it")
    time.sleep(3)
    assert [name.partition("_")[0] for name in disturbed.running()] == [foreign]
    assert process.poll() is None
    slurm.run("scancel", foreign)
    assert process.wait(600) == 0
    disturbed.is_as(local)


def test_a_drained_node_is_waited_for(disturbed, local):
    process, node = disturbed.start(), slurm.run("sinfo", "--noheader", "--format=%n")
    until(disturbed.running, "a job runs")
    slurm.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    try:
        until(lambda: not disturbed.running(), "what runs on the node has ended")
        time.sleep(3)
        assert process.poll() is None
        assert not list(disturbed.folder.failures_dir.glob("*"))
    finally:
        slurm.run("scontrol", "update", f"nodename={node}", "state=resume")
    assert process.wait(600) == 0
    disturbed.is_as(local)


def test_a_requeued_job_goes_on(disturbed, local):
    process = disturbed.start()
    until(disturbed.running, "a job runs")
    slurm.run("scontrol", "requeue", disturbed.running()[0])
    assert process.wait(600) == 0
    disturbed.is_as(local)


def test_what_a_killed_submitter_left_is_found(disturbed, local):
    process = disturbed.start()
    until(lambda: next(disturbed.folder.tasks_dir.glob("*.state"), None), "a stage runs")
    process.kill()
    process.wait()
    left = {line.partition("_")[0] for line in slurm.queue()}
    assert left
    found = status(disturbed.folder, time.time())
    assert (found.state, found.queued) == ("stopped", True)
    assert "running" in {stage.state for stage in found.stages.values()}
    assert disturbed.finish() == 0
    disturbed.is_as(local)


def test_a_stage_that_meets_the_limit_of_its_job_is_sent_again(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    bench = Bench(TARGET, folder, {**FAST, "time": 1})

    def go(event: Event) -> None:
        if event.kind == "again":
            assert "time limit" in event.value
            (folder / "long.go").touch()

    last = bench.run(bench.job("long", "wait"), limit_s=600, watch=go)
    assert last["long"].kind == "done"
    assert bench.kinds("long") == ["started", "again", "started", "done"]
    assert len(bench.begun()) == 2


def test_plain_scripts_run_a_plan(disturbed, local, tmp_path):
    given = [word for word in disturbed.command[3:] if word != "run"]
    done = CliRunner().invoke(app, ["plan", *given, "--sbatch", str(tmp_path / "go.sh")])
    assert done.exit_code == 0, done.output
    slurm.run(str(tmp_path / "go.sh"))
    until(lambda: not slurm.queue(), "the arrays have ended")
    before = made(disturbed.folder)
    assert len(list(disturbed.folder.records_dir.glob("*.json"))) == 3
    assert disturbed.finish() == 0
    assert made(disturbed.folder) == before
    assert csv_tables(disturbed.out) == local
