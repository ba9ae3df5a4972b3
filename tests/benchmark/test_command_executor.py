"""The executor of any queue, on one of thirty lines; and the settings by which it is told of the queue."""

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from uasbench.benchmark.commands.running import run
from uasbench.benchmark.conformance.executors import CHECKS, Bench
from uasbench.benchmark.executors.command import CommandExecutor, CommandSettings
from uasbench.benchmark.executors.contract import Resources, SettingsError, checked_settings
from uasbench.benchmark.executors.queued import Key, QueueError, Verdict

from ..csv_tables import csv_tables

TARGET = "uasbench.benchmark.executors.command:CommandExecutor"
FAKE = f"{sys.executable} {Path(__file__).with_name('fake_queue.py')}"
QUEUE = {
    "submit": f"{FAKE} submit {{log}} {{command}}",
    "poll": f"{FAKE} poll {{id}}",
    "cancel": f"{FAKE} cancel {{id}}",
    "poll_s": 0.5,
    "grace_s": 0.5,
    "gather_s": 0.1,
}
SHORT = ("cancels dependents", "survives a killed worker", "outlives its submitter")


@pytest.mark.parametrize("check", [pytest.param(c, marks=() if c in SHORT else pytest.mark.slow) for c in CHECKS])
def test_the_contract(check, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    CHECKS[check](Bench(TARGET, folder, QUEUE))


def test_a_run_goes_through_the_queue_in_groups_and_measures_what_a_local_one_does(smoke, small_run, tmp_path):
    queue = tmp_path / "queue.toml"
    queue.write_text("".join(f"{key} = {value!r}\n" for key, value in QUEUE.items() if key != "poll"))
    given = [str(queue), f"poll={QUEUE['poll']}", "unknown_s=1"]
    folder, failed = run(smoke("hu-deviation,random", seeds=[0, 1], trials=1, executor="command", queue=given))
    assert failed == 0
    found, local = ([(r.cell, r.ids, r.per_case, r.pooled) for r in f.records()] for f in (folder, small_run))
    assert found == local
    assert not [path.name for path in folder.tasks_dir.iterdir() if path.name.startswith("bench-")]
    end = time.monotonic() + 30  # the runner of a group ends a moment after its last result
    while left := _running(str(folder.tasks_dir)):
        assert time.monotonic() < end, left
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["lits", "coronacases"])
def test_a_killed_job_is_a_failure_row_and_the_next_run_has_the_tables_of_a_local_one(
    dataset, quick_run, cache, tmp_path
):
    options = {"phantom": True, "profile": "smoke", "seeds": [0, 1], "trials": 1, "workers": 2, "cache": cache}
    local = quick_run("hu-deviation,ae", dataset, out=tmp_path / "local", **options)
    out, there = tmp_path / "there", {"executor": "command", "queue": {**QUEUE, "group_s": 0}}

    def kill() -> None:
        end = time.monotonic() + 120
        while not (jobs := [job for job in _running(str(out / "tasks")) if FAKE not in " ".join(job.info["cmdline"])]):
            assert time.monotonic() < end
            time.sleep(0.02)
        jobs[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    first = quick_run("hu-deviation,ae", dataset, out=out, **options, **there)
    killer.join()
    assert len(first.failures) > 0
    assert "left the queue without a result" in first.failures[0].error
    before = {path: path.stat().st_mtime_ns for path in first.folder.records_dir.iterdir()}
    again = quick_run("hu-deviation,ae", dataset, out=out, **options, **there)
    assert again.failures == []
    assert before.items() <= {path: path.stat().st_mtime_ns for path in again.folder.records_dir.iterdir()}.items()
    assert csv_tables(again.path) == csv_tables(local.path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "--queue submit=…: this executor needs it"),
        ({"submit": "bsub {comand}"}, r"--queue submit: .*\{comand\}; there are command, cpus"),
        ({"submit": "bsub"}, r"--queue submit: .*has no \{command\} or \{script\}"),
        ({"submit": "bsub '{command}"}, "cannot be split into words"),
        ({"poll": "bjobs"}, r"--queue poll: .*has no \{id\} or \{name\}"),
        ({"id": "("}, "--queue id"),
        ({"seconds": 0}, "--queue seconds"),
    ],
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(SettingsError, match=message):
        checked_settings(CommandSettings, {**(QUEUE if values else {}), **values})


def executor(tmp_path: Path, **settings: object) -> tuple[CommandExecutor, Bench]:
    bench = Bench(TARGET, tmp_path, {**QUEUE, **settings})
    return CommandExecutor(bench.place), bench


def test_a_template_gets_what_a_group_takes(tmp_path):
    printed = f"sh -c 'echo \"$@\" > {tmp_path}/said; echo job 7' x"
    fields = "{name} {cpus} {gpus} {memory_mib} {seconds} {minutes} cpu={cpus} {command} {script}"
    sends, bench = executor(tmp_path, submit=f"{printed} {fields}", slack=2)
    job = replace(bench.job("a"), resources=Resources(cpus=4, gpus=0.3, seconds=240.0))
    sends.send("bench-x", [[job]], ["run it", "file"], tries=1)
    key = Key("bench-x", 0)
    script = sends.place.own("bench-x-0.sh")
    assert (tmp_path / "said").read_text() == f"bench-x-0 4 1 8192 1080 18 cpu=4 run it file 0 {script}\n"
    assert script.read_text() == "#!/bin/sh\nexec 'run it' file 0\n"
    assert script.stat().st_mode & 0o111
    assert sends.place.own(f"{key.text}.id").read_text() == "7"


@pytest.mark.parametrize(("settings", "asked"), [({}, "2048"), ({"memory_mib": 500}, "500")])
def test_memory_is_what_was_said_or_what_such_stages_have_taken(tmp_path, settings, asked):
    sends, bench = executor(
        tmp_path, submit=f"sh -c 'echo $0 > {tmp_path}/said; echo 7' {{memory_mib}} {{script}}", **settings
    )
    sends.send("bench-x", [[replace(bench.job("a"), resources=Resources(memory_mib=2048.0))]], ["run"], tries=0)
    assert (tmp_path / "said").read_text() == f"{asked}\n"


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("Job <4711> is submitted to queue <normal>.", "4711"),
        ("OAR_JOB_ID=12", "12"),
        ("123[].server.site", "123[].server.site"),
        ('job 31337 ("x") has been submitted', "31337"),
    ],
)
def test_ids_of_known_queues_are_found(printed, found):
    match = CommandSettings.model_validate(QUEUE).id.search(printed)
    assert match is not None
    assert match[1] == found


def test_a_queue_that_names_no_job_or_refuses_it_says_so(tmp_path):
    for submit, message in (
        ("echo {command}x nothing", "--queue submit names no job"),
        ("sh -c 'echo no such queue >&2; exit 3' {command}", "--queue submit: sh: no such queue"),
        ("/nowhere/bsub {command}", "/nowhere/bsub"),
    ):
        sends, bench = executor(tmp_path, submit=submit, id="JOB ([0-9]+)")
        with pytest.raises(QueueError, match=message):
            sends.send("bench-x", [[bench.job("a")]], ["run"], tries=0)


@pytest.mark.parametrize(
    ("poll", "states"),
    [
        ("echo {id} RUN", ["there", "there"]),
        ("echo {id} EXIT", ["ended"]),
        ("echo Finished {name}", ["ended"]),
        ("test {id} = x", ["there", "ended"]),
        ("true {id}", ["ended"]),
    ],
)
def test_what_a_poll_says(poll, states, tmp_path):
    asks, _ = executor(tmp_path, poll=poll)
    key = Key("bench-x", 0)
    asks.place.own("bench-x-0.id").write_text("7")
    assert [asks.ask([key])[key].state for _ in states] == states
    assert asks.ask([Key("bench-x", 1)]) == {}
    assert isinstance(asks.ask([key])[key], Verdict)


def _running(named: str) -> list[psutil.Process]:
    processes = psutil.process_iter(["cmdline"])
    return [process for process in processes if named in " ".join(process.info["cmdline"] or [])]
