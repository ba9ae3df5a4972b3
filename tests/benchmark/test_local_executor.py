"""Stages in worker processes: order, failures, limits, interrupts and death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from uasbench.benchmark.executors.job import Event, Job
from uasbench.benchmark.executors.local import LocalExecutor, cpu_slots

STAGE = """
import os, pathlib, signal, sys, time

def run(task, report):
    if task.get("pid"):
        pathlib.Path(task["pid"]).write_text(str(os.getpid()))
    print("working on", task["do"])
    if task["do"] == "raise":
        raise ValueError("no good\\nsecond line")
    if task["do"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task["do"] == "exit":
        sys.exit(4)
    if task["do"] == "hang":
        time.sleep(600)
    if task.get("data"):
        assert "UASBENCH_DATA" not in os.environ
    report("progress", (1, 1))
    with open(task["out"], "a") as file:
        file.write(task["do"] + "\\n")
"""


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a_stage_for_tests.py").write_text(STAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return LocalExecutor(cpu_slots(2), logs=tmp_path / "logs", locks=tmp_path / "locks", limit_s=60)


def job(tmp_path: Path, name: str, do: str = "", needs: tuple[str, ...] = (), **task: object) -> Job:
    what = {"do": do or name, "out": str(tmp_path / "order"), **task}
    return Job(name, "fit", what, name, frozenset(needs), module="a_stage_for_tests")


def run(executor: LocalExecutor, jobs: list[Job]) -> dict[str, Event]:
    last: dict[str, Event] = {}
    executor.run(jobs, lambda event: last.__setitem__(event.job.id, event))
    return last


def test_jobs_run_after_what_they_need(executor, tmp_path):
    jobs = [job(tmp_path, "c", needs=("a", "b")), job(tmp_path, "b", needs=("a",)), job(tmp_path, "a", data=True)]
    last = run(executor, jobs)
    assert (tmp_path / "order").read_text().split() == ["a", "b", "c"]
    assert {e.kind for e in last.values()} == {"done"}
    assert "working on a" in (tmp_path / "logs" / "a.log").read_text()


@pytest.mark.parametrize(
    ("do", "message"),
    [("raise", "ValueError: no good"), ("die", "killed by SIGKILL"), ("exit", "SystemExit: 4")],
)
def test_a_failure_cancels_its_dependents_and_nobody_else(executor, tmp_path, do, message):
    jobs = [
        job(tmp_path, "last", needs=("next",)),
        job(tmp_path, "next", needs=("bad",)),
        job(tmp_path, "bad", do),
        job(tmp_path, "good"),
    ]
    last = run(executor, jobs)
    assert last["bad"].kind == "failed"
    assert message in last["bad"].value
    assert last["next"].kind == last["last"].kind == "cancelled"
    assert last["good"].kind == "done"


def test_a_traceback_is_in_the_log(executor, tmp_path):
    run(executor, [job(tmp_path, "bad", "raise")])
    assert "second line" in executor.log_of(job(tmp_path, "bad")).read_text()


def test_a_hanging_stage_is_stopped_at_the_limit(executor, tmp_path):
    executor.limit_s = 2
    last = run(executor, [job(tmp_path, "bad", "hang", pid=str(tmp_path / "pid")), job(tmp_path, "good")])
    assert "stage limit" in last["bad"].value
    assert last["good"].kind == "done"
    assert not alive(int((tmp_path / "pid").read_text()))


def test_an_interrupt_leaves_no_process(executor, tmp_path):
    pid = tmp_path / "pid"

    def interrupt(event: Event) -> None:
        if event.kind == "started":
            while not pid.exists() or not pid.read_text():
                time.sleep(0.02)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.run([job(tmp_path, "bad", "hang", pid=str(pid))], interrupt)
    assert not alive(int(pid.read_text()))


def test_a_worker_ends_when_its_parent_is_killed(executor, tmp_path):
    pid = tmp_path / "pid"
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(tmp_path)!r})
        from uasbench.benchmark.executors.job import Job
        from uasbench.benchmark.executors.local import LocalExecutor, cpu_slots
        here = Path({str(tmp_path)!r})
        executor = LocalExecutor(cpu_slots(1), logs=here / "logs", locks=here / "locks", limit_s=60)
        task = {{"do": "hang", "pid": {str(pid)!r}}}
        executor.run([Job("x", "fit", task, "x", module="a_stage_for_tests")], print)
        """)
    )
    parent = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int(pid.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()
