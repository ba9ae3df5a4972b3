"""The life of one worker process: silence, a lock on its stage, the stage, and an end when the parent ends."""

import fcntl
import importlib
import json
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from ...common.atomic import open_no_link, write_text
from ...common.errors import summary
from ...common.processes import end_with_parent, redirect_output
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


def work(text: str, connection: Connection, log: Path, lock: Path, gpu: str | None) -> None:
    """Run a stage from the JSON form of its task and report through ``connection``, with whose other end it ends.

    Sends ``("progress", (done, total))``, then ``("done", None)`` or ``("failed", message)``.
    """
    end_with_parent(connection, ORPHANED)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    error = _alone(text, _reporter(connection), log, lock)
    connection.send(("done", None) if error is None else ("failed", error))


def work_file(task: Path, result: Path, log: Path, lock: Path) -> None:
    """Run a stage from a file with the JSON form of its task and leave ``{"error": message or null}`` in another."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    error = _alone(task.read_text(encoding="utf-8"), lambda done, total: None, log, lock)
    write_text(result, json.dumps({"error": error}))


def _alone(text: str, progress: Progress, log: Path, lock: Path) -> str | None:
    os.environ.pop("UASBENCH_DATA", None)
    log.unlink(missing_ok=True)
    redirect_output(log)
    try:
        with open_no_link(lock) as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            run_stage(text, progress)
    except BaseException as error:
        traceback.print_exc()
        return summary(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return None


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


if __name__ == "__main__":
    work_file(*map(Path, sys.argv[1:]))
