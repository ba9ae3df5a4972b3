"""Forking on request: arguments, descriptors, ends, and a zygote that dies."""

import os
import select
import signal
import sys
import time
from pathlib import Path

import pytest
from uasbench.common.zygote import Zygote, ZygoteError

HERE = "zygote_work"
WORK = """
import os, signal, subprocess, sys, time

def write(text, descriptor):
    os.write(descriptor, text.encode())

def environment(descriptor):
    seen = "HIDDEN_FROM_WORK" in os.environ or "HIDDEN_FROM_WORK" in open("/proc/self/environ").read()
    os.write(descriptor, b"SECRET" if seen else b"clean")

def leave(status):
    sys.exit(status)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def orphan(descriptor):
    child = subprocess.Popen(["sleep", "600"])
    os.write(descriptor, str(child.pid).encode())
    os.kill(os.getpid(), signal.SIGKILL)

def wait():
    time.sleep(600)

def kill_parent():
    time.sleep(0.5)  # after the parent has said that it runs
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
"""


@pytest.fixture
def zygote(tmp_path, monkeypatch):
    """A zygote whose workers find the functions above."""
    (tmp_path / f"{HERE}.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HIDDEN_FROM_WORK", "label")
    made = Zygote(["json", "no_such_module"], hidden={"HIDDEN_FROM_WORK"})
    yield made
    made.close()


def answer(zygote, function, *arguments):
    """Start a worker with the end of a pipe; return what it writes, and the worker."""
    ours, theirs = os.pipe()
    worker = zygote.start(f"{HERE}:{function}", arguments, [theirs])
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    return text, worker


def status(zygote, worker):
    assert select.select([worker], [], [], 60)[0], "the worker did not end"
    zygote.settle(worker)
    return worker.status


@pytest.mark.parametrize("length", [100, 180])
def test_work_starts_however_long_the_name_of_the_temporary_folder(zygote, tmp_path, monkeypatch, length):
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * length)))
    assert answer(zygote, "write", "up")[0] == "up"


def test_work_gets_arguments_and_descriptors(zygote):
    text = "é" * 10_000
    said, worker = answer(zygote, "write", text)
    assert said == text
    assert status(zygote, worker) == 0


def test_what_is_hidden_is_not_even_in_what_work_started_with(zygote):
    assert answer(zygote, "environment")[0] == "clean"


def test_every_end_is_seen(zygote):
    assert status(zygote, zygote.start(f"{HERE}:leave", [7])) == 7
    assert status(zygote, zygote.start(f"{HERE}:die", [])) == -signal.SIGKILL
    assert status(zygote, zygote.start(f"{HERE}:no_such_function", [])) == 1
    waiting = zygote.start(f"{HERE}:wait", [])
    assert not select.select([waiting], [], [], 0)[0]
    waiting.send_signal(signal.SIGTERM)
    assert status(zygote, waiting) == -signal.SIGTERM


def test_what_a_killed_worker_leaves_behind_is_ended(zygote):
    pid, worker = answer(zygote, "orphan")
    status(zygote, worker)
    deadline = time.monotonic() + 60
    while alive(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_takes_the_place_of_one_that_died(zygote):
    worker = zygote.start(f"{HERE}:kill_parent", [])
    zygote._process.wait()
    assert answer(zygote, "write", "again")[0] == "again"
    assert not select.select([worker], [], [], 0)[0], "a worker ended with its zygote"
    worker.send_signal(signal.SIGKILL)
    assert select.select([worker], [], [], 60)[0]
    assert worker.status is None


def test_one_that_cannot_live_is_given_up(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ZygoteError, match="died 3 times"):
        Zygote().start("json:dumps", [1])


def alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
