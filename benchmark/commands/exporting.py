"""Writes what a run made as NIfTI files that lie on its scans: maps, masks of every protocol, truth and organ."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from ...common.atomic import write_file, write_text
from ...common.errors import DataError, UasbenchError, did_you_mean
from ...common.sealed import read_sealed
from ...datasets.case import Region
from ...datasets.dataset import CaseRef
from ...datasets.readers import Lost, Readers
from ...datasets.reading.placing import Place, place_of
from ...datasets.storing.prepared import PreparedCase, TruthRef, load_truth
from ..planning.again import Source, key_of, options_again
from ..planning.task_data import TaskData
from ..planning.tasks import plain_task
from ..protocols.catalogue import PROTOCOLS
from ..protocols.masks import predicted_masks
from ..runs.folder import RunFolder, RunFolderError
from ..runs.records import MAP_SEAL, Record, Threshold
from ..scoring.cases import MeasureCase
from ..stages.map import finished
from .dicom_seg import Segment, missing, write_segmentation

MANIFEST = "export.json"
SCHEMA = 1
MASKS, DICOM = "masks", "dicom-seg"


class ExportError(UasbenchError):
    """Nothing of the run answers to what was asked for, or it cannot be written there."""


@dataclass(frozen=True)
class Chosen:
    """Which cells and cases are written; None is all. Methods may have wildcards.

    Attributes:
        dicom_seg: whether masks are written as DICOM segmentations too.
    """

    methods: Sequence[str] | None = None
    cases: Sequence[str] | None = None
    seeds: Sequence[int] | None = None
    dicom_seg: bool = False


@dataclass(frozen=True)
class _Cell:
    """What the files of a cell are made from."""

    slug: str
    out: Path
    maps: Path
    region: Region
    thresholds: tuple[Threshold, ...]


@dataclass(frozen=True)
class _Job:
    """A case with all cells that are written of it."""

    scan: PreparedCase
    ref: CaseRef
    truth: TruthRef
    out: Path
    cells: tuple[_Cell, ...]
    dicom_seg: bool


def export(
    folder: RunFolder,
    out: Path,
    chosen: Chosen,
    source: Source,
    readers: Readers,
    show: Callable[[int, int, str], object] = lambda done, total, text: None,
) -> list[Path]:
    """Write the chosen cells of a run below ``out`` and return their folders.

    ``SET/truth`` and ``SET/roi`` hold a file per case; ``SET/CELL`` holds the maps, ``SET/CELL/masks/PROTOCOL`` the
    masks whose Dice the tables print, and ``export.json`` what they are; ``dicom-seg`` in either holds a DICOM
    segmentation per case where these are asked for. Files that are there are replaced.

    Raises:
        ExportError: no such cell or case, a folder inside the run, or DICOM segmentations that cannot be made.
        DataError: the scans are not at hand, are others than those that were mapped, or their files cannot be read.
        RunFolderError: a record cannot be read, or its maps were not kept.
    """
    out = out.expanduser().absolute()
    if out.resolve().is_relative_to(folder.path.resolve()):
        raise ExportError(f"--to {out}: choose a folder outside the run")
    if chosen.dicom_seg and (lacking := missing()):
        raise ExportError(f"--dicom-seg: {lacking}")
    groups: dict[Any, list[Record]] = defaultdict(list)
    for record in _records(folder, chosen):
        groups[key_of(record)].append(record)
    jobs = []
    for key, records in groups.items():
        jobs += _jobs(folder, out, records, plain_task(options_again(folder.info(), key, source), readers), chosen)
    masks: dict[Path, dict[str, list[str]]] = defaultdict(dict)
    for number, (job, outcome) in enumerate(readers.work(_write, jobs), 1):
        if isinstance(outcome, Lost | str):
            raise DataError(f"case {job.scan.id}: {outcome if isinstance(outcome, str) else outcome.reason}")
        for cell, names in outcome.items():
            masks[cell][job.scan.id] = names
        show(number, len(jobs), f"cases written, {job.scan.id}")
    refs = {(job.scan.dataset, job.scan.id): job.ref for job in jobs}
    for records in groups.values():
        for record in records:
            target = _folder(out, record)
            _describe(folder, record, target, masks[target], refs)
    return list(masks)


def _records(folder: RunFolder, chosen: Chosen) -> list[Record]:
    records = folder.records()
    known = sorted({record.cell.method for record in records})
    for wanted in chosen.methods or ():
        if not any(fnmatchcase(name, wanted) for name in known):
            raise ExportError(f"--methods {wanted}: the run has {', '.join(known)}{did_you_mean(wanted, known)}")
    found = [
        record
        for record in records
        if (chosen.methods is None or any(fnmatchcase(record.cell.method, wanted) for wanted in chosen.methods))
        and (chosen.seeds is None or record.cell.seed in chosen.seeds)
    ]
    if not found:
        raise ExportError(f"{folder.path} has no finished cell of these methods and seeds")
    if unknown := sorted(set(chosen.cases or ()) - {case for record in found for case in record.data.cases}):
        cases = sorted({case for record in found for case in record.data.cases})
        raise ExportError(f"--cases {', '.join(unknown)}: the run has {', '.join(cases[:20])}")
    return found


def _jobs(folder: RunFolder, out: Path, records: Sequence[Record], data: TaskData, chosen: Chosen) -> Iterator[_Job]:
    for record in records:
        maps = folder.map_dir(record.cell)
        if finished(maps) != record.ids.map:
            raise RunFolderError(f"{maps} does not hold the maps of {record.cell.slug}; run the same 'bench run' again")
    for scan in data.test:
        if chosen.cases is not None and scan.id not in chosen.cases:
            continue
        if any(record.data.cases.get(scan.id) != scan.fingerprint for record in records):
            raise DataError(f"{data.refs[scan.id].image}: case {scan.id} is not the scan that was mapped")
        ref = data.refs[scan.id]
        if chosen.dicom_seg and ref.image.suffix.lower() != ".dcm":
            raise ExportError(f"--dicom-seg: the scans of {data.dataset} are no DICOM series ({ref.image.name})")
        cells = tuple(
            _Cell(r.cell.slug, _folder(out, r), folder.map_dir(r.cell), r.method.region, tuple(r.thresholds))
            for r in records
        )
        yield _Job(scan, ref, data.truths[scan.id], out / data.dataset, cells, chosen.dicom_seg)


def _folder(out: Path, record: Record) -> Path:
    return out / record.cell.dataset / record.cell.slug


def _write(job: _Job) -> dict[Path, list[str]] | str:
    """Write the files of a case and return by cell the protocols with a mask, or why it cannot be done."""
    try:
        scan, truth, name = job.scan.case(), load_truth(job.truth), f"{job.scan.id}.nii.gz"
        place = place_of(job.ref, scan.image)
        given = [Segment("roi", "roi", scan.roi)]
        if truth.lesion is not None:
            given.append(Segment("truth", "lesion", truth.lesion))
        for segment in given:
            _save(job.out / segment.label / name, place, segment.mask)
        if job.dicom_seg:
            write_segmentation(job.out / DICOM / f"{job.scan.id}.dcm", place, given, "region of interest and truth")
        found = {}
        for cell in job.cells:
            mask = cell.maps / f"{job.scan.id}.mask"
            own = mask if mask.exists() else None
            case = MeasureCase(job.scan, cell.maps / f"{job.scan.id}.map", job.truth, own, region=cell.region)
            map_, counted = case.native_map(), case.roi()
            _save(cell.out / name, place, np.where(counted, map_, np.float32(0)))
            masks = dict(predicted_masks(case, map_, counted, cell.thresholds))
            for protocol, predicted in masks.items():
                _save(cell.out / MASKS / protocol / name, place, predicted)
            if job.dicom_seg:
                segments = (Segment(protocol, "lesion", mask, cell.slug) for protocol, mask in masks.items())
                write_segmentation(cell.out / DICOM / f"{job.scan.id}.dcm", place, segments, cell.slug)
            found[cell.out] = list(masks)
    except UasbenchError as error:
        return str(error)
    return found


def _save(path: Path, place: Place, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, place.nifti(array))


def _describe(
    folder: RunFolder,
    record: Record,
    target: Path,
    masks: dict[str, list[str]],
    refs: dict[tuple[str, str], CaseRef],
) -> None:
    """Write what the files of a cell are."""
    about, data = read_sealed(folder.map_dir(record.cell) / MAP_SEAL), record.data
    protocols = sorted({name for names in masks.values() for name in names}, key=list(PROTOCOLS).index)
    text = {
        "schema": SCHEMA,
        "cell": record.cell.model_dump(),
        "title": record.method.title,
        "region": record.method.region,
        "ids": record.ids.model_dump(),
        "phantom": data.phantom,
        "native_threshold": about["native_threshold"],
        "own_masks": any((folder.map_dir(record.cell) / f"{case}.mask").exists() for case in data.cases),
        "protocols": {name: PROTOCOLS[name].legend for name in protocols},
        "thresholds": [threshold.model_dump() for threshold in record.thresholds],
        "cases": {
            case: {
                "patient": data.patients[case],
                "scan": refs[record.cell.dataset, case].image.name,
                "fingerprint": data.cases[case],
                "masks": names,
            }
            for case, names in sorted(masks.items())
        },
        "versions": record.environment.get("versions", {}),
        "commit": folder.info().get("environment", {}).get("commit"),
    }
    write_text(target / MANIFEST, json.dumps(text, indent=1) + "\n")
