"""The life of a worker process: silence, a lock on its stage, and the stage, whose method runs in one apart."""

import fcntl
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

from ...common import rehearsal
from ...common.atomic import open_no_link, write_text
from ...common.errors import summary
from ...common.processes import redirect_output
from .apart import Apart, StageError
from .task import Progress, RunInside
from .wall import SECRETS

ORPHANED = 70


def run_stage(text: str, run_inside: RunInside) -> None:
    """Run a stage from the JSON form of its task.

    Raises:
        ValidationError: the text is not a task.
    """
    name = json.loads(text)["stage"]
    stage = importlib.import_module(f".{name}", __package__)
    task = getattr(stage, f"{name.capitalize()}Task").model_validate_json(text)
    stage.run(task, run_inside)


def work(text: str, log: str, lock: str, gpu: str | None, submitter: int) -> None:
    """Run a stage from the JSON form of its task, and report to the socket of its submitter, with whose end it ends.

    A report is a line of JSON: ``["progress", [done, total]]``, then ``["done", null]`` or ``["failed", message]``.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with socket.socket(fileno=submitter) as reports:

        def tell(kind: str, value: object = None) -> None:
            reports.sendall(json.dumps([kind, value]).encode() + b"\n")

        error = _alone(text, lambda *done: tell("progress", done), Path(log), Path(lock), submitter)
        tell("done") if error is None else tell("failed", error)


def work_file(task: Path, result: Path, log: Path, lock: Path) -> None:
    """Run a stage from a file with the JSON form of its task and leave ``{"error": message or null}`` in another."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    error = _alone(task.read_text(encoding="utf-8"), lambda done, total: None, log, lock)
    write_text(result, json.dumps({"error": error}))


def _alone(text: str, progress: Progress, log: Path, lock: Path, submitter: int | None = None) -> str | None:
    rehearsal.needless()
    for name in SECRETS:
        os.environ.pop(name, None)
    signal.signal(signal.SIGTERM, _stop)
    log.unlink(missing_ok=True)
    redirect_output(log)
    try:
        with open_no_link(lock) as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            run_stage(text, Apart(progress, submitter))
    except StageError as error:
        return str(error)
    except SystemExit:
        raise
    except BaseException as error:
        traceback.print_exc()
        return summary(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return None


def _stop(number: int, _: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    if any(name in os.environ for name in SECRETS):  # also what a process started with can be read by what it forks
        environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
        os.execve(sys.executable, [sys.executable, "-P", "-m", __spec__.name, *sys.argv[1:]], environment)  # noqa: S606
    work_file(*map(Path, sys.argv[1:]))
