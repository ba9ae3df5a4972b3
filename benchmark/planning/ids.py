"""Content addresses of stages: an id hashes everything that can change the stage's result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...common.source_hash import closure_hash
from ...datasets.storing.prepared import PreparedCase, TruthRef

PACKAGE = __name__.split(".")[0]


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits over the JSON form of ``value``."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _sources(stage: str) -> list[str]:
    """Source of a stage and of what every method inherits; a plug-in's own closure ends at its package."""
    modules = (f"benchmark.stages.{stage}", "methods.method", "methods.training")
    return [closure_hash(f"{PACKAGE}.{name}") for name in modules]


def fit_id(
    *,
    trainer: str,
    module: str,
    config: Mapping[str, Any],
    parts: Sequence[tuple[str, tuple[int, int] | None]],
    split: str,
    seed: int,
    numerics: Sequence[str | int],
    unlabelled: Sequence[tuple[str, str, str]] = (),
    labelled: Sequence[tuple[str, str, str, str]] = (),
    extra: str = "",
) -> str:
    """Address of a fit: source, fit settings, training voxels, split, seed and numerics; no label enters.

    Args:
        unlabelled: set, case and fingerprint of test cases that the method may see, for transductive methods.
        labelled: set, case, fingerprint and fingerprint of the truth of the cases that a top line learns from.
        extra: what the method itself adds, such as the hash of local weights.
    """
    return digest(
        {
            "stage": "fit",
            "source": [*_sources("fit"), closure_hash(module)],
            "trainer": trainer,
            "config": config,
            "parts": list(parts),
            "split": split,
            "seed": seed,
            "numerics": list(numerics),
            "unlabelled": list(unlabelled),
            "labelled": list(labelled),
            "extra": extra,
        }
    )


def map_id(
    *,
    fit: str,
    target: str,
    config: Mapping[str, Any],
    cases: Sequence[tuple[str, str]],
    healthy: Sequence[tuple[str, tuple[int, int] | None]],
) -> str:
    """Address of a cell's maps: the fit, the class that scores, its settings, the test and calibration voxels.

    Args:
        target: ``module:Class``; methods of one module that share a fit score it each in their own way.
    """
    return digest(
        {
            "stage": "map",
            "source": [*_sources("map"), closure_hash(target.partition(":")[0])],
            "fit": fit,
            "target": target,
            "config": config,
            "cases": list(cases),
            "healthy": list(healthy),
        }
    )


def measure_id(
    *,
    maps: str,
    truths: Mapping[str, TruthRef],
    cases: Sequence[PreparedCase],
    slice_score: Any,
    trials: int,
    seed: int,
) -> str:
    """Address of a record: the maps, the truth, the patients and the protocols' source and settings."""
    return digest(
        {
            "stage": "measure",
            "source": closure_hash(f"{PACKAGE}.benchmark.stages.measure"),
            "maps": maps,
            "truth": {case: truth.fingerprint for case, truth in truths.items()},
            "patients": {case.id: case.patient for case in cases},
            "slice_score": slice_score,
            "trials": trials,
            "seed": seed,
        }
    )
