"""What ``bench list`` shows: registered methods and data sets, broken plug-ins with their reason, experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from ...methods import online as network
from ..catalogue import registry
from ..catalogue.outline import missing_packages, status_of

if TYPE_CHECKING:
    from rich.table import Table

    from ...datasets.dataset import Dataset
    from ...methods.method import Method


def methods() -> Table:
    """Return methods and top lines as a table, each with what it needs and whether it can run here.

    A method is imported only where its source is new or it has a ``skip`` of its own, which must be asked.
    """
    known = registry.runnable()
    table = _table("name", "family", "year", "supervision", "dims", "anatomy", "needs", "status")
    for name, card in known.cards().items():
        outline = known.outline(name)
        status = missing_packages(outline.packages) or (_status(known.get(name)) if outline.declines else "ok")
        cells = (
            name, card.family, str(card.year or ""), card.supervision, outline.dims, ", ".join(card.anatomy),
            ", ".join(outline.needs), status + _origin(known.entry(name)),
        )  # fmt: skip
        table.add_row(*map(Text, cells))
    _add_broken(table, known.broken())
    known.write_index()
    return table


def datasets() -> Table:
    """Return the data sets as a table: name, title, anatomy, role, partner, truth, licence."""
    known = registry.datasets()
    table = _table("name", "title", "anatomy", "role", "partner", "truth", "licence")
    for name, card in known.cards().items():
        table.add_row(name, card.title, card.anatomy, card.role, card.partner or "", card.truth, card.licence)
    _add_broken(table, known.broken())
    return table


def experiments() -> Table:
    """Return the shipped experiments as a table."""
    from ..experiments import load, names

    table = _table("name", "title", "test set", "rows", "profile")
    for name in names():
        plan = load(name)
        rows = ", ".join([*(m for m in [plan.methods] if m), *(f"{r.method}@{r.label}" for r in plan.variants)])
        table.add_row(name, plan.title, plan.dataset, rows, plan.profile)
    return table


def dataset_adapters(chosen: str | None = None) -> Mapping[str, Dataset]:
    """Return fresh adapters by name: the ones chosen with a comma list, or all that can be used."""
    known = registry.datasets()
    selected = known.select(chosen) if chosen else list(known.cards())
    return {name: known.get(name)() for name in selected}


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")  # a name is typed again: it stays whole
    return table


def _status(cls: type[Method]) -> str:
    """Return the first sentence of why a method declines; ``bench show`` says the rest, and may ask the network."""
    with network.forbidden():
        return status_of(cls).partition(". ")[0]


def _origin(entry: registry.Entry) -> str:
    return "" if entry.built_in else f", plug-in {entry.distribution}"


def _add_broken(table: Table, broken: Mapping[str, str]) -> None:
    for name, reason in broken.items():
        cells = [name, Text(f"broken: {reason}", style="red"), *[""] * (len(table.columns) - 2)]
        table.add_row(*cells)
