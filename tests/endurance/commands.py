"""``bench`` in a process of its own: started, looked into, ended, with nothing of it left over."""

import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

MARK = "UASBENCH_ENDURANCE_PROCESS"
LEFT_AFTER_S = 15
ENDS_WITHIN_S = 300
WHOLE = "from uasbench.cli import main\nmain()\n"
# Without what a tiny run spends most of its time on: figures, and the migrations of an MLflow database.
LIGHT = """
import shutil
from uasbench.benchmark.tracking import mirror
from uasbench.cli import main
from uasbench.reports import build
from uasbench.reports.figures.pictures import Pictures
build.draw = lambda *_: Pictures()
def lay_out(file):
    for left in file.parent.glob(f".{file.name}.*.tmp"):
        shutil.rmtree(left)
    shutil.copyfile({tables!r}, file)
mirror.lay_out = lay_out
main()
"""
# The stages alone: neither tables nor tracking.
BARE = """
import sys
from uasbench import api
from uasbench.benchmark.commands import running
from uasbench.cli import main
def execute(options, console=None):
    sys.exit(3 if running.run(options, console=console)[1] else 0)
api.execute = execute
main()
"""


@dataclass(frozen=True)
class Bench:
    """The run that trials disturb: where its data lie and what it computes."""

    data: Path
    tables: Path
    methods: str = "hu-deviation,random,ae"
    seeds: int = 2
    extra: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, out: Path, cache: Path, *, workers: int = 2) -> list[str]:
        """Return the words of ``bench run``."""
        words = ["run", "--methods", self.methods, "--dataset", "lits", "--data-root", str(self.data)]
        words += ["--profile", "smoke", "--seeds", str(self.seeds), "--trials", "2", "--workers", str(workers)]
        return [*words, "--cache", str(cache), "--out", str(out), *self.extra]

    def start(self, words: list[str], log: Path, *, script: str = LIGHT) -> "Started":
        """Start a command in a session of its own; what it prints goes to the end of ``log``."""
        mark = uuid.uuid4().hex
        surroundings = {**os.environ, **self.environment, MARK: mark, "PYTHONSAFEPATH": "1"}
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", script.replace("{tables!r}", repr(str(self.tables))), *words],
                **{"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL, "cwd": log.parent},
                env=surroundings,
                start_new_session=True,
            )
        return Started(process, mark, log)

    def finish(self, words: list[str], log: Path, *, script: str = LIGHT) -> int:
        """Run a command to its end and return its exit status."""
        return self.start(words, log, script=script).ended()


class Whole(NamedTuple):
    """A run that nothing disturbs: its folder and bits, its prepared data, and how long it took from a cold cache."""

    run: Path
    cache: Path
    bits: dict[str, str]
    seconds: float


@dataclass
class Started:
    """A command that was started, and the processes that belong to it."""

    process: subprocess.Popen
    mark: str
    log: Path

    def family(self) -> list[psutil.Process]:
        """Return every living process of the command, also one that has lost its parent."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it has just ended, or is the kernel's
        return found

    def itself(self) -> list[psutil.Process]:
        return [psutil.Process(self.process.pid)] if self.process.poll() is None else []

    def zygotes(self) -> list[psutil.Process]:
        """Return the process that workers are forked from, where it runs."""
        return [p for p in _children(self.process.pid) if "uasbench.common.zygote" in _command(p)]

    def workers(self) -> list[psutil.Process]:
        """Return the supervisors of stages."""
        return [worker for zygote in self.zygotes() for worker in _children(zygote.pid)]

    def methods(self) -> list[psutil.Process]:
        """Return the processes behind a wall, which run the code of methods."""
        return [inner for worker in self.workers() for inner in _children(worker.pid)]

    def ended(self, within_s: float = ENDS_WITHIN_S) -> int:
        """Wait for the end and return the exit status; a command that goes on is killed and is a fault."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the command had not ended after {within_s:g} s") from None

    def kill(self) -> None:
        """Kill every process of the command."""
        for process in self.family():
            process.kill()
        self.process.kill()
        self.process.wait()

    def gone(self) -> None:
        """Wait until no process is left; one that stays is killed and is a fault."""
        deadline = time.monotonic() + LEFT_AFTER_S
        while left := self.family():
            if time.monotonic() > deadline:
                names = [" ".join(p.cmdline())[:80] for p in left]
                self.kill()
                raise AssertionError(f"left after {LEFT_AFTER_S} s: {names}")
            time.sleep(0.1)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
