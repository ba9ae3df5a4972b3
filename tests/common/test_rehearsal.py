"""Rehearsals: what comes back is let pass, and whatever ends the interpreter ends a process that nobody needs."""

import os
import subprocess
import sys
import time

import psutil
import pytest
from uasbench.common import rehearsal
from uasbench.common.foreign import EndedItselfError
from uasbench.common.rehearsal import rehearse, rehearse_import

WORK = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path

def harmless(kind):
    print("seen", flush=True), os.write(2, b"seen")
    if kind == "raises":
        raise BaseException
    if kind == "exits":
        sys.exit(3)

def ends():
    os._exit(0)

def crashes():
    ctypes.string_at(0)

def sleeps():
    ctypes.CDLL(None).sleep(600)

def leaves(file):
    Path(file).write_text(str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid))

def turns_the_alarm_off():
    signal.alarm(0)
    time.sleep(600)

def kills_whoever_forked_it():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
"""


def ended(pid: int) -> None:
    """Wait until a process is gone."""
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    (tmp_path / "rehearsed.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("kind", ["returns", "raises", "exits"])
def test_what_comes_back_is_let_pass_and_says_nothing(capfd, kind):
    rehearse(60, "rehearsed:harmless", kind)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("function", "limit", "message"),
    [
        ("ends", None, r"^it ends the interpreter \(exit status 0\)$"),
        ("crashes", None, r"^it ends the interpreter \(SIGSEGV\)$"),
        ("sleeps", 0.5, r"^it did not come back within 0 s$"),
        ("turns_the_alarm_off", 0.5, r"^it did not come back within 0 s$"),
        ("kills_whoever_forked_it", None, "^it ends the interpreter"),
    ],
)
def test_what_does_not_come_back_is_told(function, limit, message, monkeypatch):
    monkeypatch.setattr(rehearsal, "GRACE_S", 0.5)
    with pytest.raises(EndedItselfError, match=message):
        rehearse(limit, f"rehearsed:{function}")
    rehearse(None, "rehearsed:harmless", "after it")


def test_what_it_starts_ends_with_it(tmp_path):
    rehearse(None, "rehearsed:leaves", str(tmp_path / "pid"))
    ended(int((tmp_path / "pid").read_text()))


def test_only_code_of_others_is_rehearsed_and_it_ends_with_its_command(monkeypatch):
    code = (
        "import os, signal; from uasbench.common import rehearsal\n"
        "rehearsal.rehearse_import('rehearsed:ends')\n"
        "print(rehearsal._zygote()._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path, check=False)
    ended(int(done.stdout))
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_: pytest.fail("rehearsed"))
    rehearse_import("uasbench.methods.method:Method")
