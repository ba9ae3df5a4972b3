"""The life of one worker process: silence, a lock on its stage, the stage, and an end when the parent ends."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from ...common.processes import end_with_parent
from .task import Progress

PROGRESS_EVERY_S = 0.2
ORPHANED = 70


def run_stage(text: str, progress: Progress) -> None:
    """Run a stage from the JSON form of its task, in this process.

    Raises:
        ValidationError: the text is not a task.
    """
    name = json.loads(text)["stage"]
    stage = importlib.import_module(f".{name}", __package__)
    task = getattr(stage, f"{name.capitalize()}Task").model_validate_json(text)
    stage.run(task, progress)


def work(text: str, connection: Connection, log: str, lock: str, gpu: str | None) -> None:
    """Run a stage from the JSON form of its task and report through ``connection``.

    Sends ``("progress", (done, total))``, then ``("done", None)`` or ``("error", message)``.
    """
    end_with_parent(connection, ORPHANED)
    os.environ.pop("UASBENCH_DATA", None)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    _redirect(Path(log))
    try:
        with Path(lock).open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            run_stage(text, _reporter(connection))
        connection.send(("done", None))
    except BaseException as error:
        traceback.print_exc()
        connection.send(("error", summary(error)))
        if not isinstance(error, Exception):
            raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def summary(error: BaseException) -> str:
    """Return an error as one line: its type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _redirect(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _reporter(connection: Connection) -> Progress:
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < PROGRESS_EVERY_S:
            return
        last = now
        connection.send(("progress", (done, total)))

    return report
