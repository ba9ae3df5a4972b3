"""Errors that a user can mend: each message names the file, the value found and the fix."""

import difflib
from collections.abc import Iterable


class UasbenchError(Exception):
    """Base of every refusal that ends a command with exit status 2 instead of a traceback."""


class DataError(UasbenchError):
    """A scan, a label file or a folder cannot be used as it is."""


def summary(error: BaseException) -> str:
    """Return an error as one line: its type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def brief(error: BaseException, most: int = 300) -> str:
    """Return the message of a foreign error in one line of at most ``most`` characters; its type where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 1]}…"


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``; did you mean 'x'?`` with the known name most like a misspelt one, empty where none is."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
