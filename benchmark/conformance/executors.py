"""Does an executor keep the contract? Each check runs stages that succeed, fail, hang and are killed.

The checks kill processes of this machine: an executor of a cluster is checked on a cluster of one machine.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from ...common.errors import summary
from ...common.package import import_target
from ..executors.contract import Event, Executor, Job, Listener, Place, run_jobs
from ..runs.folder import RunFolder
from ..stages.probe import SECOND_LINE, ProbeTask

LIMIT_S = 120.0


class Bench:
    """An executor under test (``module:Class``, as its entry point names it) and an empty folder for its run."""

    def __init__(self, target: str, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.target = target
        self.folder = folder
        self.place = Place(RunFolder(folder), workers=2, limit_s=LIMIT_S, settings=settings or {})
        self.events: list[Event] = []

    def executor(self) -> Executor:
        """Return a new executor, as a submitter that starts makes one."""
        return import_target(self.target)(self.place)

    def job(self, name: str, act: Any = "finish", *needs: str) -> Job:
        return Job(name, ProbeTask(name=name, folder=self.folder, act=act), name, frozenset(needs))

    def run(self, *jobs: Job, limit_s: float = LIMIT_S, watch: Listener = lambda _: None) -> dict[str, Event]:
        """Run jobs and return the last event of each; ``watch`` gets every event."""

        def listen(event: Event) -> None:
            self.events.append(event)
            watch(event)

        run_jobs(self.executor(), jobs, listen, limit_s)
        return {event.job.id: event for event in self.events}

    def kinds(self, job: str) -> list[str]:
        """Return what was reported about a job, in order and without its progress."""
        return [event.kind for event in self.events if event.job.id == job and event.kind != "progress"]

    def begun(self) -> list[tuple[str, int]]:
        """Return the stages that began, in that order, each with its process."""
        path = self.folder / "begun"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def process(self, job: str) -> int:
        return _until(lambda: next((pid for name, pid in self.begun() if name == job), 0), f"{job} begins")

    def log(self, job: str) -> str:
        return self.place.log(job).read_text(encoding="utf-8")


def runs_in_order(bench: Bench) -> None:
    """Stages run once what they need is done, each in a process of its own, and their output is in their logs."""
    last = bench.run(bench.job("c", "finish", "a", "b"), bench.job("b", "finish", "a"), bench.job("a"))
    assert [name for name, _ in bench.begun()] == ["a", "b", "c"]
    assert len({os.getpid(), *(process for _, process in bench.begun())}) == 4, "stages share a process"
    for name in last:
        assert bench.kinds(name) == ["started", "done"], f"{name}: {bench.kinds(name)}"
        assert f"working on {name}" in bench.log(name)


def hides_the_labels(bench: Bench) -> None:
    """No stage sees where the labels lie."""
    with patch.dict(os.environ, {"UASBENCH_DATA": "/labels"}):
        last = bench.run(bench.job("a"))
    assert last["a"].kind == "done", last["a"].value


def cancels_dependents(bench: Bench) -> None:
    """A stage that raises, exits or is killed cancels what needs it and nothing else; the reason is one line."""
    bad = ("raise", "exit", "kill")
    jobs = [bench.job(act, act) for act in bad]
    jobs += [bench.job(f"next-{act}", "finish", act) for act in bad]
    jobs += [bench.job(f"last-{act}", "finish", f"next-{act}") for act in bad]
    last = bench.run(*jobs, bench.job("good"), bench.job("better", "finish", "good"))
    for act in bad:
        assert last[act].kind == "failed"
        assert last[act].value
        assert "\n" not in last[act].value
        assert last[f"next-{act}"].kind == last[f"last-{act}"].kind == "cancelled"
        assert bench.kinds(f"last-{act}") == ["cancelled"]
    assert "raise was told to fail" in last["raise"].value
    assert SECOND_LINE in bench.log("raise")
    assert last["good"].kind == last["better"].kind == "done"


def survives_a_killed_worker(bench: Bench) -> None:
    """A worker that somebody kills is a failure, and the others go on."""

    def kill(event: Event) -> None:
        if event.job.id == "victim" and event.kind == "started":
            os.kill(bench.process("victim"), signal.SIGKILL)

    last = bench.run(bench.job("victim", "wait"), bench.job("good"), bench.job("next", "finish", "victim"), watch=kill)
    assert [last[name].kind for name in ("victim", "good", "next")] == ["failed", "done", "cancelled"]


def stops_at_the_limit(bench: Bench) -> None:
    """A stage that takes too long is stopped, leaves no process and stops nobody else."""
    usual = bench.run(bench.job("first"))["first"].seconds
    jobs = (bench.job("slow", "wait"), bench.job("good"), bench.job("after", "finish", "good"))
    last = bench.run(*jobs, limit_s=max(8, 1 + 5 * usual))
    assert last["slow"].kind == "failed"
    assert "stage limit" in last["slow"].value
    assert last["good"].kind == last["after"].kind == "done"
    # One that is killed without a chance to clean up is followed by what it had started, a moment later.
    _until(lambda: not _alive(bench.process("slow")), "the stopped stage ends")


def an_interrupt_leaves_no_process(bench: Bench) -> None:
    """An interrupted submitter ends every stage."""

    def interrupt(event: Event) -> None:
        if event.kind == "started":
            bench.process(event.job.id)
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        bench.run(bench.job("a", "wait"), bench.job("b", "wait"), watch=interrupt)
        raise AssertionError("the interrupt was lost")
    _until(lambda: not any(_alive(process) for _, process in bench.begun()), "stages end")
    assert not [name for name in ("a", "b") if (bench.folder / f"{name}.done").exists()]


def adopts_what_is_finished(bench: Bench) -> None:
    """A stage that was finished before is done and is not repeated."""
    (bench.folder / "a.done").touch()
    last = bench.run(bench.job("a"), bench.job("b", "finish", "a"))
    assert last["a"].kind == last["b"].kind == "done"
    assert [name for name, _ in bench.begun()] == ["b"]


def outlives_its_submitter(bench: Bench) -> None:
    """After the submitter is killed the same jobs are completed, none of them twice, at once or after it was done."""
    what = (bench.target, str(bench.folder), dict(bench.place.settings))
    code = f"from {__name__} import submit; submit(*{what!r})"
    path = os.pathsep.join(part for part in sys.path if part)
    submitter = subprocess.Popen([sys.executable, "-P", "-c", code], env={**os.environ, "PYTHONPATH": path})  # noqa: S603
    try:
        _until(lambda: submitter.poll() is not None or any(name == "slow" for name, _ in bench.begun()), "slow begins")
        assert submitter.poll() is None, "the submitter ended before it could be killed"
        first = bench.process("slow")
    finally:
        submitter.kill()
        submitter.wait()

    def go(event: Event) -> None:
        if event.job.id == "slow" and event.kind == "started":
            (bench.folder / "slow.go").touch()

    last = bench.run(*_survivors(bench), watch=go)
    assert [last[name].kind for name in ("first", "slow", "next")] == ["done"] * 3
    began = bench.begun()
    assert [name for name, _ in began if name != "slow"] == ["first", "next"], "a finished stage was repeated"
    slow = [process for name, process in began if name == "slow"]
    assert slow == [first] or (len(slow) == 2 and not _alive(first)), "a stage ran twice at once"


CHECKS: dict[str, Callable[[Bench], None]] = {
    check.__name__.replace("_", " "): check
    for check in (
        runs_in_order,
        hides_the_labels,
        cancels_dependents,
        survives_a_killed_worker,
        stops_at_the_limit,
        an_interrupt_leaves_no_process,
        adopts_what_is_finished,
        outlives_its_submitter,
    )
}
"""What every executor is put through, by name; each raises AssertionError where a promise is broken."""


def failures(target: str, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Put an executor (``module:Class``) with its settings through every check; return what went wrong, by check."""
    wrong = {}
    for name, check in CHECKS.items():
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                check(Bench(target, Path(folder), settings))
            except Exception as error:
                wrong[name] = summary(error)
    return wrong


def submit(target: str, folder: str, settings: Mapping[str, Any]) -> None:
    """Submit the jobs of :func:`outlives_its_submitter`, in a process that will be killed."""
    bench = Bench(target, Path(folder), settings)
    bench.run(*_survivors(bench))


def _survivors(bench: Bench) -> list[Job]:
    return [bench.job("first"), bench.job("slow", "wait", "first"), bench.job("next", "finish", "slow")]


def _until(true: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + LIMIT_S
    while not (found := true()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.02)
    return found


def _alive(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    return "zombie" not in status
