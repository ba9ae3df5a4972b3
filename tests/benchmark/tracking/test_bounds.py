"""Whatever a tracking server does, a run and ``bench track`` end, in a time that is stated, and say what is missing."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from rich.console import Console
from uasbench.benchmark.tracking.progress import AT_THE_END, ON_REQUEST, GivenUpError, Patience, Progress
from uasbench.benchmark.tracking.server import TrackingError
from uasbench.benchmark.tracking.tracker import Tracker, publish

SHORT = Patience(0.4, 60.0)
KINDS = [
    *("500", "401", "html", "redirect to a dead port", "accepts and never answers", "429 with Retry-After"),
    *("503 with Retry-After", "drips its answer", "drips its headers", "foo://", "http://", "dead"),
]
HANGS_AND_LEAVES = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from uasbench.common.processes import leave, leave_behind

def hang():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 600)

thread = threading.Thread(target=hang, daemon=True)
thread.start()
time.sleep(0.2)
leave_behind(thread)
print("told")
leave(3)
"""


@pytest.fixture
def impatient(monkeypatch) -> Iterator[None]:
    """Repeated requests follow at once; whatever a test has left behind ends before the next one."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    yield
    for thread in threading.enumerate():
        if thread.name == "mlflow":
            thread.join(60)
            assert not thread.is_alive()


def check(here, patience: Patience, on_request: Patience, capsys) -> list[str]:
    """Track a run at its end and on request; return what is said, each in one line."""
    with Tracker(here.uri, Console(width=80), patience) as tracker:
        tracker.start(here.folder)
        tracker.finish()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("MLflow: ")
    assert "not sent: 2 of 2 cells and the files of the run" in line
    assert line.endswith(f"this sends the rest later: bench track '{here.folder.path}'")
    with pytest.raises(TrackingError) as refusal:
        publish(here.folder, patience=on_request)
    assert "\n" not in str(refusal.value)
    assert len(here.folder.records()) == 2
    return [line, str(refusal.value)]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", KINDS)
def test_no_server_keeps_a_run_or_bench_track_from_ending(servers, begin, build, tmp_path, capsys, kind):
    assert set(KINDS) == set(servers.KINDS)
    with servers.bad_server(kind) as uri:
        here = begin(tmp_path / "a run", build(0), build(1), uri=uri)
        patience = SHORT if kind in servers.HANGING else Patience(60.0, 60.0)
        said = check(here, patience, patience, capsys)
        assert all(("not answered for 0.4 s" in text) == (kind in servers.HANGING) for text in said)


@pytest.mark.endurance
@pytest.mark.parametrize("kind", KINDS)
def test_the_stated_times_hold(servers, begin, build, tmp_path, capsys, kind):
    with servers.bad_server(kind) as uri:
        here = begin(tmp_path / "a run", build(0), build(1), uri=uri)
        start = time.monotonic()
        check(here, AT_THE_END, ON_REQUEST, capsys)
        # Both at most one hanging step long; the machine may be busy.
        assert time.monotonic() - start < 2 * AT_THE_END.step_s + 60


def test_a_thread_that_is_given_up_takes_no_further_step():
    progress, hanging, ended = Progress(), threading.Event(), []

    def work() -> None:
        progress.step()
        hanging.wait()
        with pytest.raises(GivenUpError):
            progress.step()
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    assert progress.wait(thread, Patience(0.1, 60)) == "has not answered for 0.1 s"
    hanging.set()
    thread.join()
    assert ended


def test_a_server_that_is_merely_slow_has_the_whole_time_and_no_more():
    progress, ended = Progress(), threading.Event()

    def work() -> None:
        while not ended.wait(0.01):
            progress.step()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        assert progress.wait(thread, Patience(30, 0.3)) == "was not done after 0.3 s"
    finally:
        ended.set()
        thread.join()


def test_a_process_ends_although_a_pool_of_a_thread_that_was_left_behind_hangs():
    ended = subprocess.run(
        [sys.executable, "-c", HANGS_AND_LEAVES], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "told\n", "")


@pytest.mark.usefixtures("impatient")
def test_an_interrupted_run_does_not_wait_for_a_server_that_hangs(servers, begin, build, tmp_path, monkeypatch):
    from uasbench.benchmark.tracking import tracker as module

    monkeypatch.setattr(module, "INTERRUPTED", SHORT)
    with servers.bad_server("accepts and never answers") as uri:
        tracker = Tracker(uri, None)
        tracker.start(begin(tmp_path / "run", build(0), uri=uri).folder)
        tracker.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert "not answered" in (tracker.problem or "")
