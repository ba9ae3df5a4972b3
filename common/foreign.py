"""Code of plug-ins that runs inside the command: whatever it raises, it ends itself and nothing else."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class EndedItselfError(Exception):
    """Code of a plug-in tried to end the program."""


@contextmanager
def contained() -> Iterator[None]:
    """Let a block raise exceptions, and ``KeyboardInterrupt`` where a person pressed Ctrl-C, but nothing that exits.

    Raises:
        EndedItselfError: in place of SystemExit, a KeyboardInterrupt that nobody asked for, and their like.
    """
    with _watched() as pressed:
        try:
            yield
        except Exception:  # stays what it is: only what would exit is turned into an error
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and pressed:
                raise
            text = f"it raised {type(error).__name__}"
            raise EndedItselfError(f"{text}({error.code!r})" if isinstance(error, SystemExit) else text) from error


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Give a list that is empty until Ctrl-C is pressed; only the main thread hears of it."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed
        return

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
