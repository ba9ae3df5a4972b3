"""The contract of executors, kept by the built-in one and by a plug-in that shares no code with it."""

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
from uasbench.benchmark.catalogue.registry import RegistryError
from uasbench.benchmark.conformance.executors import CHECKS, Bench, failures
from uasbench.benchmark.executors.contract import Event, Place, find_executor, run_jobs
from uasbench.benchmark.executors.local import LocalExecutor, slots
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.common.errors import UasbenchError

TARGETS = {"local": "uasbench.benchmark.executors.local:LocalExecutor", "detached": "detached_plugin:Detached"}
OTHERS = """
from uasbench.benchmark.executors.local import LocalExecutor

class Half:
    def submit(self, job): ...

class Noting(LocalExecutor):
    def submit(self, job):
        self.place.log(job.id).with_suffix(".submitted").touch()
        super().submit(job)
"""


@pytest.fixture
def plugin(install, repository) -> None:
    """The executor of the documentation, half of one, and one that notes its jobs, as if installed by pip."""
    page = (repository / "docs" / "plugins.md").read_text(encoding="utf-8")
    (text,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def submit" in block)
    points = {"detached": TARGETS["detached"], "half": "detached_plugin:Half", "noting": "detached_plugin:Noting"}
    install("pkg-detached", {"detached_plugin.py": text + OTHERS}, executors=points)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("check", list(CHECKS))
@pytest.mark.parametrize("executor", list(TARGETS))
def test_the_contract(executor, check, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    CHECKS[check](Bench(TARGETS[executor], folder))


@pytest.mark.usefixtures("plugin")
def test_executors_are_found_by_name_and_a_wrong_one_is_refused():
    assert find_executor("local") is LocalExecutor
    assert find_executor("detached").__name__ == "Detached"
    with pytest.raises(RegistryError, match="unknown executor 'lokal'; did you mean 'local'"):
        find_executor("lokal")
    with pytest.raises(
        RegistryError, match=r"unknown executor 'xyz'; known: command, detached, half, local, noting, ray, slurm"
    ):
        find_executor("xyz")
    with pytest.raises(RegistryError, match="has no room, attach, reports, stop, close"):
        find_executor("half")


@pytest.mark.usefixtures("plugin")
def test_a_run_goes_through_the_executor_that_it_names(run, tmp_path):
    done = run("hu-deviation", executor="noting")
    assert (len(done.records), done.failures) == (1, [])
    noted = {path.name.partition("-")[0] for path in done.folder.logs_dir.glob("*.submitted")}
    assert noted == {"fit", "map", "measure"}
    with pytest.raises(UasbenchError, match="unknown executor 'slurn'"):
        run("hu-deviation", executor="slurn", out=tmp_path / "other")


def test_a_killed_supervisor_leaves_no_temporary_folder(tmp_path, monkeypatch):
    for name in ("run", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    bench = Bench(TARGETS["local"], tmp_path / "run")
    found: list[list[Path]] = []

    def kill(event: Event) -> None:
        if event.kind == "started":
            method = bench.process("victim")
            found.append(list((tmp_path / "tmp").glob("uasbench-*")))
            os.kill(psutil.Process(method).ppid(), signal.SIGKILL)

    last = bench.run(bench.job("victim", "wait"), watch=kill)
    assert "SIGKILL" in last["victim"].value
    assert len(found[0]) == 1
    assert list((tmp_path / "tmp").glob("uasbench-*")) == []


def test_jobs_that_need_what_nobody_runs_are_refused(tmp_path):
    bench = Bench(TARGETS["local"], tmp_path)
    with pytest.raises(ValueError, match="a need jobs that are not there"):
        run_jobs(bench.executor(), [bench.job("a", "finish", "nowhere")], print, 60)


def test_workers_share_the_visible_gpus_in_turn(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert slots(2, 0) == [None, None]
    assert slots(3, 2) == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert slots(3, 2) == ["5", "7", "5"]
    with pytest.raises(ValueError, match="at least one worker"):
        LocalExecutor(Place(RunFolder(tmp_path), workers=0))


def test_a_command_runs_a_stage_anywhere(tmp_path):
    bench = Bench(TARGETS["local"], tmp_path)
    for act, kind in (("finish", "done"), ("raise", "failed")):
        job = bench.job(act, act)
        command = bench.place.command(job)
        assert bench.place.outcome(job.id) is None
        subprocess.run(command, check=True, cwd=Path("/"))
        outcome = bench.place.outcome(job.id)
        assert outcome is not None
        assert outcome.kind == kind


@pytest.mark.parametrize("part", ["log", "lock"])
def test_a_linked_log_or_lock_of_a_stage_empties_no_file(tmp_path, part):
    (tmp_path / "run").mkdir()
    bench, mine = Bench(TARGETS["local"], tmp_path / "run"), tmp_path / "mine"
    job = bench.job("a", "finish")
    mine.write_text("precious")
    link = getattr(bench.place, part)(job.id)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(mine)
    subprocess.run(bench.place.command(job), check=False, capture_output=True)
    assert mine.read_text() == "precious"


@pytest.mark.usefixtures("plugin")
def test_broken_promises_are_named():
    assert failures("detached_plugin:Half").keys() == CHECKS.keys()
