"""What the report says of one method on one data set: what it is, how it was run, what became of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..benchmark.catalogue.published import published
from ..benchmark.runs.folder import RunFolder
from ..benchmark.runs.records import Record, Threshold
from ..benchmark.scoring.metrics import NO_PROTOCOL
from .columns import metric_name, records_of
from .figures.pictures import Picture, Pictures
from .formats import NOT_AVAILABLE, counted, number
from .headline import Headline, HeadlineRow
from .tables import Tables
from .training import WatchedTraining

GROUPS = ("gallery", "series", "curves")


@dataclass(frozen=True)
class MethodPage:
    """The part of the report that a row of the table leads to; ``logs`` are files beside the report, by title."""

    label: str
    method: str
    title: str
    facts: dict[str, str]
    settings: dict[str, str]
    thresholds: dict[str, str]
    cost: dict[str, str]
    training: tuple[WatchedTraining, ...]
    pictures: dict[str, list[Picture]]
    published: tuple[str, ...]
    logs: dict[str, str]


def method_pages(
    headline: Headline, tables: Tables, pictures: Pictures, trainings: Sequence[WatchedTraining], folder: RunFolder
) -> list[MethodPage]:
    """Return the pages of a section in the order of its table."""
    own: dict[str, list[Record]] = {}
    for record in tables.records:
        if (record.cell.dataset, record.cell.train) == (headline.dataset, headline.train):
            own.setdefault(record.cell.method, []).append(record)
    drawn = {group: pictures.of(group, headline) for group in GROUPS}
    return [
        _page(row, sorted(own[row.method], key=lambda r: r.cell.seed), headline, tables, drawn, trainings, folder)
        for row in headline.rows
        if row.method in own
    ]


def _page(
    row: HeadlineRow,
    records: Sequence[Record],
    headline: Headline,
    tables: Tables,
    drawn: Mapping[str, list[Picture]],
    trainings: Sequence[WatchedTraining],
    folder: RunFolder,
) -> MethodPage:
    first = records[0]
    info = first.method
    facts = {
        "Family": info.family + (f", {info.year}" if info.year else ""),
        "Learned from": learned_from(first),
        "Seeds": ", ".join(str(r.cell.seed) for r in records),
        "Wall": ", ".join(dict.fromkeys(r.isolation for r in records)),
    }
    facts |= {name.capitalize(): text for name, text in first.provenance.items()}
    if first.cost.updates:
        facts["Trained on"] = f"{counted(len(first.data.split.get('train', ())), 'healthy scan')} of {first.cell.train}"
    return MethodPage(
        row.label,
        row.method,
        info.title,
        facts,
        {name: _setting(value) for name, value in sorted(first.config.items())},
        thresholds_of(first),
        _cost(row.method, headline, tables),
        tuple(one for one in trainings if one.method == row.method),
        {group: [one for one in found if one.method == row.method] for group, found in drawn.items()},
        _published(row.method, headline),
        _logs(records, folder),
    )


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def thresholds_of(record: Record) -> dict[str, str]:
    """Say by protocol where the thresholds of a cell lie, and what is done to its map before and after."""
    found: dict[str, list[Threshold]] = {}
    for one in record.thresholds:
        found.setdefault(one.protocol, []).append(one)
    return {protocol: _told(several) for protocol, several in found.items()}


def _told(several: Sequence[Threshold]) -> str:
    values = [
        f"{one.threshold:.4g}" + (f" after {one.smoothing_mm:.3g} mm of smoothing" if one.smoothing_mm else "")
        + (f", least component {one.min_size_mm3:.3g} mm³" if one.min_size_mm3 else "")
        for one in several
        if one.threshold is not None
    ]  # fmt: skip
    if not values:
        return next((one.reason for one in several if one.reason), NOT_AVAILABLE)
    folds = f"{counted(len(values), 'fold')}: " if len(several) > 1 else ""
    return folds + "; ".join(values if len({*values}) > 1 else values[:1])


def _cost(method: str, headline: Headline, tables: Tables) -> dict[str, str]:
    rows = records_of(tables.cost, dataset=headline.dataset, train=headline.train, method=method)

    def mean(key: str, factor: float = 1.0) -> str:
        return number(factor * sum(float(r[key]) for r in rows) / len(rows))

    if not rows:
        return {}
    first, gpu = rows[0], mean("peak_gpu_mib")
    updates = json.loads(first["updates"] or "{}")
    return {
        "Training": f"{mean('fit_s')} s",
        "Updates": ", ".join(f"{phase}: {n}" for phase, n in updates.items()) or "none",
        "Maps": f"{mean('score_s')} s, {mean('s_per_slice', 1000)} ms per slice",
        "Peak memory": f"{mean('peak_ram_mib')} MiB" + ("" if gpu == NOT_AVAILABLE else f", {gpu} MiB of GPU"),
        "Parameters": number(first["params"], 4),
        "Computed on": f"{first['device']}, {counted(first['threads'], 'thread')}, {first['precision']}",
    }


def _published(method: str, headline: Headline) -> tuple[str, ...]:
    """Return the numbers that papers print of a method on this set, a sentence each; none beside a phantom."""
    if "phantom" in headline.flags:
        return ()
    told = []
    for row in published().rows:
        if row.dataset == headline.dataset and not row.foreign and method in (row.row, row.card):
            protocol = row.protocol or NO_PROTOCOL
            numbers = (f"{metric_name(metric, protocol)} {text}" for metric, text in row.printed.items())
            told.append(f"{', '.join(numbers)} ({row.source}; {row.how})")
    return tuple(told)


def _logs(records: Sequence[Record], folder: RunFolder) -> dict[str, str]:
    """Return the logs of the stages of a method that are still there."""
    found: dict[str, Path] = {}
    for record in records:
        stages = {f"training {fit}": f"fit-{fit}" for fit in record.ids.fits}
        stages |= {f"{stage}, seed {record.cell.seed}": f"{kind}-{record.cell.slug}"
                   for stage, kind in (("maps", "map"), ("measuring", "measure"))}  # fmt: skip
        found |= {title: folder.logs_dir / f"{name}.log" for title, name in stages.items()}
    return {title: f"logs/{path.name}" for title, path in found.items() if path.is_file() and path.stat().st_size}


def learned_from(record: Record) -> str:
    """Say what training saw, and what the weights had seen that it started from."""
    method = record.method
    before = f"; pre-training overlap of the weights: {method.pretraining}" if method.pretraining != "none" else ""
    before += f"; before, masks of anomalies of {', '.join(method.labels_elsewhere)}" if method.labels_elsewhere else ""
    return _in_training(record) + before


def _in_training(record: Record) -> str:
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
