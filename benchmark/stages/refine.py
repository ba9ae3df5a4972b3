"""The refine stage: a row's maps and SAM in, masks out, beside a copy of the maps. It never sees a label path."""

import shutil
import time
from pathlib import Path
from typing import Literal

from ...common.atomic import discard, new_folder
from ...common.errors import UasbenchError
from ...common.sealed import check_files, damage, seal_folder
from ...common.seeds import derive
from ...datasets.case import Region, counted
from ...datasets.storing.prepared import PreparedCase
from .. import device as devices
from ..instructions import made_on
from ..protocols.catalogue import REFINED
from ..protocols.evidence import healthy_curves
from ..refinement.prompts import Prompt
from ..refinement.refining import Healthy, refine, to_bytes
from ..refinement.sam import PUBLISHED, SamPredictor, file_sha256
from ..runs.map_store import healthy_map, read_map, write_mask
from ..runs.records import MAP_SEAL
from ..scoring.cases import HealthyMap
from .inputs import check_whole, entries_of, kernels_beside
from .map import finished
from .task import Numerics, Progress, RunInside, Task, ZRange
from .wall import Places, standing, weakest


class RefineError(UasbenchError):
    """What is to be refined is not what was planned."""


class RefineTask(Task, frozen=True):
    """The masks of one row ``METHOD+PROMPT``, made of the maps ``base`` of the row ``METHOD``.

    ``model_count`` is the number of models that mapped each held-out healthy case; ``window`` are the HU shown to SAM
    as black and white; ``sha256`` is that of the file of ``weights``.
    """

    stage: Literal["refine"] = "refine"
    id: str
    base: Path
    base_id: str
    cases: tuple[PreparedCase, ...]
    healthy: tuple[tuple[PreparedCase, ZRange], ...]
    model_count: int
    region: Region
    prompt: Prompt
    window: tuple[float, float]
    weights: Path
    sha256: str
    seed: int
    numerics: Numerics
    out: Path


def run(task: RefineTask, run_inside: RunInside) -> None:
    """Write one mask per case below ``task.out``, which is replaced whole or not at all, and the maps with them.

    Raises:
        StageError: maps or weights are not those that were planned with.
    """
    if finished(task.out) == task.id and damage(task.out / MAP_SEAL) is None:
        return
    discard(task.out)
    with new_folder(task.out, listed=True) as scratch:
        run_inside(lambda report: _refine_all(task, scratch, report), _places(task, scratch))
        check_whole(scratch, MAP_SEAL)


def _places(task: RefineTask, scratch: Path) -> Places:
    cases = [*task.cases, *(case for case, _ in task.healthy)]
    return Places((*entries_of(cases), task.base, task.weights), (scratch,), kernels=kernels_beside(cases))


def _refine_all(task: RefineTask, scratch: Path, progress: Progress) -> None:
    devices.configure(task.numerics.device, task.numerics.threads)
    mapped = check_files(task.base / MAP_SEAL)
    if mapped["id"] != task.base_id:
        raise RefineError(f"{task.base} holds other maps than those of the plan; run the same command again")
    if file_sha256(task.weights) != task.sha256:
        raise RefineError(f"{task.weights} is another file than the one of the plan; run the same command again")
    healthy, predictor = _healthy(task), SamPredictor(task.weights, task.numerics.device)
    start = time.perf_counter()
    asked = kept = 0
    for number, prepared in enumerate(task.cases, 1):
        case, map_path = prepared.case(), task.base / f"{prepared.id}.map"
        found = refine(
            to_bytes(case.image, task.window),
            counted(case.roi, task.region),
            read_map(map_path).native(),
            healthy,
            predictor,
            task.prompt,
            derive(task.seed, "refine", prepared.dataset, prepared.id),
        )
        write_mask(scratch / f"{prepared.id}.mask", found.mask)
        asked, kept = asked + found.asked, kept + found.kept
        progress(number, len(task.cases))
    seconds = time.perf_counter() - start
    _copy_maps(task, scratch)
    file = PUBLISHED.get(task.sha256)
    peaks = devices.peaks(task.numerics.device)
    about = {
        "id": task.id,
        "score_s": mapped["score_s"] + seconds,
        "refine_s": seconds,
        "slices": mapped["slices"],
        "native_threshold": None,
        "instruction_set": made_on(task.numerics.device),
        "isolation": weakest([standing(), mapped.get("isolation", "none")]),
        "restored": [],
        "params": predictor.params,
        "provenance": {
            "refinement": f"{kept} of {asked} masks of SAM kept, above {healthy.threshold:.6g}",
            "weights of SAM": f"{file} (Apache-2.0)" if file else f"{task.weights.name}, of unknown origin and licence",
            "SHA-256 of SAM": task.sha256,
        },
    }
    higher = {name: max((v for v in (peaks[name], mapped[name]) if v is not None), default=None) for name in peaks}
    seal_folder(scratch / MAP_SEAL, about | higher)


def _healthy(task: RefineTask) -> Healthy:
    """Return the threshold of the protocol that refined rows start from, and the lowest score, of healthy scans."""
    scores = [
        HealthyMap(case, healthy_map(task.base, case.id, model, task.model_count), z, task.region).open().scores
        for case, z in task.healthy
        for model in range(task.model_count)
    ]
    curves, quantile = healthy_curves(scores), REFINED.quantile
    assert curves is not None
    assert quantile is not None
    lowest = min(float(part.min()) for part in scores if len(part))
    return Healthy(curves.threshold(curves.cut_at(quantile)), lowest)


def _copy_maps(task: RefineTask, scratch: Path) -> None:
    """Copy what is measured: rows stay readable where one of them is deleted."""
    for path in (*task.base.glob("*.map"), *task.base.glob("healthy/*.map")):
        copy = scratch / path.relative_to(task.base)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
