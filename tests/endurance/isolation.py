"""A function in a process of its own, forked from this one: what it may do to itself ends there."""

import multiprocessing as mp
import os
import resource
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

GIB = 2**30


class EndedError(AssertionError):
    """The process ended before it had an answer, or was ended because it had none in time."""


def isolated(function: Callable[..., Any], *arguments: Any, seconds: float, gib: int = 8) -> Any:
    """Return what a function returns, with limits for time and memory.

    Raises:
        EndedError: it crashed, left its process, or was too slow.
    """
    ours, theirs = mp.Pipe(duplex=False)
    process = mp.get_context("fork").Process(target=_call, args=(theirs, gib, function, arguments))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise EndedError(f"no end after {seconds:g} s")
        with suppress(EOFError):
            return ours.recv()
        process.join()
        code = process.exitcode or 0
        raise EndedError(f"ended by {signal.Signals(-code).name}" if code < 0 else f"left with exit status {code}")
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        ours.close()


def _call(answer: Connection, gib: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (gib * GIB, gib * GIB))
    try:
        answer.send(function(*arguments))
    except BaseException:
        traceback.print_exc()
        os._exit(70)
    os._exit(0)
