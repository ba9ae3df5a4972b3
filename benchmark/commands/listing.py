"""What ``bench list`` shows: registered methods and data sets, broken plug-ins with their reason, experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..catalogue import registry
from ..catalogue.outline import missing_packages, status_of
from ..catalogue.rates import rates, shown
from ..catalogue.showing import table_of

if TYPE_CHECKING:
    from rich.table import Table

    from ...datasets.dataset import Dataset


def methods() -> Table:
    """Return methods and top lines as a table, each with what it needs and whether it can run here.

    The hours are those of a cell at the profiles quick, standard and paper, where they are known (``rates.yaml``). A
    method is imported only where its source is new or it has a ``skip`` of its own, which must be asked.
    """
    known = registry.runnable()
    rows = []
    for name, card in known.cards().items():
        outline, entry = known.outline(name), known.entry(name)
        status = missing_packages(outline.packages)
        if status is None:  # the first sentence of why it declines; ``bench show`` says the rest
            status = status_of(known.get(name)).partition(". ")[0] if outline.declines else "ok"
        origin = "" if entry.built_in else f", plug-in {entry.distribution}"
        about = (name, card.family, str(card.year or ""), card.supervision, outline.dims)
        costs = (shown(rates().hours(name, device)) for device in ("cpu", "gpu"))
        rows.append((*about, ", ".join(card.anatomy), *costs, ", ".join(outline.needs), status + origin))
    known.write_index()
    columns = (
        "name",
        "family",
        "year",
        "supervision",
        "dims",
        "anatomy",
        "core-h q/s/p",
        "GPU-h q/s/p",
        "needs",
        "status",
    )
    return table_of(columns, rows, broken=known.broken())


def datasets() -> Table:
    """Return the data sets as a table: name, title, anatomy, role, partner, truth, licence."""
    known = registry.datasets()
    columns = ("name", "title", "anatomy", "role", "partner", "truth", "licence")
    rows = [[getattr(card, column) or "" for column in columns] for card in known.cards().values()]
    known.write_index()
    return table_of(columns, rows, broken=known.broken())


def experiments() -> Table:
    """Return the shipped experiments as a table."""
    from ..experiments import load, names

    rows = []
    for name, plan in ((name, load(name)) for name in names()):
        named = (part.strip() for part in plan.methods.split(","))
        labels = ", ".join(filter(None, [*named, *(f"{row.method}@{row.label}" for row in plan.variants)]))
        rows.append((name, plan.title, plan.dataset.replace(",", ", "), labels, plan.profile))
    return table_of(("name", "title", "test set", "rows", "profile"), rows)


def dataset_adapters(chosen: str | None = None) -> Mapping[str, Dataset]:
    """Return fresh adapters by name: the ones chosen with a comma list, or all that read files of their own."""
    known = registry.datasets()
    of_their_own = [n for n, card in known.cards().items() if card.role != "planted" and card.wraps is None]
    selected = known.select(chosen) if chosen else of_their_own
    return {name: known.get(name)() for name in selected}
