"""Paired tests of a finished run against a reference that the reader chooses (``bench compare``)."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pandas as pd

from ..benchmark.runs.folder import RunFolder
from ..benchmark.runs.records import Record
from ..datasets.errors import UasbenchError
from .columns import PAIRED_TESTS
from .paired import paired_tests
from .scores import collect, facts


class CompareError(UasbenchError):
    """Nothing in the run answers to that name."""


def compare(folder: RunFolder, reference: str, metric: str = "dice", protocol: str = "val") -> pd.DataFrame:
    """Return paired tests of every method against ``reference``, with the columns of ``paired_tests.csv``.

    Args:
        protocol: ``val`` also stands for ``none`` where the metric needs no threshold.

    Raises:
        CompareError: no such method, metric or protocol in the run; the message suggests one.
    """
    records = folder.records()
    if not records:
        raise CompareError(f"{folder.path} has no finished cell to compare; see {folder.failures_dir} or run it again")
    methods = sorted({r.cell.method for r in records})
    if reference not in methods:
        raise CompareError(_unknown("method", reference, methods))
    measured = _measured(records)
    metrics = sorted({m for _, m in measured})
    if metric not in metrics:
        raise CompareError(_unknown("metric", metric, metrics))
    protocols = sorted({p for p, m in measured if m == metric})
    wanted = "none" if protocol == "val" and protocols == ["none"] else protocol
    if wanted not in protocols:
        raise CompareError(_unknown(f"protocol for {metric}", wanted, protocols))
    chosen = [s for s in collect(records) if s.key.metric == metric and s.key.protocol == wanted]
    datasets = {r.cell.dataset for r in records if r.cell.method == reference}
    frame = paired_tests(chosen, facts(records), {d: [reference] for d in datasets})
    return frame.reindex(columns=PAIRED_TESTS)


def _measured(records: Sequence[Record]) -> set[tuple[str, str]]:
    return {(v.protocol, v.metric) for r in records for v in (*r.per_case, *r.pooled)}


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"no {what} {name!r} in this run{hint} It has: {', '.join(known)}"
