"""What is no competitor of a method that learns from healthy scans alone: the marks that follow its name."""

from __future__ import annotations

from collections.abc import Container, Iterable

KINDS = {
    "topline": "§ supervised top line: it learned from lesion labels, and is a reference.",
    "transductive": "¶ its training saw the test scans, without labels.",
}


def kind_marks(flags: Container[str]) -> str:
    """Return the marks of a method with these flags, the same in every table and figure."""
    return "".join(sentence[0] for flag, sentence in KINDS.items() if flag in flags)


def kind_sentences(flags_of_rows: Iterable[Container[str]]) -> list[str]:
    """Return the sentences that explain the marks of some rows."""
    rows = list(flags_of_rows)
    return [sentence for flag, sentence in KINDS.items() if any(flag in flags for flags in rows)]
