"""Scores maps that another program made: NIfTI files in, a record beside the others out."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..datasets.errors import DataError
from ..datasets.store import PreparedCase
from ..datasets.volume_io import read_map_volume
from . import ids, stage_measure
from .map_store import write_map
from .options import RunOptions
from .plan import Numerics
from .records import CellKey, MethodInfo, Record, StageIds, write_json
from .run_folder import RunFolder
from .stage_measure import MeasureTask
from .task_data import TaskData

SUFFIXES = (".nii.gz", ".nii")


def import_maps(
    source: Path,
    method: str,
    folder: RunFolder,
    options: RunOptions,
    data: TaskData,
    threshold: float | None,
) -> Record:
    """Store the maps of ``source`` (one NIfTI per test case, named like the case) and measure them.

    Args:
        threshold: the method's own threshold, for the ``native`` protocol.

    Raises:
        DataError: a case without a map, a shape that differs, values that are not finite inside the region of interest,
            or a bad name.
    """
    if not re.fullmatch(r"[a-z0-9]+([-@.][a-z0-9]+)*", method):
        raise DataError(f"--method {method!r}: use lower-case letters, digits, dashes and one @ before a variant")
    files = {case.id: _find(source, case.id) for case in data.test}
    key = CellKey(method=method, dataset=data.dataset, train=data.train, seed=0)
    target = folder.map_dir(key)
    target.mkdir(parents=True, exist_ok=True)
    digests = []
    for case in data.test:
        values = _read(files[case.id], case)
        roi = case.case().roi
        write_map(target / f"{case.id}.map", values, None, roi)
        digests.append((case.id, ids.digest(values[roi].tobytes().hex())))
    address = ids.digest({"imported": digests})
    write_json(
        target / "map.json",
        {
            "id": address,
            "score_s": 0.0,
            "slices": 0,
            "peak_ram_mib": 0.0,
            "peak_gpu_mib": None,
            "native_threshold": threshold,
        },
    )
    task = _task(key, address, method, folder, options, data)
    write_json(folder.cell_path(key), asdict(task))
    stage_measure.run(task, lambda *_: None)
    return folder.record(folder.record_path(key))


def _find(source: Path, case: str) -> Path:
    for suffix in SUFFIXES:
        path = source / f"{case}{suffix}"
        if path.is_file():
            return path
    raise DataError(f"{source}: no map for case {case}; expected {case}.nii.gz or {case}.nii for every test case")


def _read(path: Path, case: PreparedCase) -> np.ndarray:
    values = read_map_volume(path)
    if values.shape != case.shape:
        raise DataError(
            f"{path}: the map has shape {values.shape} (z, y, x), the case has {case.shape}; "
            "write maps on the grid of the CT and with its affine"
        )
    return values


def _task(
    key: CellKey, address: str, method: str, folder: RunFolder, options: RunOptions, data: TaskData
) -> MeasureTask:
    measured = ids.measure_id(
        maps=address,
        truth={case: ref.fingerprint for case, ref in data.truths.items()},
        patients={case.id: case.patient for case in data.test},
        slice_score="max",
        trials=options.study_trials,
        seed=0,
    )
    stages = StageIds(fit="imported", map=address, measure=measured)
    info = MethodInfo(
        name=method,
        title=f"{method} (imported maps)",
        family="imported",
        supervision="unknown",
        uses="unknown",
        deterministic=True,
        trivial=False,
    )
    return MeasureTask(
        id=measured,
        cell=key.model_dump(),
        method=info.model_dump(),
        profile=options.profile,
        config={},
        ids=stages.model_dump(),
        data=data.info().model_dump(),
        cases=[case.to_json() for case in data.test],
        truths={case: ref.to_json() for case, ref in data.truths.items()},
        healthy=[],
        maps=str(folder.map_dir(key)),
        fit_dir=None,
        record=str(folder.record_path(key)),
        study=str(folder.tuning_dir / f"{key.slug}.log"),
        slice_score="max",
        trials=options.study_trials,
        **asdict(Numerics("elsewhere", 1, "fp32")),
    )
