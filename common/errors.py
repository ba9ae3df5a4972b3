"""Errors that a user can mend: each message names the file, the value found and the fix."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence


class UasbenchError(Exception):
    """Base of every refusal that ends a command with exit status 2 instead of a traceback."""


class DataError(UasbenchError):
    """A scan, a label file or a folder cannot be used as it is."""


def summary(error: BaseException, most: int = 300) -> str:
    """Return an error as one line of printable text: its type and the first line of its message."""
    name, lines = type(error).__name__, _message(error).strip().splitlines()
    return shortened(f"{name}: {lines[0]}" if lines else name, most)


def brief(error: BaseException, most: int = 300) -> str:
    """Return the message of a foreign error in one line of at most ``most`` characters; its type where it has none."""
    return shortened(_message(error), most) or type(error).__name__


def shortened(text: str, most: int = 300) -> str:
    """Return a foreign text as one printable line of at most ``most`` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def several(texts: Sequence[str], most: int = 5) -> str:
    """Return the first texts in a row, and how many more there are.

    >>> several(["a", "b"]), several(["a", "b", "c"], 1)
    ('a, b', 'a and 2 more')
    """
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def printable(text: str) -> str:
    r"""Return a text with its control characters spelled out, so that it changes no terminal and no file format.

    Line ends and tabs stay. Also spelled out is what turns the direction of writing, and half characters.

    >>> printable("\x1b[31mred\x07")
    '\\x1b[31mred\\x07'
    """
    if text.isprintable():
        return text
    return "".join(ascii(sign)[1:-1] if _changes_output(sign) else sign for sign in text)


def _changes_output(sign: str) -> bool:
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") and sign not in "\n\t\u200c\u200d"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the error of a plug-in whose own text fails
        return ""


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``; did you mean 'x'?`` with the known name most like a misspelt one, empty where none is."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
