"""Content addresses of stages: an id hashes everything that can change the stage's result."""

import hashlib
import json
from typing import Any

from ...common.source_hash import closure_hash
from ...datasets.storing.prepared import PreparedCase
from .. import device as devices
from ..stages.fit import FitTask, MethodSpec
from ..stages.measure import MeasureTask
from ..stages.task import Numerics
from .selection import Candidate
from .task_data import TaskData

PACKAGE = __name__.split(".")[0]


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits over the JSON form of ``value``."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _sources(stage: str, method: MethodSpec) -> list[str]:
    """Sources of a stage, of what a plug-in gets through the lazy names of the package, and of the method."""
    modules = (f"benchmark.stages.{stage}", "methods.method", "methods.training")
    return [closure_hash(name) for name in (*(f"{PACKAGE}.{m}" for m in modules), method.target.partition(":")[0])]


def arithmetic(numerics: Numerics) -> dict[str, Any]:
    """Return what addresses say of the arithmetic: what a run is asked for, and on CUDA where fp32 is TF32.

    Whether networks are compiled is for the addresses of fits to say: all other stages run them as they are.
    """
    return numerics.model_dump(exclude={"compiled"}) | ({} if numerics.device == "cpu" else {"tf32": devices.TF32})


def fit_id(task: FitTask, candidate: Candidate, split: str) -> str:
    """Address of a fit: source, fit settings, training voxels, split, seed and numerics; only a top line's has labels.

    Methods that share a trainer share fits. What a method adds itself is, for instance, the hash of local weights.
    """

    def named(case: PreparedCase) -> tuple[str, str, str]:
        return case.dataset, case.id, case.fingerprint

    return digest(
        ({"compiled": True} if task.numerics.compiled else {})
        | {
            "stage": "fit",
            "source": _sources("fit", task.method),
            "trainer": candidate.card.trainer or candidate.card.name,
            "config": candidate.fit_config,
            "parts": [(case.fingerprint, z) for case, z in task.parts],
            "watched": [(case.fingerprint, z) for case, z in task.held_out],
            "split": split,
            "seed": task.seed,
            "numerics": arithmetic(task.numerics),
            "unlabelled": [named(case) for case in task.unlabelled],
            "labelled": [(*named(case), truth.fingerprint) for case, truth in task.labelled],
            "extra": candidate.extra_identity,
        }
    )


def map_id(fit: str, candidate: Candidate, data: TaskData, *, restorations: bool = False, untried: bool = False) -> str:
    """Address of a cell's maps: the fit, the class that scores, its settings, the test and calibration voxels.

    Methods of one module that share a fit score it each in their own way, therefore the class beside the source. Maps
    with ``restorations`` beside them have an address of their own, and so have those of ``untried`` code, whose larger
    batches may change last bits.
    """
    return digest(
        ({"restorations": True} if restorations else {})
        | ({"untried": True} if untried else {})
        | {
            "stage": "map",
            "source": _sources("map", candidate.spec),
            "fit": fit,
            "target": candidate.spec.target,
            "config": candidate.score_config,
            "cases": [(case.id, case.fingerprint) for case in data.test],
            "healthy": [(case.fingerprint, z) for case, z in data.calibrating()],
        }
    )


def addressed(task: MeasureTask) -> MeasureTask:
    """Return a measuring with its address: the maps, the truth, the patients, the protocols' source and settings."""
    address = digest(
        {
            "stage": "measure",
            "source": closure_hash(f"{PACKAGE}.benchmark.stages.measure"),
            "maps": task.ids.map,
            "truth": {case: truth.fingerprint for case, truth in task.truths.items()},
            "patients": {case.id: case.patient for case in task.cases},
            "slice_score": task.slice_score,
            "trials": task.trials,
            "seed": task.cell.seed,
        }
    )
    return task.model_copy(update={"ids": task.ids.model_copy(update={"measure": address})})
