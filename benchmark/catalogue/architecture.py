"""The table of architecture figures in ``docs/architecture.md``: the references and the ``paper`` profiles here."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.errors import DataError
from ...methods.card import FIGURE_NAMES
from ...methods.config import resolve
from . import registry

if TYPE_CHECKING:
    from ...methods.method import Method

START, END = "<!-- architecture -->", "<!-- /architecture -->"


def table() -> str:
    """Return the table of the ``paper`` profiles as Markdown: one row per learned built-in method, top lines last.

    Parameters are counted in networks that are made for it, those of pretrained backbones with random weights. Where a
    reference has another figure, it stands before an arrow.
    """
    known = registry.runnable()
    lines = [_row(("method", *FIGURE_NAMES)), _row(["---"] * (1 + len(FIGURE_NAMES)))]
    for name, card in known.cards().items():
        if known.entry(name).built_in and not card.trivial:
            phrases = dict.fromkeys(FIGURE_NAMES, "") | {what: _phrase(*both) for what, *both in card.figures}
            phrases["parameters"] = _with_reference(card.figures, size(known.get(name)) or "planned from the data")
            lines.append(_row((f"`{name}`", *phrases.values())))
    return "\n".join(lines)


def rewritten(text: str) -> str:
    """Return a document with the table between its two marks renewed.

    Raises:
        DataError: a mark is missing.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise DataError(f"no table can be written: the document needs a line {START} and, below it, a line {END}")
    return f"{before}{START}\n{table()}\n{END}{after}"


def update(path: Path) -> None:
    """Renew the table in a file.

    Raises:
        DataError: the file has no marks.
    """
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


def count_parameters(cls: type[Method], config: Any) -> int:
    """Return the number of parameters of the networks of a method, 0 where training creates them.

    Networks are made without memory for their weights where they can be; those that read values while they are made
    get it.
    """
    import torch

    from ...methods.state import parameter_count

    def count(device: str) -> int:
        method = cls(config)
        with torch.device(device):
            method.build()
        return parameter_count(method)

    try:
        return count("meta")
    # Torch's answers to reading a value that a meta tensor has not; a fault of the method comes again with memory.
    except (NotImplementedError, RuntimeError):
        return count("cpu")


def size(cls: type[Method], profile: str = "paper") -> str:
    """Return the number of parameters of a profile's networks, empty where training creates them.

    Pretrained backbones are made with random weights, so that none need be at hand.
    """
    pretrained = any(field.name == "weights" for field in fields(cls.Config))
    config = resolve(cls.Config, profile, settings={"weights": "random"} if pretrained else None)
    count = count_parameters(cls, config)
    members = cls(config).members
    return (f"{count:,}" + (f" × {members}" if members else "")) if count else ""


def _with_reference(figures: tuple[tuple[str, str, str], ...], size: str) -> str:
    """A count is known of no reference but those that print one."""
    printed = next((reference for what, reference, _ in figures if what == "parameters"), "n/p")
    return size if printed == "n/p" else _phrase(printed, size)


def _phrase(reference: str, here: str) -> str:
    return here if reference == here else f"{reference} → {here}"


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
