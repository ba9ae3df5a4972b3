"""How a notebook shows a run and a record: small HTML tables in place of walls of text."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from ...common.errors import printable

if TYPE_CHECKING:
    from .records import Record


def table_html(head: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> str:
    """Return a table; every text is escaped."""
    caption = f"<caption>{_text(title)}</caption>" if title else ""
    columns = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + f'<th scope="row">{_text(first)}</th>' + "".join(f"<td>{_text(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return f"<table>{caption}<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"


def record_html(record: "Record") -> str:
    """Return what a cell is and, protocol by protocol, its threshold and mean Dice over cases with a lesion."""
    cell, cost = record.cell, record.cost
    title = f"{cell.method} on {cell.dataset} after {cell.train}, seed {cell.seed}: {len(record.data.cases)} cases"
    rows = []
    for protocol in dict.fromkeys(threshold.protocol for threshold in record.thresholds):
        levels = [t.threshold for t in record.thresholds if t.protocol == protocol and t.threshold is not None]
        named = [row for row in record.per_case if (row.protocol, row.metric) == (protocol, "dice")]
        values = [row.value for row in named if row.value is not None]
        mean = f"{100 * sum(values) / len(values):.1f} %" if values else "n/a"
        rows.append((protocol, ", ".join(f"{level:.4g}" for level in levels) or "none", mean, str(len(values))))
    facts = (
        f"{record.profile} profile; trained {cost.fit_s:.0f} s, scored {cost.score_s:.0f} s; wall: {record.isolation}"
    )
    return table_html(("protocol", "threshold", "mean Dice", "cases"), rows, title) + f"<p>{_text(facts)}</p>"


def _text(text: str) -> str:
    return escape(printable(text))
