"""What another shell learns of a run from its folder alone."""

import json
import os
import subprocess
import sys

import psutil
import pytest
from uasbench.benchmark.commands import status
from uasbench.benchmark.commands.journal import Journal, closing, note
from uasbench.benchmark.executors.contract import Event, Job, Resources
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError
from uasbench.benchmark.stages.task import Task

CELLS = ("ae__lits__btcv__s0", "ae__lits__btcv__s1")


def job(stage: str, seed: int, seconds: float | None = 100.0) -> Job:
    label = f"{stage:7s} ae · lits · seed {seed}"
    return Job(f"{stage}-{seed}", Task(stage=stage), label, resources=Resources(seconds=seconds))


JOBS = [job(stage, seed) for seed in (0, 1) for stage in ("fit", "map", "measure")]


@pytest.fixture
def run(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.update_info(cells=list(CELLS))
    return folder


@pytest.fixture
def journal(run) -> Journal:
    return Journal(run, JOBS, 2, None, lambda _: None)


def now(run: RunFolder) -> float:
    return run.progress.stat().st_mtime


def texts(run: RunFolder) -> str:
    return "\n".join(status.lines(status.status(run, now(run)), now(run)))


def test_a_running_command_says_which_stages_run_how_far_they_are_and_what_is_left(run, journal):
    heard = []
    journal.listener = heard.append
    events = [
        Event(JOBS[0], "started"), Event(JOBS[3], "started"), Event(JOBS[0], "progress", (1, 4)),
        Event(JOBS[0], "done", None, 100.0), Event(JOBS[1], "started"), Event(JOBS[3], "progress", (30, 40)),
    ]  # fmt: skip
    for event in events:
        journal(event)
    assert heard == events
    found = status.status(run, now(run))
    assert found.state == "running"
    assert found.counts()["fit"] == {"done": 1, "running": 1, "waiting": 0, "failed": 0}
    assert found.counts()["measure"] == {"done": 0, "running": 0, "waiting": 2, "failed": 0}
    assert found.left_s == pytest.approx(250, abs=5)  # five stages of 100 s on two workers, one of which has begun
    assert found.cells == {"done": 0, "failed": 0, "open": 2}
    shown = texts(run)
    for text in ("2 of 2 busy", f"pid {os.getpid()}", "running  fit     ae · lits · seed 1", "75 %"):
        assert text in shown
    plain = json.loads(json.dumps(found.json()))
    assert [stage["label"].split()[0] for stage in plain["named"]] == ["map", "fit"]


def test_every_percent_is_a_line_at_most(run, journal):
    for done in range(1000):
        journal(Event(JOBS[0], "progress", (done, 1000)))
    assert len(run.progress.read_text().splitlines()) == 101


def test_failed_cancelled_and_repeated_stages_are_told_apart(run, journal):
    journal(Event(JOBS[0], "started"))
    journal(Event(JOBS[0], "again", "out of memory"))
    assert status.status(run, now(run)).counts()["fit"]["waiting"] == 2
    journal(Event(JOBS[0], "failed", "ValueError: \x1b[31mno"))
    journal(Event(JOBS[1], "cancelled"))
    shown = texts(run)
    assert r"failed   fit     ae · lits · seed 0: ValueError: \x1b[31mno" in shown
    assert "failed   map     ae · lits · seed 0: what it needed has failed" in shown


def test_what_follows_the_last_stage_is_told_until_the_end(run, journal, capsys):
    with closing(run, None) as tell:
        tell("drawing figures")
        assert "closing" in texts(run)
        assert "drawing figures" in texts(run)
    assert status.status(run, now(run)).state == "finished"
    note(run, "closing", "making tables of a later command")
    assert status.status(run, now(run)).state == "finished"
    Journal(run, JOBS, 1, None, lambda _: None)  # the next command begins anew
    with pytest.raises(ZeroDivisionError), closing(run, None):
        _ = 1 / 0
    assert "the same command continues" in texts(run)


def test_a_command_that_was_killed_is_stopped_and_its_stages_wait(run):
    code = f"""
import os, signal
from uasbench.benchmark.commands.journal import Journal
from uasbench.benchmark.executors.contract import Event, Job
from uasbench.benchmark.runs.folder import RunFolder, RunFolderError
from uasbench.benchmark.stages.task import Task
job = Job("fit-0", Task(stage="fit"), "fit")
Journal(RunFolder({str(run.path)!r}), [job], 1, None, lambda _: None)(Event(job, "started"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    with run.progress.open("a") as file:
        file.write('["done", "fit-0", 17')  # cut by a power failure
    found = status.status(run, now(run))
    assert (found.state, found.left_s) == ("stopped", None)
    assert found.counts()["fit"] == {"done": 0, "running": 0, "waiting": 1, "failed": 0}


def test_what_a_killed_command_has_left_in_a_queue_goes_on(run):
    Journal(run, JOBS, 2, None, lambda _: None)(Event(JOBS[0], "started"))
    plan, *rest = run.progress.read_text().splitlines()
    gone = json.loads(plan) | {"process": json.loads(plan)["process"] | {"born": 0}}
    run.progress.write_text("\n".join([json.dumps(gone), *rest, ""]))
    tasks = run.tasks_dir
    tasks.mkdir()
    (tasks / "fit-0.state").write_text("{}")
    assert status.status(run, now(run)).counts()["fit"]["running"] == 0, "no queue has it"
    (tasks / "bench-1.batch").write_text("{}")
    (tasks / "fit-1.result").write_text('{"error": null}')
    (tasks / "map-1.result").write_text('{"error": "ValueError: no"}')
    before = sorted(run.path.rglob("*"))
    found = status.status(run, now(run))
    assert (found.state, found.queued) == ("stopped", True)
    assert [found.stages[name].state for name in ("fit-0", "fit-1", "map-0", "map-1")] == [
        "running", "done", "waiting", "failed",
    ]  # fmt: skip
    assert "left in the queue" in texts(run)
    assert sorted(run.path.rglob("*")) == before


def test_a_process_of_the_same_number_is_not_the_command_and_one_elsewhere_is_unknown(run, journal):
    plan = json.loads(run.progress.read_text())
    plan["process"]["born"] -= 1000
    run.progress.write_text(json.dumps(plan) + "\n")
    assert status.status(run, now(run)).state == "stopped"
    plan["process"]["host"] = "elsewhere"
    run.progress.write_text(json.dumps(plan) + "\n")
    assert status.status(run, now(run)).state == "running"
    assert "another machine" in texts(run)
    assert psutil.pid_exists(os.getpid())


@pytest.mark.parametrize("content", [None, "", "[]\n", "3\n", "{}\n", "nonsense"])
def test_without_a_journal_cells_are_counted(run, content):
    if content is not None:
        run.progress.write_text(content)
    run.records_dir.mkdir()
    run.failures_dir.mkdir()
    (run.records_dir / f"{CELLS[0]}.json").touch()
    assert "1 done, 0 failed, 1 open" in "\n".join(status.lines(status.status(run, 0.0), 0.0))
    assert status.status(run, 0.0).state == "unfinished"
    (run.failures_dir / f"{CELLS[1]}.json").touch()
    assert status.status(run, 0.0).cells == {"done": 1, "failed": 1, "open": 0}
    assert status.status(run, 0.0).state == "finished"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("at", "now"),
        ("process", []),
        ("workers", None),
        ("jobs", [[]]),
        ("jobs", 3),
        ("jobs", [["a", "fit", "A", 1, 0, [9]]]),
    ],
)
def test_a_damaged_journal_is_named(run, journal, key, value):
    journal(Event(JOBS[0], "started"))
    plan, *rest = run.progress.read_text().splitlines()
    run.progress.write_text("\n".join([json.dumps(json.loads(plan) | {key: value}), *rest]))
    with pytest.raises(RunFolderError, match=r"progress\.jsonl cannot be read .*delete it"):
        status.status(run, 0.0)


def test_a_journal_that_cannot_be_written_stops_no_run(run, journal):
    run.progress.unlink()
    run.progress.mkdir()
    journal(Event(JOBS[0], "started"))
    Journal(run, JOBS, 1, None, lambda _: None)


def test_a_run_leaves_a_journal_and_a_rerun_with_nothing_to_do_keeps_it(small_run, smoke):
    found = status.status(small_run, now(small_run))
    assert {state: sum(row[state] for row in found.counts().values()) for state in status.STATES} == {
        "done": 9, "running": 0, "waiting": 0, "failed": 0,
    }  # fmt: skip
    assert found.cells == {"done": 3, "failed": 0, "open": 0}
