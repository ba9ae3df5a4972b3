"""The map stage: a fitted method and cases in, anomaly maps out. It never sees a label path."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...datasets.atomic import new_folder
from ...datasets.seeds import derive, seed_everything
from ...datasets.store import PreparedCase
from .. import device as devices
from ..runs.records import write_json
from ..usage import peak_ram_mib
from . import drive
from .fit import MethodSpec, Report
from .map_store import write_map, write_mask


@dataclass(frozen=True)
class MapTask:
    """Everything a worker needs to map the test cases and the cases with held-out healthy slices of one cell."""

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


def run(task: MapTask, report: Report) -> None:
    """Write one map per case below ``task.out``, which is replaced whole or not at all."""
    out = Path(task.out)
    if finished(out) == task.id:
        return
    devices.configure(task.device, task.threads)
    cls, config = task.method.load()
    wanted = getattr(config, "checkpoint", "last")
    members = [drive.load(cls, config, _checkpoint(Path(fit), wanted), task.device) for fit in task.fit_dirs]
    if out.exists():
        shutil.rmtree(out)
    with new_folder(out) as scratch:
        (scratch / "healthy").mkdir()
        _map_all(task, members, scratch, report)


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


def _map_all(task: MapTask, members: list[Any], scratch: Path, report: Report) -> None:
    total = len(task.cases) + len(task.healthy)
    seconds, slices = 0.0, 0
    for i, pointer in enumerate(task.cases):
        case_seconds, case_slices = _map_one(task, members, PreparedCase.from_json(pointer), scratch, mask=True)
        seconds, slices = seconds + case_seconds, slices + case_slices
        report("progress", (i + 1, total))
    for i, pointer in enumerate(task.healthy):
        _map_one(task, members, PreparedCase.from_json(pointer), scratch / "healthy", mask=False)
        report("progress", (len(task.cases) + i + 1, total))
    write_json(
        scratch / "map.json",
        {
            "id": task.id,
            "score_s": seconds,
            "slices": slices,
            "peak_ram_mib": peak_ram_mib(),
            "peak_gpu_mib": devices.peak_gpu_mib(task.device),
            "native_threshold": members[0].native_threshold,
        },
    )


def _map_one(
    task: MapTask, members: list[Any], prepared: PreparedCase, folder: Path, *, mask: bool
) -> tuple[float, int]:
    method, case = members[0], prepared.case()
    viewed = None if method.view is None else prepared.viewed(method.view)
    seed_everything(derive(task.seed, "score", prepared.dataset, prepared.id))
    start = time.perf_counter()
    with drive.precision(task.device, task.precision):
        scores = drive.score_together(members, case, viewed)
    seconds = time.perf_counter() - start
    geometry, support = (None, case.roi) if viewed is None else (viewed.geometry, viewed.support)
    write_map(folder / f"{case.id}.map", scores, geometry, support)
    decision = drive.decide(method, case, viewed, scores) if mask else None
    if decision is not None:
        write_mask(folder / f"{case.id}.mask", decision)
    return seconds, int(case.roi.any(axis=(1, 2)).sum())
