"""Writes what the viewer shows: a script per case, one per case and method, and an index of both.

Maps, regions, truths and thresholds are read as the scorer reads them. What is measured is counted on the grid of the
scans; pictures are thinned where a scan is large. A method is shown with its first seed.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ...benchmark.planning.again import Source, key_of, options_again
from ...benchmark.planning.tasks import plain_task
from ...benchmark.protocols.catalogue import NATIVE, OWN_MASK, PROTOCOLS
from ...benchmark.runs.folder import RunFolder, RunFolderError
from ...benchmark.runs.map_store import read_map
from ...benchmark.runs.records import Record, Threshold
from ...benchmark.scoring.cases import CroppedCase, MeasureCase
from ...benchmark.stages.map import finished
from ...common.boxes import Box, bounding_box
from ...common.errors import UasbenchError
from ...datasets.anatomy import find_anatomy
from ...datasets.case import Region, counted
from ...datasets.readers import Lost, Readers
from ...datasets.storing.prepared import PreparedCase, TruthRef, load_truth
from .chunks import packed, write_script
from .levels import Edges, counts, edges_of, post_processed, sampled

SCHEMA = 1
MOST_PIXELS, MOST_SLICES = 192, 96
MARGIN = (0, 8, 8)
HU = (-1024, 3071)
Show = Callable[[int, int, str], object]


@dataclass(frozen=True)
class _Cell:
    """A shown cell: its number in the index, where its maps lie, and what cuts them."""

    number: int
    slug: str
    maps: Path
    region: Region
    thresholds: tuple[Threshold, ...]
    edges: Edges
    dice: Mapping[tuple[str, str], float | None]


@dataclass(frozen=True)
class _Job:
    """A case with all cells that show it."""

    name: str
    scan: PreparedCase
    truth: TruthRef
    out: Path
    cells: tuple[_Cell, ...]


def make(folder: RunFolder, source: Source, readers: Readers, show: Show = lambda done, total, text: None) -> list[str]:
    """Write ``report/`` beside the report and return what could not be shown, a sentence each.

    What is gone, scans or maps, is named in the index, so that the page says so.

    Raises:
        RunFolderError: a record cannot be read, or ``report`` is a link.
        DiskError: the disk is full or the folder cannot be written.
    """
    out, records = folder.viewer_dir, folder.records()
    if out.is_symlink():
        raise RunFolderError(f"{out} is a link, which is not followed; delete it")
    for old in (out / "index.js", *out.glob("case-*.js"), *out.glob("map-*.js")):
        old.unlink(missing_ok=True)
    records.sort(key=key_of)
    sets, problems = [], []
    for key, several in groupby(records, key=key_of):
        chosen = list(_first_seeds(list(several)))
        part, jobs = _set(folder, out, chosen, len(sets)), []
        try:
            data = plain_task(options_again(folder.info(), key, source), readers)
            part["window"] = list(find_anatomy(data.card.anatomy).window)
            jobs = _jobs(out, folder, chosen, data.test, data.truths, part)
        except UasbenchError as error:
            part["gone"] = f"The scans are not at hand: {error}"
        for done, (job, outcome) in enumerate(readers.work(_write, jobs), 1):
            case = part["cases"][int(job.name.rpartition("-")[2])]
            if isinstance(outcome, Lost | str):
                case["gone"] = outcome if isinstance(outcome, str) else outcome.reason
            else:
                case |= outcome[0]
                problems += outcome[1]
            show(done, len(jobs), f"viewer, {job.scan.id}")
        problems += [f"{where['id']}: {where['gone']}" for where in part["cases"] if "gone" in where]
        problems += [f"{cell['method']}: {cell['gone']}" for cell in part["cells"] if "gone" in cell]
        problems += [part["gone"]] if "gone" in part else []
        sets.append(part)
    protocols = {p.id: p.legend for p in PROTOCOLS.values()}
    index = {"schema": SCHEMA, "sets": sets, "protocols": protocols, "problems": problems}
    write_script(out / "index.js", "index", json.loads(json.dumps(index)))
    return problems


def _first_seeds(records: Sequence[Record]) -> Iterator[Record]:
    for _, several in groupby(sorted(records, key=lambda r: (r.cell.method, r.cell.seed)), key=lambda r: r.cell.method):
        yield next(several)


def _set(folder: RunFolder, out: Path, records: Sequence[Record], number: int) -> dict[str, Any]:
    """Return what the index says of a data set before its cases are read."""
    first = records[0]
    cases = sorted(first.data.cases)
    cells = []
    for record in records:
        maps = folder.map_dir(record.cell)
        cell = {
            "method": record.cell.method, "seed": record.cell.seed, "region": record.method.region,
            "measured": record.ids.measure, "dice": _dice_of(record, cases),
        }  # fmt: skip
        if finished(maps) != record.ids.map:
            cell["gone"] = "its maps are gone; run the same 'bench run' again"
        cells.append(cell)
    where = {"dataset": first.cell.dataset, "train": first.cell.train, "number": number, "cells": cells}
    return where | {"cases": [{"id": case, "patient": first.data.patients[case]} for case in cases]}


def _dice_of(record: Record, cases: Sequence[str]) -> dict[str, list[float | None]]:
    """Return the Dice of the tables by protocol, in the order of the cases."""
    found = {(v.protocol, v.case): v.value for v in record.per_case if v.metric == "dice"}
    protocols = dict.fromkeys(protocol for protocol, _ in found)
    return {protocol: [found.get((protocol, case)) for case in cases] for protocol in protocols}


def _jobs(
    out: Path,
    folder: RunFolder,
    records: Sequence[Record],
    scans: Sequence[PreparedCase],
    truths: Mapping[str, TruthRef],
    part: dict[str, Any],
) -> list[_Job]:
    cells = []
    for number, record in enumerate(records):
        if "gone" in (told := part["cells"][number]):
            continue
        maps = folder.map_dir(record.cell)
        try:
            scores = [sampled(read_map(maps / f"{case}.map").values) for case in sorted(record.data.cases)]
        except UasbenchError as error:
            told["gone"] = str(error)
            continue
        usable = tuple(t for t in record.thresholds if t.protocol in PROTOCOLS and PROTOCOLS[t.protocol].grid is None)
        edges = edges_of(np.concatenate(scores), (t.threshold for t in usable if t.threshold is not None))
        told["cuts"] = [*dict.fromkeys(t.protocol for t in usable if t.threshold is not None or t.reason == OWN_MASK)]
        told |= {"edges": [float(v) for v in edges.values], "low": edges.low, "high": edges.high}
        dice = {(v.protocol, v.case): v.value for v in record.per_case if v.metric == "dice"}
        cells.append(_Cell(number, record.cell.slug, maps, record.method.region, usable, edges, dice))
    numbers = {case["id"]: i for i, case in enumerate(part["cases"])}
    jobs = []
    for scan in scans:
        if (number := numbers.get(scan.id)) is None:
            continue
        if any(record.data.cases.get(scan.id) != scan.fingerprint for record in records):
            part["cases"][number]["gone"] = "its scan is not the one that was mapped"
            continue
        jobs.append(_Job(f"{part['number']}-{number}", scan, truths[scan.id], out, tuple(cells)))
    for case in part["cases"]:
        if case["id"] not in {scan.id for scan in scans}:
            case["gone"] = "its scan is not at hand"
    return jobs


def _write(job: _Job) -> tuple[dict[str, Any], list[str]] | str:
    """Write the scripts of a case; return what the index says of it and where Dice differ from the tables, or why."""
    try:
        scan, truth = job.scan.case(), load_truth(job.truth)
    except UasbenchError as error:
        return str(error)
    regions: dict[Region, np.ndarray] = {c.region: counted(scan.roi, c.region) for c in job.cells} or {"roi": scan.roi}
    box = bounding_box(np.logical_or.reduce([*regions.values()]), MARGIN)
    size = [part.stop - part.start for part in box]
    steps = [max(1, -(-n // most)) for n, most in zip(size, (MOST_SLICES, MOST_PIXELS, MOST_PIXELS), strict=True)]
    thin: Any = tuple(slice(None, None, step) for step in steps)
    image = np.clip(np.rint(scan.image[box][thin]), *HU).astype(np.int16)
    about: dict[str, Any] = {
        "shape": image.shape, "steps": steps, "spacing": [a * b for a, b in zip(scan.spacing, steps, strict=True)],
        "first": [part.start for part in box],
    }  # fmt: skip
    content = about | {"image": packed(image), "rois": {k: packed(roi[box][thin]) for k, roi in regions.items()}}
    if truth.lesion is not None:
        counts_in = np.logical_or.reduce([*regions.values()])
        content["truth"] = packed((truth.lesion & counts_in)[box][thin])
    elif truth.slice_labels is not None:
        content["labels"] = [bool(label) for label in truth.slice_labels[box[0]][thin[0]]]
    about["bytes"] = write_script(job.out / f"case-{job.name}.js", f"case-{job.name}", content)
    problems = []
    for cell in job.cells:
        mask = cell.maps / f"{job.scan.id}.mask"
        source = cell.maps / f"{job.scan.id}.map"
        case = MeasureCase(job.scan, source, job.truth, mask if mask.exists() else None, region=cell.region)
        try:
            cropped = CroppedCase.of(case.id, case.native_map(), regions[cell.region], case.spacing, truth)
            content = _levels(case, cell, cropped, box, thin)
        except UasbenchError as error:
            problems.append(f"{cell.slug}, {case.id}: {error}")
            continue
        for protocol, cut in content["cuts"].items():
            dice = cut["dice"]
            known = cell.dice.get((protocol, case.id))
            if known is not None and dice != known:
                problems.append(
                    f"{cell.slug}, {case.id}: the maps give a Dice {protocol} of {dice}, the record {known}"
                )
        name = f"map-{job.name}-{cell.number}"
        about["bytes"] += write_script(job.out / f"{name}.js", name, content)
    return about, problems


def _levels(case: MeasureCase, cell: _Cell, cropped: CroppedCase, box: Box, thin: Any) -> dict[str, Any]:
    """Return the map of a case in levels, as each protocol treats it, and where each cuts it."""
    variants: dict[tuple[float, float] | str, dict[str, Any]] = {}
    cuts: dict[str, dict[str, Any]] = {}
    place = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(cropped.box, box, strict=True))
    shape = [part.stop - part.start for part in box]
    inside = np.zeros(shape, bool)
    inside[place] = cropped.roi

    def add(key: tuple[float, float] | str, levels: np.ndarray) -> None:
        grid = np.zeros(shape, np.uint8)
        grid[inside] = levels
        every, hit = counts(levels, cropped.labels, cell.edges)
        variants[key] = {
            "levels": packed(grid[thin][inside[thin]]), "every": every.tolist(), "hit": hit.tolist(),
        }  # fmt: skip

    add((0.0, 0.0), cell.edges.level(cropped.scores))
    for threshold in cell.thresholds:
        if case.patient not in threshold.patients:
            continue
        own = case.native_mask() if threshold.protocol == NATIVE else None
        if own is None and threshold.threshold is None:
            continue
        key = "own" if own is not None else (threshold.smoothing_mm, threshold.min_size_mm3)
        if key not in variants:
            scores = post_processed(cropped, threshold) if own is None else own[cropped.box][cropped.roi]
            add(key, cell.edges.level(scores) if own is None else scores.astype(np.uint8))
        edge = 0 if threshold.threshold is None else cell.edges.at(threshold.threshold)
        found = variants[key]
        cuts[threshold.protocol] = {
            "variant": list(variants).index(key), "edge": edge, "own": own is not None, "mm": threshold.smoothing_mm,
            "mm3": threshold.min_size_mm3, "dice": _dice(found["every"], found["hit"], edge),
        }  # fmt: skip
    return {"variants": [*variants.values()], "cuts": cuts}


def _dice(every: Sequence[int], hit: Sequence[int], edge: int) -> float | None:
    """Return the Dice of what lies above an edge, as the scorer computes it; None without a lesion."""
    positives = sum(hit)
    return 2 * sum(hit[edge + 1 :]) / (sum(every[edge + 1 :]) + positives) if positives else None
