"""Paired tests of a finished run against a reference that the reader chooses (``bench compare``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..benchmark.protocols.catalogue import PROTOCOLS, VAL
from ..benchmark.runs.folder import RunFolder
from ..benchmark.scores import Scores
from ..benchmark.scoring.metrics import METRICS, NO_PROTOCOL, SLICE_LABELS_ONLY, needs_voxels, sign
from ..common.errors import UasbenchError, did_you_mean
from .columns import FLAG_LEGEND, PAIRED_TESTS, UNITS, flag_set, metric_name, records_of
from .failing import Policy
from .formats import NOT_AVAILABLE, bracket, fixed, number, p_value, points, stars
from .legends import families, family
from .paired import paired_tests
from .tables import tables_of

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

DEFAULT_METRICS = ("dice", "slice_auroc")
DEFAULT_PROTOCOLS = (VAL, NO_PROTOCOL)


COLUMNS = (
    "method",
    "difference",
    "[95 % CI]",
    "p (Holm)",
    "n",
    "P(better)",
    "p t-test (Holm)",
    "p Wilcoxon (Holm)",
    "d_z",
)
CORRECTED = {"p": "p_holm_crossed", "p t-test": "p_holm", "p Wilcoxon": "p_holm_wilcoxon"}
MISSING = "missing"
"""In ``attrs`` of what :func:`compare` returns: what is done with failed and missing cells, by (dataset, train)."""
FEWEST = 2
"""Columns of the printed table, from the left; on a narrow terminal the last ones go, all but these."""
KEYS = ("reference", "protocol", "metric", "dataset", "train")


class CompareError(UasbenchError):
    """Nothing in the run answers to that name."""


def compare(
    folder: RunFolder,
    reference: str,
    metric: str | None = None,
    protocol: str | None = None,
    policy: Policy = "exclude",
) -> pd.DataFrame:
    """Return paired tests of every method against ``reference``, with the columns of ``paired_tests.csv``.

    Data sets of the run that have slice labels only keep rows with that reason where a voxel metric is compared.

    Args:
        metric: default ``dice``, or ``slice_auroc`` in a run with slice labels only.
        protocol: default ``val``, else ``none``, else the only one that the metric has.
        policy: what counts for cells that failed or are missing.

    Raises:
        CompareError: no such method, metric or protocol in the run (the message suggests one), or a voxel metric in a
            run whose data have slice labels only.
    """
    records = folder.records()
    if not records:
        raise CompareError(f"{folder.path} has no finished cell to compare; see {folder.failures_dir} or run it again")
    methods = sorted({r.cell.method for r in records})
    if reference not in methods:
        raise CompareError(_unknown("method", reference, methods))
    tables = tables_of(folder, policy, lambda: records)
    scores = tables.scores
    slice_sets = {s.key.dataset for s in scores if needs_voxels(s.key.metric) and SLICE_LABELS_ONLY in s.reason}
    wanted, protocol = _choice(scores, slice_sets, metric, protocol)
    chosen = [s for s in scores if (s.key.metric, s.key.protocol) == (wanted, protocol)]
    datasets = {r.cell.dataset for r in records if r.cell.method == reference}
    frame = paired_tests(chosen, tables.facts, {d: [reference] for d in datasets})
    if needs_voxels(wanted):
        frame.loc[frame["dataset"].isin(sorted(slice_sets)), "reason"] = SLICE_LABELS_ONLY
    found = frame.reindex(columns=PAIRED_TESTS)
    found.attrs[MISSING] = {
        task: tables.told_missing(*task) for task in zip(found["dataset"], found["train"], strict=True)
    }
    return found


def compared(frame: pd.DataFrame, console: Console) -> Iterator[RenderableType]:
    """Yield what :func:`compare` found as tables, one for each task, as wide as the console allows.

    Of several units the first of ``UNITS`` is shown. Shares are in per cent, and the method that is best by its mean
    difference comes first. A row without a test, and what some rows are flagged with, is explained below its table;
    what all are flagged with, above.
    """
    from rich.text import Text

    for _, task in frame.groupby(["dataset", "train"], sort=False):
        unit, *others = sorted(set(task["unit"]), key=UNITS.index)
        rows = records_of(task, unit=unit)
        reference, protocol, metric, dataset, train = (rows[0][name] for name in KEYS)
        share = metric not in METRICS or METRICS[metric].unit == "share"
        ordered = sorted(rows, key=lambda row: np.nan_to_num(-(sign(metric) or 1) * row["mean_diff"], nan=np.inf))
        common = frozenset.intersection(*(flag_set(row["flags"]) for row in ordered))
        title = f"{metric_name(metric, protocol)} against {reference}: {dataset} after {train}, per {unit}"
        yield Text(title + (f" ({', '.join(sorted(common))})" if common else ""), style="bold")
        texts = [_texts(row, share=share) for row in ordered]
        yield _as_wide(texts, console)
        unit_of_it = "percentage points" if share else "the metric's unit"
        more = f" Tests per {' and '.join(others)}: --json." if others else ""
        corrected = {title: family(rows, column) for title, column in CORRECTED.items()}
        holm = f" Holm over {told}." if (told := families(corrected)) else ""
        yield Text(f"In {unit_of_it}; interval and p are those of the crossed test.{holm}{more}", style="dim")
        if missing := frame.attrs.get(MISSING, {}).get((dataset, train)):
            yield Text(missing, style="dim")
        for line in _notes(ordered, common):
            yield Text(line, style="dim")


def _as_wide(texts: Sequence[Sequence[str]], console: Console) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.measure import Measurement
    from rich.table import Table

    def of(count: int) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in COLUMNS[:count]:
            table.add_column(name, justify="left" if name == "method" else "right", no_wrap=count > FEWEST)
        for row in texts:
            table.add_row(*row[:count])
        return table

    unbounded = console.options.update(max_width=1000)
    tables = (of(count) for count in range(len(COLUMNS), FEWEST, -1))
    fits = (table for table in tables if Measurement.get(console, unbounded, table).maximum <= console.width)
    return next(fits, of(FEWEST))


def _texts(row: dict[str, Any], *, share: bool) -> tuple[str, ...]:
    low, high = row["crossed_low"], row["crossed_high"]
    plain = "" if pd.isna(low) or pd.isna(high) else f"[{fixed(low)}, {fixed(high)}]"
    difference, interval = points(row["mean_diff"]), bracket(low, high, signed=True)
    if not share:
        difference, interval = fixed(row["mean_diff"]), plain
    p = row["p_holm_crossed"]
    better = NOT_AVAILABLE if pd.isna(row["p_better"]) else f"{100 * row['p_better']:.0f} %"
    ps = (p_value(row[name]) for name in ("p_holm", "p_holm_wilcoxon"))
    return (
        row["method"], difference, interval, f"{p_value(p)}{stars(p)}", str(row["n"]), better, *ps, number(row["d_z"])
    )  # fmt: skip


def _notes(rows: Sequence[dict[str, Any]], common: frozenset[str]) -> Iterator[str]:
    marked: dict[str, list[str]] = {}
    for row in rows:
        for note in (*sorted(flag_set(row["flags"]) - common), *filter(None, [row["reason"]])):
            marked.setdefault(FLAG_LEGEND.get(note, note), []).append(row["method"])
    for note, methods in marked.items():
        yield f"{', '.join(methods) if len(methods) < len(rows) else 'all'}: {note}"


def _choice(scores: Sequence[Scores], slices: set[str], metric: str | None, protocol: str | None) -> tuple[str, str]:
    voxels = any(s.key.dataset not in slices for s in scores)
    metrics: dict[str, set[str]] = {}
    for one in scores:
        if sign(one.key.metric) and (voxels or SLICE_LABELS_ONLY not in one.reason):
            metrics.setdefault(one.key.metric, set()).add(one.key.protocol)
    if metric is None:
        metric = next((m for m in DEFAULT_METRICS if m in metrics), DEFAULT_METRICS[0])
    if metric not in metrics:
        if not voxels and metric in METRICS and needs_voxels(metric):
            ordered = [(m, _in_order(metrics[m] - {NO_PROTOCOL})) for m in METRICS if m in metrics]
            listed = (f"{m} ({', '.join(protocols)})" if protocols else m for m, protocols in ordered)
            raise CompareError(
                f"{metric} needs voxel labels, but {', '.join(sorted(slices))} came with slice labels only. "
                f"Such a set has: {', '.join(listed)}"
            )
        raise CompareError(_unknown("metric", metric, sorted(metrics)))
    protocols = _in_order(metrics[metric])
    if protocol is None:
        protocol = next((p for p in DEFAULT_PROTOCOLS if p in protocols), protocols[0])
        if len(protocols) > 1 and protocol not in DEFAULT_PROTOCOLS:
            raise CompareError(f"{metric} comes under several protocols; choose one of {', '.join(protocols)}")
    elif protocol == VAL and protocols == [NO_PROTOCOL]:
        protocol = NO_PROTOCOL
    if protocol not in protocols:
        raise CompareError(_unknown(f"protocol for {metric}", protocol, protocols))
    return metric, protocol


def _in_order(protocols: set[str]) -> list[str]:
    return [p for p in PROTOCOLS if p in protocols] + sorted(protocols - PROTOCOLS.keys())


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known, cutoff=0.5) or "."
    return f"no {what} {name!r} in this run{hint} It has: {', '.join(known)}"
