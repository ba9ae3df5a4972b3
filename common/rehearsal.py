"""Code of plug-ins is tried in a process of its own before it runs in the command, which its crash would end.

An exception needs no rehearsal: :func:`.foreign.contained` holds it where it is raised. A segmentation fault of an
extension, ``os._exit`` and a loop in compiled code can only be met from outside.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from .foreign import EndedItselfError
from .package import NAME, import_target, is_own, target_of
from .processes import die_with_parent, readable
from .zygote import Zygote

IMPORT_S = 300.0
GRACE_S = 5.0

_apart = False


def rehearse(limit_s: float | None, target: str, *arguments: Any) -> None:
    """Call ``target(*arguments)``, plain values of JSON, in a forked process; what it returns, raises, prints is lost.

    Raises:
        EndedItselfError: the call ended the process, or did not come back within its limit.
    """
    survived, theirs = os.pipe()
    try:
        call = f"{__name__}:{_attempt.__name__}"
        worker = _zygote().start(call, [limit_s, target, list(arguments)], [theirs])
    except BaseException:
        os.close(survived)
        raise
    finally:
        os.close(theirs)
    try:
        if not readable([worker], None if limit_s is None else limit_s + GRACE_S):
            raise EndedItselfError(_how(-signal.SIGALRM, limit_s))  # it has turned the alarm off
        if not (readable([survived], 0) and os.read(survived, 1)):
            _zygote().settle(worker)
            raise EndedItselfError(_how(worker.status, limit_s))
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.close()
        os.close(survived)


def needless() -> None:
    """Say that this process is one whose end costs a stage and no more: imports need no rehearsal any more."""
    global _apart
    _apart = True


def rehearse_import(target: str) -> None:
    """Import ``module:attribute`` of a plug-in in a forked process.

    Raises:
        EndedItselfError: as :func:`rehearse`.
    """
    if not is_own(target) and not _apart:
        rehearse(IMPORT_S, f"{import_target.__module__}:{import_target.__name__}", target)


def rehearse_class(cls: type, limit_s: float | None, function: Callable[..., object], *arguments: Any) -> None:
    """Call ``function(target, *arguments)`` for the class of a plug-in in a forked process.

    Raises:
        EndedItselfError: as :func:`rehearse`.
    """
    if not is_own(target_of(cls)):
        rehearse(limit_s, f"{function.__module__}:{function.__name__}", target_of(cls), *arguments)


def _attempt(limit_s: float | None, target: str, arguments: list[Any], survived: int) -> None:
    die_with_parent()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2) if limit_s is not None else (1,):  # without a limit it may download, and shows how far it is
        os.dup2(nowhere, number)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends compiled code as well
    signal.setitimer(signal.ITIMER_REAL, limit_s or 0)
    with suppress(BaseException):
        import_target(target)(*arguments)
    os.write(survived, b"!")


def _how(status: int | None, limit_s: float | None) -> str:
    if status == -signal.SIGALRM and limit_s is not None:
        return f"it did not come back within {limit_s:.0f} s"
    if status is None:
        return "it ends the interpreter and others with it"
    return f"it ends the interpreter ({signal.Signals(-status).name if status < 0 else f'exit status {status}'})"


@cache
def _zygote() -> Zygote:
    """Return what forks rehearsals, for the rest of this process; it imports what this process has imported."""
    return Zygote(["torch", *(name for name in sys.modules if name.startswith(f"{NAME}."))])
