"""The measure stage: maps and truth in, a record out. It imports no method and no torch."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ...common.sealed import check_files, is_sealed, read_sealed
from ...datasets.anatomy import find_anatomy
from ...datasets.case import OUTSIDE_SHARE
from ...datasets.storing.prepared import PreparedCase, TruthRef
from ...methods.card import SliceScore
from ..environment import environment
from ..instructions import instruction_text
from ..protocols.measuring import HealthyMap, MeasureCase, MeasureOptions, measure
from ..runs.map_store import healthy_map, restored_map
from ..runs.records import (
    FIT_SEAL,
    MAP_SEAL,
    UNCHECKED,
    CellKey,
    Convergence,
    Cost,
    DataInfo,
    LabelUse,
    MethodInfo,
    Record,
    StageIds,
    write_json,
)
from ..scoring.cases import ScoredCase
from ..scoring.surfaces import IMPLEMENTATION
from .task import Numerics, Progress, RunInside, Task, ZRange
from .wall import weakest

SURFACES = "surface_distances"  # who computed them: programs differ by many points


class MeasureTask(Task, frozen=True):
    """Everything needed to measure one cell; also what ``bench rescore`` reads back from the run folder.

    ``models`` is the number of models that mapped each held-out healthy case, ``labels`` how a top line used labels;
    ``gallery`` gets the slices that the report shows, with ``series`` those that compare methods as well, false parts
    by whether their slices lie further apart than ``trained_slice_mm``.
    """

    stage: Literal["measure"] = "measure"
    cell: CellKey
    method: MethodInfo
    profile: str
    config: dict[str, Any]
    ids: StageIds
    data: DataInfo
    cases: tuple[PreparedCase, ...]
    truths: dict[str, TruthRef]
    healthy: tuple[tuple[PreparedCase, ZRange], ...] = ()
    maps: Path
    fit_dirs: tuple[Path, ...] = ()
    record: Path
    study: Path
    gallery: Path | None = None
    series: bool = False
    trained_slice_mm: float | None = None
    slice_score: SliceScore
    trials: int
    numerics: Numerics
    models: int = 1
    labels: LabelUse | None = None


def run(task: MeasureTask, run_inside: RunInside) -> None:
    """Measure a cell and write its record.

    Raises:
        StageError: a map, a scan, a truth or what a fit has cost is not what was written.
    """
    run_inside(lambda report: _measure(task, report), None)


def _measure(task: MeasureTask, progress: Progress) -> None:
    maps = task.maps
    mapped = check_files(maps / MAP_SEAL)
    region = task.method.region
    masks = {case.id: path for case in task.cases if (path := maps / f"{case.id}.mask").exists()}
    shown = {title: number for number, title in enumerate(mapped.get("restored", []))}
    cases = [
        MeasureCase(
            c,
            maps / f"{c.id}.map",
            task.truths[c.id],
            masks.get(c.id),
            {title: restored_map(maps, c.id, number) for title, number in shown.items()},
            region=region,
        )
        for c in task.cases
    ]
    start = time.perf_counter()
    result = measure(
        cases,
        [
            HealthyMap(case, healthy_map(maps, case.id, model, task.models), z, region)
            for case, z in task.healthy
            for model in range(task.models)
        ],
        MeasureOptions(
            seed=task.cell.seed,
            trials=task.trials,
            slice_score=task.slice_score,
            native_threshold=mapped["native_threshold"],
            study_path=task.study,
            gallery_path=task.gallery,
            series=task.series,
            trained_slice_mm=task.trained_slice_mm,
            anatomy=task.data.anatomy,
            window=find_anatomy(task.data.anatomy).window,
            threads=task.numerics.threads,
            progress=progress,
        ),
    )
    notes = dict(task.data.notes)
    for case in cases:
        if (note := outside_note(case)) is not None:
            notes[case.id] = [*notes.get(case.id, []), note]
    fits = [read_sealed(folder / FIT_SEAL) for folder in task.fit_dirs]
    gpu = [p["peak_gpu_mib"] for p in (*fits, mapped) if p["peak_gpu_mib"] is not None]
    origins: dict[str, dict[str, None]] = {}  # where fits differ in one, each of its texts once
    for part in (*fits, mapped):
        for name, text in part.get("provenance", {}).items():
            origins.setdefault(name, {})[text] = None
    known = [stage["instruction_set"] for stage in (*fits, mapped) if "instruction_set" in stage]
    made_on = list(dict.fromkeys(map(instruction_text, known)))
    record = Record(
        cell=task.cell,
        method=task.method,
        profile=task.profile,
        config=task.config,
        ids=task.ids,
        data=task.data.model_copy(update={"notes": notes, "facts": result.facts}),
        thresholds=result.thresholds,
        per_case=result.per_case,
        pooled=result.pooled,
        error_bounds=result.error_bounds,
        froc=result.froc,
        histogram=result.histogram,
        cost=Cost(
            fit_s=sum(fit["fit_s"] for fit in fits),
            score_s=mapped["score_s"],
            measure_s=time.perf_counter() - start,
            s_per_slice=mapped["score_s"] / max(1, mapped["slices"]),
            peak_ram_mib=max(p["peak_ram_mib"] for p in (*fits, mapped)),
            peak_gpu_mib=max(gpu, default=None),
            params=sum(fit["params"] for fit in fits) // task.models + mapped.get("params", 0),
            **task.numerics.model_dump(),
            updates=fits[0]["updates"] if fits else {},
        ),
        environment={
            **environment(),
            "made_on": made_on,
            SURFACES: IMPLEMENTATION,
            **({} if is_sealed(mapped) else {UNCHECKED: True}),
        },
        isolation=weakest(part.get("isolation", "none") for part in (*fits, mapped)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=task.labels,
        provenance={name: "; ".join(texts) for name, texts in origins.items()},
        convergence=[
            Convergence.model_validate({**phase, "fit": number})
            for number, fit in enumerate(fits)
            for phase in fit.get("convergence", [])
        ],
    )
    write_json(task.record, record)


def outside_note(case: ScoredCase) -> str | None:
    """Return a remark where more than 5 % of a case's lesion lies outside its region of interest, else None."""
    share = case.load_truth().share_outside(case.roi())
    if share <= OUTSIDE_SHARE:
        return None
    return f"{100 * share:.0f} % of the lesion lies outside the region of interest and is not measured"
