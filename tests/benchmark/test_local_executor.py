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
from uasbench.benchmark.stages.probe import SECOND_LINE, ProbeTask


@pytest.fixture
def executor(tmp_path: Path):
    return LocalExecutor(cpu_slots(2), logs=tmp_path / "logs", locks=tmp_path / "locks", limit_s=60)


def job(tmp_path: Path, name: str, act: str = "finish", needs: tuple[str, ...] = ()) -> Job:
    return Job(name, ProbeTask(name=name, folder=tmp_path, act=act), name, frozenset(needs))


def begun(folder: Path) -> dict[str, int]:
    """The process of each stage in the order in which they began."""
    path = folder / "begun"
    return {name: int(pid) for name, pid in (line.split() for line in path.read_text().splitlines())}


def run(executor: LocalExecutor, jobs: list[Job]) -> dict[str, Event]:
    last: dict[str, Event] = {}
    executor.run(jobs, lambda event: last.__setitem__(event.job.id, event))
    return last


def test_jobs_run_after_what_they_need(executor, tmp_path):
    jobs = [job(tmp_path, "c", needs=("a", "b")), job(tmp_path, "b", needs=("a",)), job(tmp_path, "a")]
    last = run(executor, jobs)
    assert list(begun(tmp_path)) == ["a", "b", "c"]
    assert {e.kind for e in last.values()} == {"done"}
    assert "working on a" in (tmp_path / "logs" / "a.log").read_text()


@pytest.mark.parametrize(
    ("do", "message"),
    [("raise", "ValueError: bad was told to fail"), ("kill", "killed by SIGKILL"), ("exit", "SystemExit: 4")],
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
    assert SECOND_LINE in executor.log_of(job(tmp_path, "bad")).read_text()


def test_a_hanging_stage_is_stopped_at_the_limit(executor, tmp_path):
    executor.limit_s = 2
    last = run(executor, [job(tmp_path, "bad", "wait"), job(tmp_path, "good")])
    assert "stage limit" in last["bad"].value
    assert last["good"].kind == "done"
    assert not alive(begun(tmp_path)["bad"])


def test_an_interrupt_leaves_no_process(executor, tmp_path):
    def interrupt(event: Event) -> None:
        if event.kind == "progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executor.run([job(tmp_path, "bad", "wait")], interrupt)
    assert not alive(begun(tmp_path)["bad"])


def test_a_worker_ends_when_its_parent_is_killed(executor, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from uasbench.benchmark.executors.job import Job
        from uasbench.benchmark.executors.local import LocalExecutor, cpu_slots
        from uasbench.benchmark.stages.probe import ProbeTask
        here = Path({str(tmp_path)!r})
        executor = LocalExecutor(cpu_slots(1), logs=here / "logs", locks=here / "locks", limit_s=60)
        executor.run([Job("x", ProbeTask(name="x", folder=here, act="wait"), "x")], print)
        """)
    )
    parent = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = begun(tmp_path)["x"]
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
