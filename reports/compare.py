"""Paired tests of a finished run against a reference that the reader chooses (``bench compare``)."""

from collections.abc import Sequence

import pandas as pd

from ..benchmark.protocols.catalogue import PROTOCOLS, VAL
from ..benchmark.runs.folder import RunFolder
from ..benchmark.runs.records import Record
from ..benchmark.scores import collect
from ..benchmark.scoring.metrics import METRICS, NO_PROTOCOL, SLICE_LABELS_ONLY, needs_voxels, sign
from ..common.errors import UasbenchError, did_you_mean
from .columns import PAIRED_TESTS
from .facts import facts
from .paired import paired_tests

DEFAULT_METRICS = ("dice", "slice_auroc")
DEFAULT_PROTOCOLS = (VAL, NO_PROTOCOL)


class CompareError(UasbenchError):
    """Nothing in the run answers to that name."""


def compare(folder: RunFolder, reference: str, metric: str | None = None, protocol: str | None = None) -> pd.DataFrame:
    """Return paired tests of every method against ``reference``, with the columns of ``paired_tests.csv``.

    Data sets of the run that have slice labels only keep rows with that reason where a voxel metric is compared.

    Args:
        metric: default ``dice``, or ``slice_auroc`` in a run with slice labels only.
        protocol: default ``val``, else ``none``, else the only one that the metric has.

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
    wanted, protocol = _choice(records, metric, protocol)
    chosen = [s for s in collect(records) if (s.key.metric, s.key.protocol) == (wanted, protocol)]
    datasets = {r.cell.dataset for r in records if r.cell.method == reference}
    frame = paired_tests(chosen, facts(records), {d: [reference] for d in datasets})
    if needs_voxels(wanted):
        frame.loc[frame["dataset"].isin(sorted(_slice_sets(records))), "reason"] = SLICE_LABELS_ONLY
    return frame.reindex(columns=PAIRED_TESTS)


def _choice(records: Sequence[Record], metric: str | None, protocol: str | None) -> tuple[str, str]:
    """Return the metric and protocol to compare by."""
    slice_sets = _slice_sets(records)
    voxel_sets = {r.cell.dataset for r in records} - slice_sets
    absent = set() if voxel_sets else _measured(records, SLICE_LABELS_ONLY)
    measured = _measured(records) - absent
    metrics = sorted({m for _, m in measured if sign(m)})
    if metric is None:
        metric = next((m for m in DEFAULT_METRICS if m in metrics), DEFAULT_METRICS[0])
    if metric not in metrics:
        if not voxel_sets and metric in METRICS and needs_voxels(metric):
            raise CompareError(
                f"{metric} needs voxel labels, but {', '.join(sorted(slice_sets))} came with slice labels only. "
                f"Such a set has: {', '.join(_with_protocols(measured))}"
            )
        raise CompareError(_unknown("metric", metric, metrics))
    protocols = sorted({p for p, m in measured if m == metric}, key=_reading_order)
    if protocol is None:
        usual = [p for p in DEFAULT_PROTOCOLS if p in protocols] or protocols
        if len(protocols) > 1 and usual is protocols:
            raise CompareError(f"{metric} comes under several protocols; choose one of {', '.join(protocols)}")
        protocol = usual[0]
    elif protocol == VAL and protocols == [NO_PROTOCOL]:
        protocol = NO_PROTOCOL
    if protocol not in protocols:
        raise CompareError(_unknown(f"protocol for {metric}", protocol, protocols))
    return metric, protocol


def _slice_sets(records: Sequence[Record]) -> set[str]:
    """Return the data sets whose voxel metrics are all missing because they have slice labels only."""
    return {
        r.cell.dataset for r in records
        if any(v.reason == SLICE_LABELS_ONLY for v in r.pooled if needs_voxels(v.metric))
    }  # fmt: skip


def _measured(records: Sequence[Record], reason: str | None = None) -> set[tuple[str, str]]:
    values = [v for r in records for v in (*r.per_case, *r.pooled)]
    return {(v.protocol, v.metric) for v in values if reason is None or v.reason == reason}


def _with_protocols(measured: set[tuple[str, str]]) -> list[str]:
    metrics = [metric for metric in METRICS if any(metric == m for _, m in measured) and sign(metric)]
    texts = []
    for metric in metrics:
        protocols = sorted((p for p, m in measured if m == metric and p != NO_PROTOCOL), key=_reading_order)
        texts.append(f"{metric} ({', '.join(protocols)})" if protocols else metric)
    return texts


def _reading_order(protocol: str) -> tuple[int, str]:
    order = list(PROTOCOLS)
    return (order.index(protocol) if protocol in order else len(order), protocol)


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known, cutoff=0.5) or "."
    return f"no {what} {name!r} in this run{hint} It has: {', '.join(known)}"
