"""Paired tests of a finished run against a reference that the reader chooses (``bench compare``)."""

from collections.abc import Sequence

import pandas as pd

from ..benchmark.protocols.catalogue import PROTOCOLS, VAL
from ..benchmark.runs.folder import RunFolder
from ..benchmark.scores import Scores
from ..benchmark.scoring.metrics import METRICS, NO_PROTOCOL, SLICE_LABELS_ONLY, needs_voxels, sign
from ..common.errors import UasbenchError, did_you_mean
from .columns import PAIRED_TESTS
from .failing import Policy
from .paired import paired_tests
from .tables import tables_of

DEFAULT_METRICS = ("dice", "slice_auroc")
DEFAULT_PROTOCOLS = (VAL, NO_PROTOCOL)


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
    tables = tables_of(folder, policy)
    scores = tables.scores
    slice_sets = {s.key.dataset for s in scores if needs_voxels(s.key.metric) and SLICE_LABELS_ONLY in s.reason}
    wanted, protocol = _choice(scores, slice_sets, metric, protocol)
    chosen = [s for s in scores if (s.key.metric, s.key.protocol) == (wanted, protocol)]
    datasets = {r.cell.dataset for r in records if r.cell.method == reference}
    frame = paired_tests(chosen, tables.facts, {d: [reference] for d in datasets})
    if needs_voxels(wanted):
        frame.loc[frame["dataset"].isin(sorted(slice_sets)), "reason"] = SLICE_LABELS_ONLY
    return frame.reindex(columns=PAIRED_TESTS)


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
