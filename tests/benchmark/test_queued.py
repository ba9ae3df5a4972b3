"""What executors of queues share, on a queue that a test plays, without a process."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.benchmark.conformance.executors import Bench
from uasbench.benchmark.executors import contract, queued
from uasbench.benchmark.executors.contract import (
    Job,
    Listing,
    Place,
    Report,
    Resources,
    SettingsError,
    checked_settings,
)
from uasbench.benchmark.executors.grouping import grouped, together
from uasbench.benchmark.executors.queued import (
    Key,
    QueuedExecutor,
    QueueError,
    QueueSettings,
    Verdict,
)
from uasbench.benchmark.runs.records import FIT_SEAL
from uasbench.benchmark.stages.task import Task

AT_ONCE = {"gather_s": 0, "poll_s": 1e-9, "grace_s": 0}
THERE, WAITING = Verdict("there"), Verdict("waiting")


class Played(QueuedExecutor):
    """Keeps what is sent, and answers what the test says."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.sent: dict[Key, list[str]] = {}
        self.says: dict[Key, Verdict] | None = {}
        self.refuses = 0

    def send(self, name, groups, command, tries) -> None:
        if self.refuses:
            self.refuses -= 1
            raise QueueError("no such partition")
        for number, group in enumerate(groups):
            self.sent[Key(name, number)] = [job.id for job in group]
            assert self.says is not None
            self.says[Key(name, number)] = WAITING

    def ask(self, keys) -> dict[Key, Verdict] | None:
        return None if self.says is None else {key: self.says[key] for key in keys if key in self.says}

    def cancel(self, keys) -> None:
        for key in keys:
            (self.says or {}).pop(key, None)

    def told(self) -> list[tuple[str, str]]:
        return [(report.id, report.kind) for report in self.reports(0)]

    def begin(self, job: str) -> None:
        self.place.state(job).write_text(json.dumps({"host": "there", "progress": None}))
        self.says = {key: THERE if job in ids else WAITING for key, ids in self.sent.items()}

    def end(self, job: str, error: str | None = None) -> None:
        self.place.state(job).with_suffix(".result").write_text(json.dumps({"error": error}))


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench("nowhere:Nothing", tmp_path)


@pytest.fixture
def play(bench) -> Callable[..., Played]:
    """Return ``play(*jobs, **settings)``: an executor that has sent these, each predicted to take a second."""

    def call(*names: str, **settings: Any) -> Played:
        executor = Played(replace(bench.place, settings={**AT_ONCE, **settings}))
        for name in names:
            executor.submit(replace(bench.job(name), resources=Resources(seconds=1.0)))
        assert executor.told() == []
        return executor

    return call


def test_files_tell_what_becomes_of_jobs(play):
    executor = play("a", "b", "c", group_s=2)
    assert sorted(map(len, executor.sent.values())) == [1, 2]
    executor.begin("a")
    assert executor.told() == [("a", "started")]
    executor.end("a")
    executor.end("b", "it went wrong")
    assert executor.reports(0) == [
        Report("a", "done"),
        Report("b", "started"),
        Report("b", "failed", "it went wrong"),
    ]
    assert executor.told() == []


def test_stages_ask_for_what_their_kind_has_taken(play, bench, tmp_path):
    bench.place = replace(bench.place, cache=tmp_path / "cache")
    bench.place.cache.mkdir()

    def training(name: str) -> Any:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        (out / FIT_SEAL).write_text(json.dumps({"peak_ram_mib": 940.0}))
        kind = {"stage": "fit", "method": "ae"}
        task = SimpleNamespace(stage="fit", out=out, model_dump=lambda **_: kind, model_dump_json=lambda: "{}")
        return replace(bench.job(name), task=task)

    executor = play()
    for name in ("fails", "works"):
        executor.submit(training(name))
    assert [job.resources.memory_mib for job, _ in executor._waiting.values()] == [None, None]
    executor.reports(0)
    executor.end("fails", "it did")
    executor.reports(0)
    executor.submit(training("b"))
    assert executor._waiting["b"][0].resources.memory_mib is None
    executor.end("works")
    executor.reports(0)
    for later in (executor, play()):
        later.submit(training("c"))
        assert later._waiting["c"][0].resources.memory_mib == 2048
        later.submit(replace(training("d"), resources=Resources(memory_mib=5.0)))
        assert later._waiting["d"][0].resources.memory_mib == 5


def test_a_folder_is_listed_the_less_often_the_longer_it_takes(tmp_path, monkeypatch):
    listing, now = Listing(tmp_path), [0.0]
    monkeypatch.setattr(contract.time, "monotonic", lambda: now[0])
    scan = os.scandir

    def slow(folder):
        now[0] += 1.0
        return scan(folder)

    monkeypatch.setattr(contract.os, "scandir", slow)
    assert listing.names() == set()
    (tmp_path / "a").touch()
    now[0] += 18.5
    assert listing.names() == set()
    now[0] += 1.0
    assert listing.names() == {"a"}
    monkeypatch.undo()
    fast = Listing(tmp_path)
    fast.names()
    (tmp_path / "b").touch()
    time.sleep(0.05)
    assert fast.names() == {"a", "b"}


def test_progress_is_told_once_each(play, monkeypatch):
    monkeypatch.setattr(queued, "PROGRESS_S", 0)
    executor = play("a")
    executor.begin("a")
    executor.place.state("a").write_text(json.dumps({"host": "there", "progress": [1, 9]}))
    found = [*executor.reports(0), *executor.reports(0)]
    assert found == [Report("a", "started"), Report("a", "progress", (1, 9))]


def test_what_leaves_the_queue_without_a_result_has_failed_and_its_output_tells_why(play):
    executor = play("a", "b", group_s=0)
    (one, other) = executor.sent
    executor.output(one).write_text("module: not found\n\n")
    executor.says = {other: THERE}
    assert executor.told() == []  # it is asked once more before
    (report,) = executor.reports(0)
    assert (report.id, report.kind) == (executor.sent[one][0], "failed")
    assert report.value == "it left the queue without a result; its output ends with: module: not found"
    executor.says = None
    assert executor.told() == []  # no answer is no bad news


@pytest.mark.parametrize(
    ("verdict", "kinds"),
    [
        (Verdict("ended", "time", "all"), {"a": "again", "b": None}),
        (Verdict("ended", "gone", "others"), {"a": "failed", "b": None}),
        (Verdict("ended", "cancelled", "none"), {"a": "failed", "b": "failed"}),
    ],
)
def test_what_had_not_started_runs_again_unless_somebody_has_cancelled_it(play, verdict, kinds):
    executor = play("a", "b")
    (key,) = executor.sent
    executor.begin("a")
    executor.says = {key: verdict}
    told = dict([*executor.told()[1:], *executor.told()])
    assert told == {name: kind for name, kind in kinds.items() if kind}
    executor.reports(0)
    again = [name for sent in list(executor.sent.values())[1:] for name in sent]
    assert again == [name for name, kind in kinds.items() if kind != "failed"]


def test_it_is_sent_so_often_and_no_more(play):
    executor = play("a", tries=2)
    for number, kind in enumerate(("again", "failed")):
        executor.begin("a")
        executor.says = dict.fromkeys(executor.sent, Verdict("ended", "preempted", "all"))
        told = [*executor.told(), *executor.told()]
        assert told == [("a", "started"), ("a", kind)]
        executor.reports(0)
        assert len(executor.sent) == min(2, number + 2)


def test_a_job_that_is_put_back_into_the_queue_starts_again(play):
    executor = play("a")
    executor.begin("a")
    executor.told()
    executor.says = dict.fromkeys(executor.sent, WAITING)
    assert executor.told() == [("a", "again")]
    executor.begin("a")
    assert executor.told() == [("a", "started")]


def test_a_queue_that_refuses_the_first_job_ends_the_run_and_a_later_one_is_tried_again(play, bench, monkeypatch):
    executor = Played(replace(bench.place, settings=AT_ONCE))
    executor.refuses = 1
    executor.submit(bench.job("a"))
    with pytest.raises(QueueError, match="no such partition"):
        executor.reports(0)
    executor = play("b")
    executor.refuses = 1
    executor.submit(bench.job("c"))
    assert executor.told() == []
    assert len(executor.sent) == 1
    monkeypatch.setattr(executor, "_not_before", 0)
    executor.reports(0)
    assert [*executor.sent.values()] == [["b"], ["c"]]
    assert {path.stem for path in bench.place.folder.tasks_dir.glob("*.batch")} == {key.batch for key in executor.sent}


def test_jobs_wait_for_others_and_no_more_are_there_at_once_than_asked_for(play, bench):
    executor = play("a", "b", "c", group_s=0)
    assert len(executor.sent) == bench.place.workers == 2
    executor.end("a")
    executor.told()
    executor.told()
    assert len(executor.sent) == 3
    executor = play("d", gather_s=1000)
    executor.submit(bench.job("e"))
    executor.reports(0)
    assert len(executor.sent) == 1


def test_a_stopped_job_takes_no_other_with_it(play):
    executor = play("a", "b")
    executor.begin("a")
    executor.told()
    executor.stop("a")
    executor.reports(0)
    assert [*executor.sent.values()] == [["a", "b"], ["b"]]
    executor.close()
    assert executor.says == {}
    assert not list(executor.place.folder.tasks_dir.glob("*.batch"))


def test_a_later_submitter_takes_on_what_is_left_and_ends_what_is_of_another_plan(play, bench):
    first = play("a", "b", "c", group_s=0, tries=1)
    first.place = replace(first.place, workers=9)
    first.reports(0)
    keys = {ids[0]: key for key, ids in first.sent.items()}
    first.begin("a")
    later = Played(first.place)
    later.says = dict(first.says or {})
    jobs = [replace(bench.job(name), resources=Resources(seconds=1.0)) for name in "ab"]
    assert later.attach([*jobs, replace(bench.job("c", "wait"))]) == ["a"]
    assert set(later.says) == {keys["a"], keys["b"]}
    later.submit(jobs[1])
    assert later.told() == []
    assert later.sent == {}
    for name in "ab":
        later.end(name)
    assert later.told() == [("a", "done"), ("b", "started"), ("b", "done")]


seconds = st.none() | st.floats(0, 1000)


@given(st.lists(seconds, max_size=30), st.floats(0, 900), st.none() | st.floats(1, 900))
def test_groups_hold_every_job_once_in_order_and_take_no_longer_than_wanted(predicted, target, unknown):
    jobs = [Job(str(i), Task(stage="x"), "", resources=Resources(seconds=s)) for i, s in enumerate(predicted)]
    groups = grouped(jobs, QueueSettings(group_s=target, unknown_s=unknown))
    assert [job for group in groups for job in group] == jobs
    for group in groups:
        takes = [job.resources.seconds if job.resources.seconds is not None else unknown for job in group]
        assert len(group) == 1 or sum(s for s in takes if s is not None) <= target * (1 + 1e-9)
        assert len(group) == 1 or None not in takes
        known = [job.resources.seconds for job in group]
        assert together(group).seconds == (None if None in known else pytest.approx(sum(filter(None, known))))


def test_a_wrong_setting_is_named():
    for values, message in (
        ({"pol_s": 1}, "--queue pol_s: there is no such setting; did you mean 'poll_s'"),
        ({"tries": 0}, "--queue tries: Input should be greater"),
    ):
        with pytest.raises(SettingsError, match=message):
            checked_settings(QueueSettings, values)
    with pytest.raises(SettingsError, match="--queue tries: this executor has no settings"):
        checked_settings(None, {"tries": 1})
    assert checked_settings(None, {}) is None
