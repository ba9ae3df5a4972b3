"""Rows that refine others: who gets one, why not, and what is planned for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...common.source_hash import closure_hash
from ...datasets.anatomy import find_anatomy
from ...methods.pretraining import Pretraining
from ..catalogue.outline import missing_packages
from ..refinement.prompts import Prompt
from ..refinement.sam import PACKAGE, PUBLISHED, SMALLEST, file_sha256
from ..runs.folder import RunFolder
from ..runs.records import CellKey, MethodInfo, Skip
from ..scoring.slices import NO_CALIBRATION
from ..stages.map import MapTask
from ..stages.refine import RefineTask
from ..stages.task import Numerics
from . import ids
from .options import OptionError, RunOptions
from .selection import Candidate
from .task_data import TaskData

if TYPE_CHECKING:
    from pathlib import Path

PHOTOGRAPHS = "SAM: licensed photographs of SA-1B with masks"


def check_refinement(options: RunOptions) -> None:
    """Look for what refining needs before anything is prepared.

    Raises:
        OptionError: weights without ``--refine``, or the weights or the package of SAM are missing.
    """
    if not options.refine:
        if options.sam_weights is not None:
            raise OptionError("--sam-weights without --refine: add --refine sam, or leave it out")
        return
    if options.sam_weights is None:
        raise OptionError(f"--refine needs --sam-weights FILE, the file {SMALLEST} that was published with SAM")
    if not options.sam_weights.is_file():
        raise OptionError(f"--sam-weights {options.sam_weights}: there is no such file; give {SMALLEST}")
    if missing_packages((PACKAGE,)):
        raise OptionError("--refine needs the package segment-anything: pip install 'uasbench[sam]'")


def refused(options: RunOptions, data: TaskData) -> str | None:
    """Return why no row of a task is refined, or None."""
    if not data.calibrating():
        return f"{NO_CALIBRATION}, and its threshold comes from healthy scans"
    if not options.allow_overlap and not _known(_weights(options)):
        return (
            f"{_weights(options).name} is none of the files that were published with SAM, and others may have learned "
            f"from masks of {data.dataset}, as MedSAM may have; take {SMALLEST}. --allow-overlap runs and marks it"
        )
    return None


def refinement_skips(options: RunOptions, data: TaskData, candidates: Sequence[Candidate]) -> list[Skip]:
    """Return the refined rows that a task was asked for and does not get."""
    reason = refused(options, data) if options.refine else None
    if reason is None:
        return []
    labels = [f"{candidate.label}+{prompt}" for candidate in candidates for prompt in options.refine]
    return [Skip(method=label, dataset=data.dataset, reason=reason) for label in labels]


def refined(options: RunOptions, data: TaskData, candidate: Candidate, prompt: Prompt) -> Candidate:
    """Return the row that refines another: what it says of itself."""
    about = {"refine": prompt, "sam_weights": file_sha256(_weights(options))}
    return replace(
        candidate,
        label=f"{candidate.label}+{prompt}",
        config={**candidate.config, **about},
        packages=(*candidate.packages, PACKAGE),
        pretraining=_pretraining(options, data, candidate),
    )


def refined_info(options: RunOptions, info: MethodInfo) -> MethodInfo:
    """Return what a record says of a refined row: SAM is not trivial, and unknown weights are taken for the worst."""
    unknown = not _known(_weights(options))
    return info.model_copy(update={"trivial": False, **({"overlap": "masks"} if unknown else {})})


def refine_task(
    options: RunOptions,
    numerics: Numerics,
    data: TaskData,
    candidate: Candidate,
    prompt: Prompt,
    maps: MapTask,
    key: CellKey,
) -> RefineTask:
    """Return the stage that makes the masks of a refined row from the maps of the row that it refines.

    SAM computes on the device of the run, also where a trivial method's maps are made on the CPU.
    """
    weights, window = _weights(options), find_anatomy(data.card.anatomy).window
    sha256, healthy = file_sha256(weights), tuple(data.calibrating())
    address = {
        "stage": "refine",
        "source": closure_hash(f"{ids.PACKAGE}.benchmark.stages.refine"),
        "maps": maps.id,
        "prompt": prompt,
        "weights": sha256,
        "window": window,
        "region": candidate.region,
        "seed": key.seed,
        **({} if numerics.device == "cpu" else {"numerics": ids.arithmetic(numerics)}),
    }
    return RefineTask(
        id=ids.digest(address),
        base=maps.out,
        base_id=maps.id,
        cases=tuple(data.test),
        healthy=healthy,
        model_count=len(maps.models),
        region=candidate.region,
        prompt=prompt,
        window=window,
        weights=weights,
        sha256=sha256,
        seed=key.seed,
        numerics=numerics,
        out=RunFolder(options.folder()).map_dir(key),
    )


def _weights(options: RunOptions) -> Path:
    assert options.sam_weights is not None, "check_refinement was not asked"
    return options.sam_weights


def _known(weights: Path) -> bool:
    return file_sha256(weights) in PUBLISHED


def _pretraining(options: RunOptions, data: TaskData, candidate: Candidate) -> Pretraining:
    before = candidate.pretraining
    if not _known(_weights(options)):
        corpus = "; ".join(filter(None, [before.corpus, "weights of SAM of unknown origin, taken to have seen them"]))
        return Pretraining("masks", (*before.sets, data.dataset), corpus)
    return replace(before, corpus="; ".join(filter(None, [before.corpus, PHOTOGRAPHS])))
