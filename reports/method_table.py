"""Who the methods of a report are: what they learned from, and where what they did not learn here comes from."""

from __future__ import annotations

from collections.abc import Sequence

from ..benchmark.runs.records import Record
from .formats import counted
from .grid import Grid, GridRow


def method_grid(records: Sequence[Record]) -> Grid:
    """Return one row per method and data: title, family, year, what it learned from, provenance."""
    rows: dict[tuple[str, ...], None] = {}
    for r in sorted(records, key=lambda r: (r.cell.dataset, r.cell.train, r.cell.method, r.cell.seed)):
        info = r.method
        told = "; ".join(f"{name}: {text}" for name, text in r.provenance.items())
        data = f"{r.cell.dataset} / {r.cell.train}"
        rows[r.cell.method, data, info.title, info.family, str(info.year or ""), learned_from(r), told] = None
    headers = ("Method", "Data / train", "Title", "Family", "Year", "Learned from", "Provenance")
    return Grid("Methods", headers, tuple(GridRow(row) for row in rows), left=len(headers))


def learned_from(record: Record) -> str:
    """Say what training saw: healthy scans, the unlabelled test scans, or which lesion labels."""
    labels = record.labels
    if labels is not None and labels.training == "cross-fit":
        return f"lesion labels of {', '.join(labels.sets)}, cross-fitted in {counted(len(labels.folds), 'fold')}"
    if labels is not None:
        return f"lesion labels of {', '.join(labels.sets)}, none of {record.cell.dataset}"
    if record.method.trivial:
        return "nothing"
    if record.method.uses == "unlabelled-test":
        return "healthy scans and the unlabelled test scans (transductive)"
    return {"healthy": "healthy scans"}.get(record.method.uses, "not recorded")
