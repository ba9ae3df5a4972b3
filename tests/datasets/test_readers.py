"""Readers that die, hang, print and never answer: what was being read is lost, and nothing else."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest
from uasbench.common.atomic import DiskError
from uasbench.datasets.readers import Lost, Readers

WORK = """
import ctypes, os, signal, sys, time
from pathlib import Path
from uasbench.common.atomic import DiskError
from uasbench.datasets.readers import printed

ENDS = {
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "null": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "oom": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "quiet": lambda: os._exit(0),
    "deaf": lambda: (os.closerange(3, 100), time.sleep(600)),
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "hang": lambda: time.sleep(600),
    "no pickle": lambda: (lambda: 0),
    "long": lambda: (_ for _ in ()).throw(ValueError("x\\x1b" * 9000)),
    "disk": lambda: (_ for _ in ()).throw(DiskError("the disk is full")),
}

def end(item):
    return ENDS[item]() if item in ENDS else item.upper()

def once(folder, item):
    mark = Path(folder, item)
    if item == "b" and not mark.exists():
        mark.touch()
        os.abort()
    return os.getpid()

def say(item):
    print("from python", item)
    os.write(2, b"from C\\n")
    return printed()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Functions in a module that readers can import."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "work_of_readers.py").write_text(WORK)
    sys.path.insert(0, str(folder))
    import work_of_readers

    yield work_of_readers
    sys.path.remove(str(folder))
    del sys.modules["work_of_readers"]


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("segfault", "the reader crashed (SIGSEGV)"),
        ("null", "the reader crashed (SIGSEGV)"),
        ("abort", "the reader crashed (SIGABRT)"),
        ("oom", "the reader was killed (SIGKILL); the memory may have run out"),
        ("quiet", "the reader ended with exit status 0 and no result"),
        ("deaf", "the reader "),
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("no pickle", "it cannot be pickled"),
        ("long", r"ValueError: x\x1bx\x1bx"),
    ],
)
def test_what_ends_a_reader_costs_the_item_that_it_had(work, way, reason, capfd):
    with Readers(2) as readers:
        found = dict(readers.work(work.end, ["a", way, "b", "c"]))
    assert {item: found.pop(item) for item in "abc"} == {"a": "A", "b": "B", "c": "C"}
    assert found[way].reason.startswith(reason)
    assert len(found[way].reason) <= 400
    assert capfd.readouterr() == ("", "")


def test_a_reader_that_hangs_is_stopped(work):
    with Readers(limit_s=3) as readers:
        found = dict(readers.work(work.end, ["hang", "a"]))
    assert found == {"hang": Lost("the reader was stopped after 3 s"), "a": "A"}


def test_a_full_disk_is_no_fault_of_an_item(work):
    with Readers() as readers, pytest.raises(DiskError, match="full"):
        list(readers.work(work.end, ["a", "disk", "b"]))


def test_an_item_that_does_no_harm_alone_is_innocent_and_readers_are_kept(work, tmp_path):
    with Readers() as readers:
        found = dict(readers.work(partial(work.once, str(tmp_path)), ["a", "b", "c", "d"]))
        assert len(set(found.values())) == 3, "one for a, one after the crash, one for the suspect"
        assert readers.one(work.end, "again") == "AGAIN"


def test_what_is_printed_stays_in_the_reader_and_can_be_asked(work, capfd):
    with Readers() as readers:
        found = dict(readers.work(work.say, ["a", "b"]))
    assert found == {item: f"from python {item}\nfrom C" for item in "ab"}
    assert capfd.readouterr() == ("", "")


def test_what_cannot_travel_is_lost_with_the_reason(work):
    with Readers() as readers:
        found = list(readers.work(work.end, ["a", lambda: 0]))
        assert [getattr(outcome, "reason", outcome)[:22] for _, outcome in found] == ["it cannot be pickled (", "A"]
        assert readers.one(lambda item: item, "a").reason.startswith("it cannot be pickled")


def test_a_function_that_a_reader_cannot_import_says_so(work, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "work0" not in path])
    with Readers() as readers:
        assert "No module named 'work_of_readers'" in readers.one(work.end, "a").reason


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_reader_outlives_its_parent(tmp_path, work, number):
    script = """
        import sys, os
        from functools import partial
        sys.path.insert(0, sys.argv[1])
        import work_of_readers
        from uasbench.datasets.readers import Readers
        with Readers(2) as readers:
            for item, outcome in readers.work(work_of_readers.end, ["a", "b", "hang", "hang"]):
                pids = [reader.process.pid for reader in readers._idle]
                print(*pids, flush=True)
    """
    folder = Path(work.__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    pids = {int(pid) for _ in range(2) for pid in process.stdout.readline().split()}
    time.sleep(0.2)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert pids
    deadline = time.monotonic() + 20
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert said.count(b"Traceback") == (number == signal.SIGINT), "that of the parent alone"


def test_readers_need_no_shared_memory(work, monkeypatch):
    def refuse(*_, **__):
        raise OSError(38, "Function not implemented")  # as where /dev/shm is missing

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    monkeypatch.setattr("multiprocessing.shared_memory.SharedMemory.__init__", refuse)
    with Readers(2) as readers:
        assert dict(readers.work(work.end, ["a", "b"])) == {"a": "A", "b": "B"}
