"""The map stage: a fitted method and cases in, anomaly maps out. It never sees a label path."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.atomic import new_folder
from ...common.seeds import derive, seed_everything
from ...datasets.storing.prepared import PreparedCase
from .. import device as devices
from ..runs.map_store import healthy_map, write_map, write_mask
from ..runs.records import write_json
from ..usage import peak_ram_mib
from . import drive
from .fit import MethodSpec, Report


@dataclass(frozen=True)
class MapTask:
    """Everything a worker needs to map the test cases and the cases with held-out healthy slices of one cell.

    Each of the ``models`` is a list of positions in ``fit_dirs``, several of which are members whose median is the map;
    ``mapped_by`` says which model maps each test case. Every model maps the held-out healthy cases, none of which any
    model was trained on. Left empty, all fits are one model.
    """

    id: str
    method: MethodSpec
    fit_dirs: list[str]
    seed: int
    cases: list[dict[str, Any]]
    healthy: list[dict[str, Any]]
    device: str
    precision: str
    threads: int
    out: str
    models: list[list[int]] = field(default_factory=list)
    mapped_by: list[int] = field(default_factory=list)


def run(task: MapTask, report: Report) -> None:
    """Write one map per case below ``task.out``, which is replaced whole or not at all."""
    out = Path(task.out)
    if finished(out) == task.id:
        return
    devices.configure(task.device, task.threads)
    cls, config = task.method.load()
    wanted = getattr(config, "checkpoint", "last")
    states = [_checkpoint(Path(fit), wanted) for fit in task.fit_dirs]
    if out.exists():
        shutil.rmtree(out)
    with new_folder(out) as scratch:
        (scratch / "healthy").mkdir()
        _map_all(task, lambda i: drive.load(cls, config, states[i], task.device), scratch, report)


def finished(out: Path) -> str | None:
    """Return the id of the maps that lie in ``out``, or None."""
    try:
        return json.loads((out / "map.json").read_text(encoding="utf-8"))["id"]
    except (OSError, ValueError, KeyError):
        return None


def _checkpoint(fit: Path, name: str) -> Path:
    path = fit / f"{name}.pt"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in fit.glob("*.pt")))
        raise FileNotFoundError(f"the fit kept no checkpoint {name!r}; it has {there}")
    return path


def _map_all(task: MapTask, load: Callable[[int], Any], scratch: Path, report: Report) -> None:
    models = task.models or [list(range(len(task.fit_dirs)))]
    mapped_by = task.mapped_by or [0] * len(task.cases)
    total = len(task.cases) + len(task.healthy) * len(models)
    seconds, slices, done = 0.0, 0, 0
    thresholds: list[float | None] = []
    for number, positions in enumerate(models):
        members = [load(i) for i in positions]
        thresholds.append(members[0].native_threshold)
        for pointer in (case for case, model in zip(task.cases, mapped_by, strict=True) if model == number):
            prepared = PreparedCase.from_json(pointer)
            mask = scratch / f"{prepared.id}.mask"
            case_seconds, case_slices = _map_one(task, members, prepared, scratch / f"{prepared.id}.map", mask)
            seconds, slices, done = seconds + case_seconds, slices + case_slices, done + 1
            report("progress", (done, total))
        for pointer in task.healthy:
            prepared = PreparedCase.from_json(pointer)
            _map_one(task, members, prepared, healthy_map(scratch, prepared.id, number, len(models)))
            done += 1
            report("progress", (done, total))
    write_json(
        scratch / "map.json",
        {
            "id": task.id,
            "score_s": seconds,
            "slices": slices,
            "peak_ram_mib": peak_ram_mib(),
            "peak_gpu_mib": devices.peak_gpu_mib(task.device),
            "native_threshold": _one_threshold(thresholds),
        },
    )


def _one_threshold(thresholds: list[float | None]) -> float | None:
    if any(threshold != thresholds[0] for threshold in thresholds):
        raise drive.MethodError(
            f"native_threshold differs between folds: {', '.join(map(str, thresholds))}; make it a constant, or decide "
            "in postprocess"
        )
    return thresholds[0]


def _map_one(
    task: MapTask, members: list[Any], prepared: PreparedCase, path: Path, mask: Path | None = None
) -> tuple[float, int]:
    method, case = members[0], prepared.case()
    viewed = None if method.view is None else prepared.viewed(method.view)
    seed_everything(derive(task.seed, "score", prepared.dataset, prepared.id))
    start = time.perf_counter()
    with drive.precision(task.device, task.precision):
        scores = drive.score_together(members, case, viewed)
    seconds = time.perf_counter() - start
    geometry, support = (None, case.roi) if viewed is None else (viewed.geometry, viewed.support)
    write_map(path, scores, geometry, support)
    decision = None if mask is None else drive.decide(method, case, viewed, scores)
    if decision is not None and mask is not None:
        write_mask(mask, decision)
    return seconds, int(case.roi.any(axis=(1, 2)).sum())
