"""The life of a worker process: silence, a lock on its stage, and the stage, whose method runs in one apart."""

import fcntl
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from ...common import rehearsal
from ...common.atomic import DiskError, open_no_link, write_text
from ...common.errors import summary
from ...common.processes import readable, redirect_output
from .. import node_kind
from .apart import Apart, StageError
from .task import Progress, RunInside
from .wall import SECRETS

STATE_EVERY_S = 5.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_stage(text: str, run_inside: RunInside) -> None:
    """Run a stage from the JSON form of its task.

    Raises:
        ValidationError: the text is not a task.
        NodeKindError: it must not run on this kind of node.
    """
    values = json.loads(text)
    if (kind := values.pop(node_kind.NODE_KIND, None)) is not None:
        node_kind.require(Path(kind), values)
        text = json.dumps(values)
    name = values["stage"]
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


def work_file(task: str, result: str, log: str, lock: str, submitter: int | None = None) -> None:
    """Run a stage from a file with the JSON form of its task and leave ``{"error": message or null}`` in another.

    While it runs, :func:`state_of` tells ``{"host": name, "progress": [done, total] or null}``. Where ``submitter`` is
    a descriptor, its end ends the stage.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    state, told, host = state_of(Path(result)), 0.0, os.uname().nodename

    def tell(done: int | None = None, total: int = 0) -> None:
        nonlocal told
        if done is None or time.monotonic() - told >= STATE_EVERY_S:
            told = time.monotonic()
            with suppress(OSError, DiskError):  # nobody's result depends on it
                write_text(state, json.dumps({"host": host, "progress": None if done is None else [done, total]}))

    tell()
    error = _alone(Path(task).read_text(encoding="utf-8"), tell, Path(log), Path(lock), submitter)
    write_text(Path(result), json.dumps({"error": error}))


def work_leashed(task: str, result: str, log: str, lock: str, leash: int) -> None:
    """Do as :func:`work_file` in a session of its own, which ends once the other end of a pipe is closed."""
    os.setsid()
    os.dup2(leash, 0)
    os.close(leash)
    _end_with_input()  # while it waits for the lock; later a library may swallow what a signal raises
    work_file(task, result, log, lock, submitter=0)


def state_of(result: Path) -> Path:
    """Return the file that tells how a stage stands whose result will be in another."""
    return result.with_suffix(".state")


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


def _end_with_input() -> None:
    """Have the kernel send SIGTERM once the other end of standard input, a pipe, is closed, whatever runs then."""
    signal.signal(signal.SIGTERM, _stop)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if readable([0], 0):  # it was closed before
        raise SystemExit(128 + signal.SIGTERM)


def _stop(number: int, _: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    if any(name in os.environ for name in SECRETS):  # also what a process started with can be read by what it forks
        environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
        os.execve(sys.executable, [sys.executable, "-P", "-m", __spec__.name, *sys.argv[1:]], environment)  # noqa: S606
    os.environ.update(dict.fromkeys(THREADS, "1"))  # as where workers are forked: a stage sets its own thread count
    _task, _result, _log, _lock = sys.argv[1:5]
    work_file(_task, _result, _log, _lock)
