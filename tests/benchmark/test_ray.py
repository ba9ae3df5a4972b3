"""Stages on Ray: its processes, nodes and clusters may die or stay, and the tables are those of the local executor."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner
from uasbench.benchmark.conformance.executors import CHECKS, Bench
from uasbench.benchmark.executors import ray_executor, ray_task
from uasbench.benchmark.executors.contract import Event, Place, Resources, checked_settings, find_executor
from uasbench.benchmark.executors.ray_cluster import RayCluster, RayError, RaySettings
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.cli import app
from uasbench.common.processes import readable
from uasbench.common.zygote import Worker, Zygote

from ..csv_tables import csv_tables

TARGET = "uasbench.benchmark.executors.ray_executor:RayExecutor"
METHODS = "hu-deviation,roi-area,ae"
TREE = """
import signal, sys, time, psutil
from uasbench.benchmark.executors import ray_task

def started(*_):
    import subprocess
    subprocess.run(["sh", "-c", "trap '' TERM; sleep 600 & setsid sleep 600 & echo ready > ready; wait"])

if __name__ == "__main__":
    ray_task.TARGET, ray_task.GRACE_S = "tree:started", 0.5
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        ray_task.run_stage(["task", "result", "log", "lock"], {"PYTHONPATH": "."}, False)
    except KeyboardInterrupt:
        end = time.monotonic() + 20
        while len(left := psutil.Process().children(recursive=True)) > 1 and time.monotonic() < end:
            time.sleep(0.05)
        print(open("ready").read(), *("serve" in " ".join(one.cmdline()) for one in left))
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """An executor of Ray that is not started yet, and in the end no temporary folder of a stage."""
    for name in ("run", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    yield Bench(TARGET, tmp_path / "run")
    assert list((tmp_path / "tmp").glob("uasbench-*")) == []


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster without nodes, that is not the executor's own."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'uasbench[ray]'")
    from ray.cluster_utils import Cluster

    with TemporaryDirectory(dir="/tmp") as folder:  # names of sockets are short
        monkeypatch.setenv("RAY_TMPDIR", folder)
        made = Cluster()
        yield made
        made.shutdown()


def alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def until(true: Callable[[], Any]) -> Any:
    end = time.monotonic() + 120
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_without_ray_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayError, match=r"pip install 'uasbench\[ray\]'"):
        find_executor("ray")(Place(RunFolder(tmp_path), workers=1))
    with pytest.raises(RayError, match="--workers pack"):
        find_executor("ray")(Place(RunFolder(tmp_path), workers=1, packed=True))


@pytest.mark.parametrize("what", [["--dataset", "lits"], ["--experiment", "liver/erosion"]])
def test_an_address_is_a_setting_that_goes_with_ray_alone(what):
    said = CliRunner().invoke(app, ["plan", *what, "--phantom", "--ray-address", "auto"])
    assert "--queue address: this executor has no settings" in str(said.exception)
    assert checked_settings(RaySettings, {"address": "auto"}) == RaySettings(address="auto")


@pytest.mark.parametrize("ends", ["none", "the one that waits for the lock", "the one that runs"])
def test_a_leashed_stage_ends_with_its_leash(bench, ends):
    files, zygote = bench.place.files(bench.job("a", "wait")), Zygote(environment=os.environ)
    leash_of: dict[int, int] = {}
    both: list[Worker] = []
    for _ in range(2):
        theirs, ours = os.pipe()
        both.append(zygote.start(ray_task.TARGET, files, [theirs]))
        leash_of[both[-1].pid] = ours
        os.close(theirs)
    try:
        inner = bench.process("a")
        runs, waits = sorted(both, key=lambda one: one.pid != psutil.Process(inner).ppid())
        until(lambda: re.search(rf"-> FLOCK .* {waits.pid} ", Path("/proc/locks").read_text()))
        if ends == "the one that waits for the lock":
            os.close(leash_of.pop(waits.pid))
            assert readable([waits], 60)
            assert alive(inner)
        elif ends == "the one that runs":
            os.close(leash_of.pop(runs.pid))
            assert readable([runs], 60)
            assert not alive(inner)
        else:
            (bench.folder / "a.go").touch()
            assert all(readable([one], 60) for one in both)
            assert [name for name, _ in bench.begun()] == ["a"]
    finally:
        for leash in leash_of.values():
            os.close(leash)
        for one in both:
            assert readable([one], 60)
            one.close()
        zygote.close()


def test_a_cancelled_task_ends_every_process_that_it_started_but_the_one_that_forks(tmp_path):
    (tmp_path / "tree.py").write_text(TREE)
    done = subprocess.run(
        [sys.executable, "tree.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["ready", "True"]


def test_stages_of_one_process_are_forked_from_one_with_its_imports_and_survive_its_death(bench):
    found: list[str | None] = []

    def run(job, **environment):
        found.append(ray_task.run_stage(bench.place.files(job), environment, False, ["json"])[1])

    try:
        run(bench.job("a"))
        waiting = threading.Thread(target=run, args=(bench.job("b", "wait"),))
        waiting.start()
        forks = psutil.Process(bench.process("b")).parent().parent()
        assert forks.environ()["CUDA_VISIBLE_DEVICES"] == ""
        forks.kill()
        (bench.folder / "b.go").touch()
        waiting.join(60)
        run(bench.job("c"), UASBENCH_UNTRIED="0")
        assert [json.loads(text) for text in found] == [{"error": None}] * 3
        assert [name for name, _ in bench.begun()] == ["a", "b", "c"]
        assert len(ray_task._kept) == 1, "one is kept, that of the last environment"
    finally:
        for kept in ray_task._kept.values():
            kept.close()
        ray_task._kept.clear()


@pytest.mark.slow
@pytest.mark.parametrize("check", list(CHECKS))
def test_the_contract(check, bench):
    pytest.importorskip("ray", reason="needs Ray: pip install 'uasbench[ray]'")
    CHECKS[check](bench)


@pytest.mark.slow
def test_a_stage_whose_process_of_ray_dies_runs_again_and_not_for_ever(bench):
    pytest.importorskip("ray", reason="needs Ray: pip install 'uasbench[ray]'")
    killed = {"once": 1, "ever": ray_executor.TRIES}

    def kill(event: Event) -> None:
        name = event.job.id
        if event.kind == "started" and name in killed:
            stages = until(lambda: len(found := [pid for n, pid in bench.begun() if n == name]) > seen(name) and found)
            if killed[name]:
                killed[name] -= 1
                psutil.Process(stages[-1]).parent().parent().parent().kill()  # the stage's, the one that forks, Ray's
            else:
                (bench.folder / f"{name}.go").touch()

    def seen(name: str) -> int:
        return bench.kinds(name).count("started") - 1

    jobs = [bench.job("once", "wait"), bench.job("ever", "wait"), bench.job("bad", "raise"), bench.job("good")]
    last = bench.run(*jobs, bench.job("next", "finish", "ever"), watch=kill)
    assert bench.kinds("once") == ["started", "again", "started", "done"]
    assert bench.kinds("ever") == ["started", "again"] * 2 + ["started", "failed"]
    assert "3 times" in last["ever"].value
    assert bench.kinds("bad") == ["started", "failed"]
    assert [last[name].kind for name in ("good", "next")] == ["done", "cancelled"]
    assert not any(alive(pid) for _, pid in bench.begun())


@pytest.mark.slow
def test_a_foreign_cluster_gives_parts_of_a_gpu_and_stays(bench, cluster, monkeypatch):
    cluster.add_node(num_cpus=3, num_gpus=1)
    bench.place = replace(bench.place, settings={"address": cluster.address}, workers=5)
    monkeypatch.setattr(ray_executor, "PATIENCE_S", 0.5)
    monkeypatch.setattr(ray_executor, "LOOK_EVERY_S", 0.2)
    seen: dict[str, str] = {}

    def look(event: Event) -> None:
        if event.kind == "started" and event.job.id != "late":
            environment = psutil.Process(bench.process(event.job.id)).environ()
            assert not [name for name in environment if name.startswith("RAY_")], "a method could reach the cluster"
            seen[event.job.id] = environment["CUDA_VISIBLE_DEVICES"]
            if len(seen) == 3:
                for name in seen:
                    (bench.folder / f"{name}.go").touch()

    takes = {name: Resources(gpus=0.5) for name in ("a", "b", "late")} | {"cpu": Resources(), "huge": Resources(cpus=9)}
    jobs = [replace(bench.job(n, "finish" if n == "late" else "wait"), resources=takes[n]) for n in takes]
    last = bench.run(*jobs, watch=look)
    assert {name: seen[name] for name in ("a", "b", "cpu")} == {"a": "0", "b": "0", "cpu": ""}
    assert bench.begun()[-1][0] == "late", "a GPU gave more than it has"
    assert "no node of the Ray cluster has num_cpus 9" in last.pop("huge").value
    assert {event.kind for event in last.values()} == {"done"}
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    again = RayCluster(replace(bench.place, settings={"address": "auto", "gpu_share": 0.25}))
    assert again.fits({"num_gpus": 1.0})
    assert again.takes(Resources(gpus=1.0))["num_gpus"] == 0.25
    again.close()
    with pytest.raises(RayError, match=r"--ray-address 127.0.0.1:9: .*refused"):
        RayCluster(replace(bench.place, settings={"address": "127.0.0.1:9"}))


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["lits", "coronacases"])
def test_a_node_that_dies_changes_no_table(dataset, cluster, quick_run, cache, tmp_path):
    options = {"phantom": True, "profile": "smoke", "seeds": [0, 1], "workers": 2, "cache": cache}
    want = quick_run(METHODS, dataset, out=tmp_path / "local", **options)
    cluster.add_node(num_cpus=1)
    mortal, out = cluster.add_node(num_cpus=1), tmp_path / "ray"
    victims: list[int] = []

    def kill() -> None:
        raylet = psutil.Process(mortal.all_processes["raylet"][0].process.pid)

        def held() -> list[psutil.Process]:
            """Stop the stages of the node; return all its processes where a stage has its lock, and so no result."""
            with suppress(psutil.NoSuchProcess):
                there = raylet.children(recursive=True)
                forks = {process.pid: process for process in there if "common.zygote" in " ".join(process.cmdline())}
                stages = [process for process in forks.values() if process.ppid() in forks]
                for stage in stages:
                    stage.suspend()
                if any(Path(file.path).parent == out / "locks" for stage in stages for file in stage.open_files()):
                    return there
                for stage in stages:
                    stage.resume()
            return []

        until(lambda: list((out / "records").glob("*.json")))
        there = until(held)
        cluster.remove_node(mortal, allow_graceful=False)
        for process in there:  # parents before children: nobody is left to tell how a stage ended
            with suppress(psutil.NoSuchProcess):
                process.kill()
        victims.extend(process.pid for process in there)

    killer = threading.Thread(target=kill)
    killer.start()
    got = quick_run(METHODS, dataset, out=out, executor="ray", queue={"address": cluster.address}, **options)
    killer.join()
    assert got.failures == []
    assert csv_tables(got.path) == csv_tables(want.path)
    lines = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()[1:]]
    done = [line[1] for line in lines if line[0] == "done"]
    assert len(done) == len(set(done)) == len(list(out.glob("tasks/*.result")))
    assert [line[0] for line in lines].count("again") == len(got.folder.info()["again"]) == 1
    assert not any(alive(pid) for pid in victims)
    quick_run(METHODS, dataset, out=out, **options)  # has nothing to do but to tidy up
    assert not [path for path in out.rglob(".*.partial-*") if path.exists()]
