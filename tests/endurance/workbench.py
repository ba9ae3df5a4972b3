"""A finished run and its cache at fixed places, mended after each trial, and commands on them in this process."""

import io
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from .bits import numbers_sent, tables
from .commands import Bench, Whole

COMMANDS = ("run", "report", "clean", "compare", "rescore", "track", "status")
REBUILDING = ("run", "report", "rescore", "run elsewhere")


class Answer(NamedTuple):
    """What a command did: exit status (None is a traceback), what it printed, the numbers that it left or showed."""

    status: int | None
    said: str
    numbers: object


class Workbench:
    """Two folders that may be damaged: ``run`` and ``cache``; the files of a run's own MLflow server are left out."""

    def __init__(self, bench: Bench, whole: Whole, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        self.run, self.cache = folder / "run", folder / "cache"
        # The plans of the cells name places, so that a copy has to run once at its own.
        for part, path in ((whole.run, self.run), (whole.cache, self.cache)):
            shutil.copytree(part, path)
        assert self.call("run").status == 0
        shutil.rmtree(self.run / "mlruns", ignore_errors=True)
        for part in (self.run, self.cache):
            shutil.copytree(part, self._whole(part))

    def mend(self) -> None:
        """Bring both folders back to what they were."""
        for part in (self.run, self.cache):
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(self._whole(part), part)
        for scratch in ("elsewhere", "server.db"):
            path = self.folder / scratch
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def files(self, part: Path) -> list[str]:
        """Return the files of a folder, those of the cards' index apart, which is no part of the store."""
        whole = self._whole(part)
        found = (p for p in whole.rglob("*") if p.is_file() and p.name not in ("lock", "cards.json"))
        return sorted(p.relative_to(whole).as_posix() for p in found)

    def call(self, command: str) -> Answer:
        """Run a command on the folders, in this process."""
        out, server = self.run, self.folder / "server.db"
        if command == "run elsewhere":
            out = self.folder / "elsewhere"
        words = self.bench.run(out, self.cache, workers=1) if command.startswith("run") else [command, str(out)]
        if command == "compare":
            words += ["--reference", "hu-deviation"]
        if command == "track":
            shutil.copyfile(self.bench.tables, server)
            words += ["--tracking-uri", f"sqlite:///{server}"]
        status, said = _bench(self.bench, words)
        numbers: object = None
        if status == 0 and command in REBUILDING:
            numbers = tables(out)
        elif command == "compare":
            numbers = said
        elif command == "track":
            numbers = numbers_sent(server)
        failed = out / "tables" / "failures.csv"
        if status == 3 and failed.exists():
            said += failed.read_text(encoding="utf-8", errors="replace")
        return Answer(status, said, numbers)

    def _whole(self, part: Path) -> Path:
        return self.folder / "whole" / part.name


def _bench(bench: Bench, words: list[str]) -> tuple[int | None, str]:
    from uasbench.benchmark.tracking import mirror
    from uasbench.cli import main
    from uasbench.reports import build
    from uasbench.reports.figures.pictures import Pictures

    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(build, "draw", lambda *_: Pictures())
        patch.setattr(mirror, "lay_out", lambda file: shutil.copyfile(bench.tables, file))
        patch.setattr(sys, "argv", ["bench", *words])
        patch.setenv("COLUMNS", "500")
        try:
            main()
            status: int | None = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except Exception as error:
            trace = error.__traceback__
            while trace and trace.tb_next:
                trace = trace.tb_next
            where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
            status = None
            printed.write(f"\n{type(error).__name__} at {where}: {error}")
    return status, printed.getvalue()
