"""Tables as files: CSV for machines, Markdown for readers; the same tables give the same bytes."""

import html
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from ..common.errors import printable
from .formats import NOT_AVAILABLE
from .grid import PrintedRow, PrintedTable

_FORMULA = ("=", "+", "-", "@", "\t")


def csv_text(frame: pd.DataFrame) -> str:
    """Return a frame as CSV: nine significant digits, ``n/a`` for undefined numbers, Unix line ends.

    Texts have their control characters spelled out, and a ``'`` before what a spreadsheet would take for a formula.
    """
    texts = {str(name): column.map(_plain) for name, column in frame.items() if not is_numeric_dtype(column)}
    return frame.assign(**texts).to_csv(index=False, float_format="%.9g", na_rep=NOT_AVAILABLE, lineterminator="\n")


def _plain(value: Any) -> Any:
    """Return a cell that is text as no program runs it; numbers stay numbers, those in text too.

    >>> _plain("=HYPERLINK(1)"), _plain("-5"), _plain("p1"), _plain(3)
    ("'=HYPERLINK(1)", '-5', 'p1', 3)
    """
    return _harmless(value) if isinstance(value, str) else value


@lru_cache(maxsize=1 << 16)
def _harmless(value: str) -> str:
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def markdown(grids: Sequence[PrintedTable]) -> str:
    """Return tables as GitHub-flavoured Markdown; intervals stand in the cell of their value."""
    return "\n".join(_markdown(grid) for grid in grids)


def _markdown(grid: PrintedTable) -> str:
    rules = ["---" if i < grid.left else "---:" for i in range(len(grid.headers))]
    lines = [f"### {_escape_markdown(grid.title)}", ""]
    if grid.rows:
        table = [map(_escape_markdown, grid.headers), rules, *(_markdown_cells(row, grid) for row in grid.rows)]
        lines += [f"| {' | '.join(cells)} |" for cells in table]
    else:
        lines.append("None.")
    legend = [line for sentence in grid.legend for line in ("", _escape_markdown(sentence))]
    return "\n".join([*lines, *legend, ""])


def _markdown_cells(row: PrintedRow, grid: PrintedTable) -> list[str]:
    under = row.under or ("",) * len(row.cells)
    texts = [" ".join(filter(None, [a, b])) for a, b in zip(row.cells, under, strict=True)]
    escaped = [_escape_markdown(text) for text in texts]
    if row.kind == "winner":
        escaped[0] = f"**{escaped[0]}**"
    if row.kind == "published":
        escaped = [f"<sub>{text}</sub>" for text in escaped]
    return [f"*{text}*" if i in grid.muted and text != NOT_AVAILABLE else text for i, text in enumerate(escaped)]


@lru_cache(maxsize=1 << 16)
def _escape_markdown(text: str) -> str:
    flat = html.escape(printable(" ".join(text.split())), quote=False).replace("\\", "\\\\")
    for sign in "|*_`[]":
        flat = flat.replace(sign, f"\\{sign}")
    return flat
