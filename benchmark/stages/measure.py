"""The measure stage: maps and truth in, a record out. It imports no method and no torch."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...datasets.anatomy import find_anatomy
from ...datasets.case import OUTSIDE_SHARE
from ...datasets.storing.prepared import PreparedCase, TruthRef
from ..protocols.measuring import HealthyMap, MeasureCase, MeasureOptions, measure
from ..runs.map_store import healthy_map
from ..runs.records import CellKey, Cost, DataInfo, LabelUse, MethodInfo, Record, StageIds, write_json
from ..scoring.cases import Source
from ..versions import versions

ZRange = tuple[int, int] | None


@dataclass(frozen=True)
class MeasureTask:
    """Everything needed to measure one cell; also what ``bench rescore`` reads back from the run folder.

    ``models`` is the number of models that mapped each held-out healthy case, ``labels`` how a top line used labels.
    """

    id: str
    cell: dict[str, Any]
    method: dict[str, Any]
    profile: str
    config: dict[str, Any]
    ids: dict[str, Any]
    data: dict[str, Any]
    cases: list[dict[str, Any]]
    truths: dict[str, dict[str, Any]]
    healthy: list[tuple[dict[str, Any], ZRange]]
    maps: str
    fit_dirs: list[str]
    record: str
    study: str
    slice_score: Any
    trials: int
    device: str
    threads: int
    precision: str
    models: int = 1
    labels: dict[str, Any] | None = None


def run(task: MeasureTask, report: Callable[[str, Any], None]) -> None:
    """Measure a cell and write its record."""
    maps = Path(task.maps)
    mapped = json.loads((maps / "map.json").read_text(encoding="utf-8"))
    cases = [_case(task, maps, PreparedCase.from_json(c)) for c in task.cases]
    start = time.perf_counter()
    result = measure(
        cases,
        [
            HealthyMap(PreparedCase.from_json(c), healthy_map(maps, c["id"], model, task.models), z)
            for c, z in task.healthy
            for model in range(task.models)
        ],
        MeasureOptions(
            seed=task.cell["seed"],
            trials=task.trials,
            slice_score=tuple(task.slice_score) if isinstance(task.slice_score, list) else task.slice_score,
            native_threshold=mapped["native_threshold"],
            study_path=Path(task.study),
            gallery_path=maps / "gallery.npz",
            anatomy=task.data["anatomy"],
            window=find_anatomy(task.data["anatomy"]).window,
            threads=task.threads,
            progress=lambda done, total: report("progress", (done, total)),
        ),
    )
    fits = [json.loads((Path(folder) / "fit.json").read_text(encoding="utf-8")) for folder in task.fit_dirs]
    record = Record(
        cell=CellKey(**task.cell),
        method=MethodInfo(**task.method),
        profile=task.profile,
        config=task.config,
        ids=StageIds(**task.ids),
        data=_with_outside(DataInfo(**task.data), cases),
        thresholds=result.thresholds,
        per_case=result.per_case,
        pooled=result.pooled,
        error_bounds=result.error_bounds,
        cost=_cost(task, fits, mapped, time.perf_counter() - start),
        environment=environment(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=None if task.labels is None else LabelUse(**task.labels),
        provenance=_provenance(fits),
    )
    write_json(Path(task.record), record)


def outside_note(case: Source) -> str | None:
    """Return a remark where more than 5 % of a case's lesion lies outside its region of interest, else None."""
    share = case.load_truth().share_outside(case.roi())
    if share <= OUTSIDE_SHARE:
        return None
    return f"{100 * share:.0f} % of the lesion lies outside the region of interest and is not measured"


def _with_outside(data: DataInfo, cases: list[MeasureCase]) -> DataInfo:
    found = {case.id: note for case in cases if (note := outside_note(case)) is not None}
    notes = {**data.notes, **{case: [*data.notes.get(case, []), note] for case, note in found.items()}}
    return data.model_copy(update={"notes": notes})


def environment() -> dict[str, Any]:
    """Return what was recorded beside a result and never hashed: versions and the machine."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "versions": versions(),
        "byteorder": sys.byteorder,
    }


def _case(task: MeasureTask, maps: Path, prepared: PreparedCase) -> MeasureCase:
    mask = maps / f"{prepared.id}.mask"
    return MeasureCase(
        prepared=prepared,
        map_path=maps / f"{prepared.id}.map",
        mask_path=mask if mask.exists() else None,
        truth=TruthRef.from_json(task.truths[prepared.id]),
    )


def _provenance(fits: list[dict[str, Any]]) -> dict[str, str]:
    """Return what the fits say about their origin; where they differ, each of the texts once."""
    found: dict[str, dict[str, None]] = {}
    for fit in fits:
        for name, text in fit.get("provenance", {}).items():
            found.setdefault(name, {})[text] = None
    return {name: "; ".join(texts) for name, texts in found.items()}


def _cost(task: MeasureTask, fits: list[dict[str, Any]], mapped: dict[str, Any], measure_s: float) -> Cost:
    gpu = [p["peak_gpu_mib"] for p in (*fits, mapped) if p["peak_gpu_mib"] is not None]
    return Cost(
        fit_s=sum(fit["fit_s"] for fit in fits),
        score_s=mapped["score_s"],
        measure_s=measure_s,
        s_per_slice=mapped["score_s"] / max(1, mapped["slices"]),
        peak_ram_mib=max(p["peak_ram_mib"] for p in (*fits, mapped)),
        peak_gpu_mib=max(gpu) if gpu else None,
        params=sum(fit["params"] for fit in fits) // task.models,
        device=task.device,
        threads=task.threads,
        precision=task.precision,
        updates=fits[0]["updates"] if fits else {},
    )
