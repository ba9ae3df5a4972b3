"""Tables on a terminal too narrow for their columns, and as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

SPACE = 3
"""Columns of a terminal that a table takes beside each of its own."""

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table


def rows(table: Table) -> list[dict[str, str]]:
    """Return the rows of a table by column; of what is broken only the name and why."""
    names = [str(column.header) for column in table.columns]
    texts = zip(*([str(cell) for cell in column.cells] for column in table.columns), strict=True)
    return [_row(dict(zip(names, row, strict=True))) for row in texts]


def _row(row: dict[str, str]) -> dict[str, str]:
    name, second, *_ = row
    broken = row[second].startswith("broken: ")
    return {name: row[name], "broken": row[second].removeprefix("broken: ")} if broken else row


def fitted(table: Table, console: Console) -> RenderableType:
    """Return a table as it is where every word has room in its column, else its rows one below the other."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    texts = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    words = [max(len(word) for text in column for word in [*text.split(), ""]) for column in texts]
    more = [max(map(len, column)) - word for column, word in zip(texts, words, strict=True)]
    spare = console.width - sum(words) - SPACE * len(words)
    if spare >= sum(more):
        return table
    if spare >= 0:  # a column shares in what is left by what it lacks; left alone, rich would break words
        for column, word, lacks in zip(table.columns, words, more, strict=True):
            column.width = word + spare * lacks // sum(more)
        return table
    parts: list[RenderableType] = []
    for row in rows(table):
        (_, name), *others = row.items()
        parts.append(Text(name, style="bold"))
        facts = [f"{key}: {value}" for key, value in others if value]
        parts.append(Padding(Text("; ".join(facts), overflow="fold"), (0, 0, 0, 2)))
    return Group(*parts)
