"""How long a run still takes, while its stages end, and what is shown of that."""

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console
from uasbench.benchmark.commands import display, status
from uasbench.benchmark.commands.journal import Journal
from uasbench.benchmark.executors.contract import Event, Job, Resources
from uasbench.benchmark.planning.time_left import TimeLeft
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.stages.task import Task

SHARE = Resources(gpus=1.0, seconds=10.0)


def jobs(*takes: float | None, needs: str = "") -> list[Job]:
    """Jobs 0, 1, … of these seconds, the last one measuring; ``needs`` says of each which one it needs, - none."""
    needed = [frozenset(n.strip("-")) for n in needs] or [frozenset()] * len(takes)
    stages = ["fit"] * (len(takes) - 1) + ["measure"]
    return [
        Job(str(i), Task(stage=stages[i]), f"{stages[i]} {i}", needed[i], resources=Resources(seconds=seconds))
        for i, seconds in enumerate(takes)
    ]


def test_the_time_that_is_left_follows_what_jobs_have_taken():
    known = jobs(*[10.0] * 6)
    first, second, *others = known
    left = TimeLeft(known, 2)
    assert left.seconds(0) == 10 * len(known) / 2
    left.note(Event(first, "started"), 0)
    assert left.seconds(4) == (10 * len(known) - 4) / 2
    left.note(Event(first, "done", seconds=20), 20)  # twice as long as predicted, and half a minute is believed
    assert left.seconds(20) == 12.5 * (len(known) - 1) / 2
    left.note(Event(second, "failed", "reason", 1), 21)
    assert left.seconds(21) == 12.5 * len(others) / 2
    for job in others:
        left.note(Event(job, "cancelled"), 22)
    assert left.seconds(22) == 0


def test_a_short_job_is_hardly_evidence():
    first, *others = jobs(1e-3, 10, 10, 10)
    hasty = TimeLeft([first, *others], 1)
    hasty.note(Event(first, "done", seconds=6), 6)
    assert hasty.seconds(6) == pytest.approx(12 * len(others), rel=1e-3)


def test_stages_packed_on_a_gpu_share_it():
    *trained, last = jobs(*[10.0] * 5)
    on_gpu = [replace(one, resources=SHARE) for one in trained]
    assert TimeLeft([*on_gpu, last], 50, gpus=1).seconds(0) == 10 * len(on_gpu)


def test_what_nobody_predicts_takes_what_others_of_its_stage_have_taken():
    first, *others = unknown = jobs(None, None, None)
    left = TimeLeft(unknown, 1)
    assert left.seconds(0) is None
    left.note(Event(first, "started"), 0)
    left.note(Event(first, "done", seconds=5), 5)
    assert left.seconds(5) == 5  # the other fit; of measuring nobody knows yet
    left.note(Event(others[0], "failed", "reason", 1), 6)
    assert left.seconds(6) == 0


def test_a_run_lasts_no_shorter_than_its_longest_chain_and_its_tables_follow():
    chained = jobs(100, 20, 5, 1, 3, needs="--013")
    left = TimeLeft(chained, 50, tables_s=7.0)
    assert left.seconds(0) == 100 + 5 + 7
    left.note(Event(chained[0], "started"), 0)
    left.note(Event(chained[1], "started"), 0)
    assert left.seconds(60) == 40 + 5 + 7
    left.note(Event(chained[0], "again", "out of memory"), 60)
    assert left.seconds(60) == 100 + 5 + 7
    left.note(Event(chained[0], "done", seconds=100), 160)
    assert left.seconds(160) == 5 + 7
    for job in chained[1:]:
        left.note(Event(job, "cancelled"), 170)
    assert left.seconds(170) == 7


def test_another_shell_is_told_of_chains_and_tables(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.update_info(cells=[])
    Journal(run, jobs(100, 50, 20, needs="-01"), 4, None, lambda _: None, tables_s=7.0)
    assert status.status(run, 0).left_s == 100 + 50 + 20 + 7
    text = run.progress.read_text()
    run.progress.write_text(text.replace(", [0]]", "]").replace(", [1]]", "]").replace(", []]", "]"))
    assert status.status(run, 0).left_s == 100 + 7, "an earlier version told of no needs"


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def shown(clock, terminal, *events):
    """Return what stands on a console at the start and at the end; each event comes five seconds later."""
    some = jobs(20, 10)
    console = Console(file=(file := io.StringIO()), force_terminal=terminal, width=100)
    with display.shown(console, some, TimeLeft(some, 1), lambda _: None) as listener:
        start = file.getvalue()
        for number, kind, value in events:
            clock.seconds += 5
            listener(Event(some[number], kind, value, seconds=5.0))
    return start, file.getvalue()[len(start) :]


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_left_is_said_before_the_first_stage_has_ended(terminal, clock):
    assert "about 30 s left" in shown(clock, terminal)[0]


def test_what_is_left_is_said_anew_while_a_stage_goes_on(clock):
    events = (0, "started", None), (0, "progress", (1, 9)), (0, "progress", (2, 9))
    assert "about 20 s left" in shown(clock, True, *events)[1]


def test_nothing_is_said_where_nobody_knows(clock, monkeypatch):
    monkeypatch.setattr(TimeLeft, "seconds", lambda *_: None)
    start, rest = shown(clock, False, (0, "started", None), (1, "started", None), (1, "done", None))
    assert start == ""
    assert rest == "done    measure 1  (1/2 stages)\n"
