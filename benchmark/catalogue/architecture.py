"""The table of architecture figures in ``docs/architecture.md``: the references and the ``paper`` profiles here."""

from __future__ import annotations

from collections.abc import Iterable
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
            made = size(known.get(name)) or "planned from the data"
            figures = {what: _phrase(reference, here, made) for what, reference, here in card.figures}
            lines.append(_row((f"`{name}`", *(figures.get(what, "") for what in FIGURE_NAMES))))
    return "\n".join(lines)


def update(path: Path) -> None:
    """Renew the table between the two marks of a Markdown file.

    Raises:
        DataError: a mark is missing.
    """
    before, start, rest = path.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise DataError(f"no table can be written: {path} needs a line {START} and, below it, a line {END}")
    path.write_text(f"{before}{START}\n{table()}\n{END}{after}", encoding="utf-8")


def size(cls: type[Method], profile: str = "paper") -> str:
    """Return the number of parameters of a profile's networks, empty where training creates them.

    Pretrained backbones are made with random weights, so that none need be at hand.
    """
    pretrained = any(field.name == "weights" for field in fields(cls.Config))
    config = resolve(cls.Config, profile, settings={"weights": "random"} if pretrained else None)
    count, members = count_parameters(cls, config), cls(config).members
    return (f"{count:,}" + (f" × {members}" if members else "")) if count else ""


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


def _phrase(reference: str, here: str, size: str) -> str:
    """Parameters, which are counted here, have an arrow only where a reference prints a count."""
    shown = here or size
    return shown if reference == here or (reference == "n/p" and not here) else f"{reference} → {shown}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
