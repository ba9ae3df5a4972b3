"""Scores maps that another program made: NIfTI files in, a record beside the others out."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...common.atomic import discard, new_folder
from ...common.errors import DataError, brief
from ...common.json_files import read_json
from ...common.sealed import seal_folder
from ...datasets.case import Region, counted
from ...datasets.readers import Lost, Readers
from ...datasets.reading.volume_io import read_map_volume
from ...datasets.storing.prepared import PreparedCase
from .. import device as devices
from ..catalogue.registry import methods, toplines
from ..planning import ids
from ..planning.info import check_source, write_info
from ..planning.options import RunOptions
from ..planning.plan import BYTES_PER_VALUE
from ..planning.task_data import TaskData
from ..planning.tasks import Planned, plain_task
from ..protocols.catalogue import NATIVE
from ..runs.certificate import REVOKED
from ..runs.folder import RunFolder, RunFolderError
from ..runs.map_store import write_map, write_mask
from ..runs.records import MAP_SEAL, CellKey, MethodInfo, Record, StageIds, write_json
from ..stages import measure as stage_measure
from ..stages.apart import Here
from ..stages.measure import MeasureTask
from ..stages.task import ELSEWHERE
from .exporting import MANIFEST, MASKS, SCHEMA

FAMILY = "imported"


@dataclass(frozen=True)
class Said:
    """What is known of maps beside their values; of those that ``bench export`` wrote, what it says.

    Attributes:
        threshold: the method's own, for the ``native`` protocol.
        masks: folder of the method's own masks, named like the maps, where it makes such.
        region: where the maps are measured.
        seed: of the method; None where it has none, so that one import is all there is of it.
    """

    threshold: float | None = None
    masks: Path | None = None
    region: Region = "roi"
    seed: int | None = None


class _Files(NamedTuple):
    """The files of a case."""

    map: Path
    mask: Path | None


def import_maps(source: Path, method: str, options: RunOptions, threshold: float | None) -> tuple[RunFolder, Record]:
    """Store the maps of ``source`` (one NIfTI per test case, named like the case) and measure them as a cell of a run.

    Maps of the same name that were imported before are replaced, whole or not at all. ``threshold`` is the method's
    own, for the ``native`` protocol. The folder of a cell that ``bench export`` wrote brings its seed, and its own
    threshold or its own masks where no threshold is given.

    Raises:
        DataError: a case without a map or without a trusted orientation, a shape that differs, values that are not
            finite inside the region of interest, or a bad name or threshold.
        RunFolderError: another bench works in the folder.
    """
    if not re.fullmatch(r"[a-z0-9]+([-@.][a-z0-9]+)*", method):
        raise DataError(f"--method {method!r}: use lower-case letters, digits, dashes and one @ before a variant")
    if threshold is not None and not math.isfinite(threshold):
        raise DataError(f"--threshold {threshold}: give a finite number")
    said = read_manifest(source, options.datasets[0], threshold)
    with RunFolder.working(options.folder()) as folder, Readers(devices.default_workers("cpu")) as readers:
        check_source(folder, options)
        data = plain_task(options, readers)
        _refuse_untrusted(data.dataset, data.test)
        files = {case.id: _files(source, case.id, said) for case in data.test}
        key = CellKey(method=method, dataset=data.dataset, train=data.train, seed=said.seed or 0)
        _refuse_taken(folder, method)
        folder.ledger.add(folder.map_dir(key), folder.gallery_path(key))
        with new_folder(folder.map_dir(key), BYTES_PER_VALUE * data.test_voxels, listed=True) as scratch:
            address = _store(files, data.test, said, scratch, readers)
            # The former record goes before the maps: it must not stand beside maps that it was not made from.
            if folder.run_json.exists():
                folder.update_info(**REVOKED)
            if folder.record_path(key).exists():
                folder.retire(folder.record_path(key))
            discard(folder.map_dir(key))
        task = _task(key, address, method, folder, options, data, said)
        if not folder.run_json.exists():
            write_info(folder, options, ELSEWHERE, 1, [Planned(data=data)], [key.slug])
        folder.update_info(cells=sorted({*folder.info()["cells"], key.slug}))
        write_json(folder.cell_path(key), task)
        stage_measure.run(task, Here(lambda done, total: None))
    return folder, folder.record(folder.record_path(key))


def read_manifest(source: Path, dataset: str, threshold: float | None) -> Said:
    """Return what ``bench export`` wrote down of the maps in a folder, or no more than the given threshold.

    Raises:
        DataError: it cannot be read, is of a newer version, or of another set.
    """
    path = source / MANIFEST
    if not path.exists():
        return Said(threshold)
    try:
        held = read_json(path)
        masks, cell = source / MASKS / NATIVE if held["own_masks"] else None, CellKey(**held["cell"])
        said = Said(held["native_threshold"], masks, held["region"], cell.seed)
        known = held["schema"] <= SCHEMA
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({brief(error)}); export the run again, or delete the file") from error
    if not known:
        raise DataError(f"{path} has schema {held['schema']}, this version reads up to {SCHEMA}")
    if cell.dataset != dataset:
        raise DataError(f"{path}: these are maps of {cell.dataset}, not of {dataset}; give --dataset {cell.dataset}")
    return said if threshold is None else replace(said, threshold=threshold, masks=None)


def _refuse_untrusted(dataset: str, cases: Sequence[PreparedCase]) -> None:
    turned = [case.id for case in cases if case.trust.orientation_source == "anatomy"]
    if turned:
        excludes = " ".join(f"--exclude {dataset}:{case}" for case in turned)
        raise DataError(
            f"{', '.join(turned)}: the scan lost its header and its axes were turned by anatomy, so that a map cannot "
            f"be written on the turned grid; leave it out of the comparison: {excludes}"
        )


def _refuse_taken(folder: RunFolder, method: str) -> None:
    """Refuse the name of a method, also with a variant behind it: both would stand in the tables as one."""
    name = method.partition("@")[0]
    if name in {*methods().names(), *toplines().names()}:
        raise DataError(f"--method {method!r}: {name} is a registered method; choose another name for the maps")
    for path in sorted([*folder.records_dir.glob("*.json"), *folder.cells_dir.glob("*.json")]):
        try:
            value = read_json(path)
            taken = value["cell"]["method"].partition("@")[0] == name and value["method"]["family"] != FAMILY
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunFolderError(f"{path} cannot be read ({error}); delete it and run again") from error
        if taken:
            raise DataError(f"--method {method!r}: {path} belongs to a method of that name; choose another name")


def _store(files: dict[str, _Files], cases: Sequence[PreparedCase], said: Said, folder: Path, readers: Readers) -> str:
    digests: dict[str, str] = {}
    for prepared, outcome in readers.work(partial(_store_one, files, folder, said.region), cases, 1):
        if isinstance(outcome, Lost):
            raise DataError(f"{files[prepared.id].map}: {outcome.reason}; write the map again")
        if isinstance(outcome, DataError):
            raise outcome
        digests[prepared.id] = outcome
    stored = [(case.id, case.fingerprint, digests[case.id]) for case in cases]
    address = ids.digest({"imported": stored, "threshold": said.threshold})
    costs = {"score_s": 0.0, "slices": 0, "peak_ram_mib": 0.0, "peak_gpu_mib": None}
    seal_folder(folder / MAP_SEAL, {"id": address, **costs, "native_threshold": said.threshold})
    return address


def _store_one(files: dict[str, _Files], folder: Path, region: Region, prepared: PreparedCase) -> str | DataError:
    """Store map and mask of a case and return the digest of what counts, or why they cannot be used."""
    case, wanted = prepared.case(), files[prepared.id]
    inside = counted(case.roi, region)
    try:
        values = _read(wanted.map, inside)
        mask = None if wanted.mask is None else _read(wanted.mask, inside) > 0
    except DataError as error:
        return error
    write_map(folder / f"{case.id}.map", values, None, inside)
    digest = hashlib.blake2b(values[inside].tobytes(), digest_size=16)
    if mask is not None:
        write_mask(folder / f"{case.id}.mask", mask & inside)
        digest.update(mask[inside].tobytes())
    return digest.hexdigest()


def _files(source: Path, case: str, said: Said) -> _Files:
    return _Files(_find(source, case), None if said.masks is None else _find(said.masks, case))


def _find(source: Path, case: str) -> Path:
    for path in (source / f"{case}.nii.gz", source / f"{case}.nii"):
        if path.is_file():
            return path
    raise DataError(f"{source}: no map for case {case}; expected {case}.nii.gz or {case}.nii for every test case")


def _read(path: Path, counted: np.ndarray) -> np.ndarray:
    values = read_map_volume(path)
    if values.shape != counted.shape:
        raise DataError(
            f"{path}: the map has shape {values.shape} (z, y, x), the case has {counted.shape}; "
            "write maps on the grid of the CT and with its affine"
        )
    inside = values[counted]
    bad = int(np.count_nonzero(~np.isfinite(inside)))
    if bad:
        raise DataError(
            f"{path}: {bad} of {inside.size} values inside the region of interest are NaN or infinite in float32; "
            "write a finite score for every voxel of the region"
        )
    return values


def _task(
    key: CellKey,
    address: str,
    method: str,
    folder: RunFolder,
    options: RunOptions,
    data: TaskData,
    said: Said,
) -> MeasureTask:
    info = MethodInfo(
        name=method, title=f"{method} (imported maps)", family=FAMILY, supervision="unknown", uses="unknown",
        deterministic=said.seed is None, trivial=False, region=said.region,
    )  # fmt: skip
    task = MeasureTask(
        cell=key,
        method=info,
        profile=options.profile,
        config={},
        ids=StageIds(fit=FAMILY, map=address, measure=""),
        data=data.info(),
        cases=tuple(data.test),
        truths=data.truths,
        **folder.measuring(key),
        slice_score="max",
        trials=options.study_trials,
        numerics=ELSEWHERE,
    )
    return ids.addressed(task)
