"""How a notebook shows a run: what it is, and its headline tables."""

from collections.abc import Mapping
from typing import Any

from ..benchmark.runs.html_tables import table_html
from .headline import Headline, headlines
from .tables import Tables


def run_html(path: str, info: Mapping[str, Any], tables: Tables) -> str:
    """Return the facts of a run and, for each data set, the short columns of its headline table, best method first."""
    failed, declined = len(tables.failures), len(tables.skipped)
    facts = [
        ("folder", path),
        ("profile", f"{info.get('profile', '?')}{', synthetic data' if info.get('phantom') else ''}"),
        ("cells", f"{len(tables.records)} finished, {failed} failed; {declined} methods declined"),
        ("made", f"{info.get('created', '?')}, wall: {_walls(tables)}"),
    ]
    found = headlines(tables.summary, tables.headline_tests, tables.told_missing)
    return table_html(("run", ""), facts) + "".join(map(_headline, found))


def _walls(tables: Tables) -> str:
    return ", ".join(sorted({record.isolation for record in tables.records})) or "none"


def _headline(one: Headline) -> str:
    columns = [column for column in one.columns if column.short]
    head = ("method", *(column.short.replace("\n", " ") for column in columns), "patients", "seeds")
    rows = []
    for row in one.rows:
        entries = [row.entries[column.key] for column in columns]
        texts = (e.interval if column.against else e.value for column, e in zip(columns, entries, strict=True))
        rows.append((row.label, *texts, str(row.n_patients), str(row.n_seeds)))
    title = f"{one.dataset}, trained on {one.train}: percent, mean over patients"
    return table_html(head, rows, ". ".join([title, *filter(None, [one.corrected(*one.families), one.missing])]))
