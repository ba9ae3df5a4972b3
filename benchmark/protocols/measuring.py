"""Maps and truth in, every number out. Needs neither torch nor a method, and can be repeated from stored maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ...common.errors import DataError
from ...methods.card import SliceScore
from ..runs.records import CaseValue, PooledValue, Threshold
from ..scoring.bins import count_scores
from ..scoring.bright import AUROC as BRIGHT_AUROC
from ..scoring.bright import RATES as BRIGHT_RATES
from ..scoring.bright import BrightVoxels
from ..scoring.cases import ArrayCase, HealthyMap, MeasureCase, Reader, Source
from ..scoring.evaluate import FREE_METRICS, VOXEL_METRICS, Under, evaluate_case, threshold_free
from ..scoring.lesions import NO_LESION, Confusion, millilitres
from ..scoring.masks import binarise
from ..scoring.paper_grid import paper_confusion
from ..scoring.pictured_slices import write_gallery
from ..scoring.ranking_metrics import Curves, aupro
from ..scoring.slice_labels import SLICE_LABELS_ONLY
from ..scoring.slice_metrics import SliceSet, slice_metrics
from ..scoring.slices import slice_scores
from . import rules as rules
from .counted import Counted
from .paper_lung import paper_lung
from .tuner import MIN_SIZE_MM3, SMOOTHING_MM, Tuner
from .tuning import Studies

__all__ = ["ArrayCase", "HealthyMap", "MeasureCase", "MeasureOptions", "Measurement", "measure"]


class MeasureError(DataError):
    """The cases cannot be measured together."""


def _ignore(done: int, total: int) -> None:
    """Take any report and drop it."""
    del done, total


@dataclass(frozen=True)
class MeasureOptions:
    """How a cell is measured.

    Attributes:
        seed: the cell's seed; seeds the studies.
        trials: trials per study, at most 40.
        slice_score: the card's rule that turns a map into slice scores.
        native_threshold: the method's own constant, where it has one.
        anatomy: ``liver`` or ``lung``; decides the paper's protocol and the bright-voxel read-out.
        study_path: journal file of the studies; its stem opens the study names.
        gallery_path: file of the example slices.
        progress: called with (cases done, cases).
        fold_seed: seeds the validation folds and the drawn patients; the same for every cell that is compared.
        smoothing_mm: smoothing that ``val`` and ``oracle`` choose from, 0 first.
        min_size_mm3: minimum component volume that they choose from, 0 first.
        window: HU shown as black and white in the gallery.
        threads: threads that count voxels.
        cache_mib: maps kept in memory between the passes.
    """

    seed: int = 0
    trials: int = 40
    slice_score: SliceScore = "max"
    native_threshold: float | None = None
    anatomy: str = "liver"
    study_path: Path | None = None
    gallery_path: Path | None = None
    progress: Callable[[int, int], None] = field(default=_ignore)
    fold_seed: int = 0
    smoothing_mm: tuple[float, ...] = SMOOTHING_MM
    min_size_mm3: tuple[float, ...] = MIN_SIZE_MM3
    window: tuple[float, float] = (-200.0, 250.0)
    threads: int = 1
    cache_mib: int = 256


class Measurement(BaseModel):
    """The numbers of a cell, as its record stores them."""

    model_config = ConfigDict(extra="forbid")

    thresholds: list[Threshold] = Field(default_factory=list)
    per_case: list[CaseValue] = Field(default_factory=list)
    pooled: list[PooledValue] = Field(default_factory=list)
    error_bounds: dict[str, float] = Field(default_factory=dict)


def measure(
    cases: Sequence[Source], healthy: Sequence[HealthyMap], options: MeasureOptions | None = None
) -> Measurement:
    """Measure one cell; the same inputs give the same result.

    Args:
        cases: test cases, at least one.
        healthy: maps of held-out healthy scans; empty where there is no calibration.
        options: how to measure.

    Raises:
        MeasureError: no cases, or a case twice.
        DataError: shapes differ, a case has no truth, or only some have voxels.
        ScoreError: a map holds NaN or infinite values.
    """
    options = options or MeasureOptions()
    reader = Reader(cases, options.cache_mib << 20)
    calibration = _Calibration.of(healthy, options)
    _check(reader)
    if reader.voxel_truth:
        return _measure_voxels(reader, healthy, calibration, options)
    return _measure_slices(reader, calibration, options)


@dataclass(frozen=True, eq=False)
class _Calibration:
    """Scores of held-out healthy scans: per voxel, one array a scan, and per slice."""

    voxels: list[np.ndarray]
    slices: np.ndarray

    @classmethod
    def of(cls, healthy: Sequence[HealthyMap], options: MeasureOptions) -> _Calibration:
        voxels, slices = [], [np.empty(0, np.float32)]
        for part in healthy:
            opened = part.open()
            voxels.append(opened.scores)
            slices.append(slice_scores(opened.map, opened.roi, options.slice_score)[1])
        return cls(voxels, np.concatenate(slices))


def _check(reader: Reader) -> None:
    ids = [s.id for s in reader.sources]
    if not ids:
        raise MeasureError("there are no cases to measure; check the data set and the excluded cases")
    if len(set(ids)) < len(ids):
        twice = sorted({i for i in ids if ids.count(i) > 1})
        raise MeasureError(f"case {twice[0]} appears twice; name the cases of a set differently")


def _measure_voxels(
    reader: Reader, healthy: Sequence[HealthyMap], calibration: _Calibration, options: MeasureOptions
) -> Measurement:
    indices = range(len(reader))
    bins, counts = count_scores(lambda: ((o.scores, o.labels) for o in map(reader.open, indices)), options.threads)
    counted = Counted(reader, bins, counts)
    patients = counted.patients
    studies = Studies(options.study_path, seed=options.seed, trials=options.trials)
    tuner = Tuner(
        counted,
        studies,
        fold_seed=options.fold_seed,
        smoothing_mm=options.smoothing_mm,
        min_size_mm3=options.min_size_mm3,
        threads=options.threads,
    )
    val = rules.val(tuner)
    oracle, oracle_bound = rules.oracle(tuner)
    oracle_pooled, pooled_bound = rules.oracle_pooled(counted, studies)
    tuned, tuned_bounds = [*val, oracle, oracle_pooled], {"oracle": oracle_bound, "oracle-pooled": pooled_bound}
    if options.anatomy == "lung":
        paper_oracle, tuned_bounds[rules.PAPER_LUNG] = paper_lung(counted, studies)
        tuned.append(paper_oracle)
    studies.write()
    masked = {rules.NATIVE} if any(s.native_mask() is not None for s in reader.sources) else set()
    native = rules.native(options.native_threshold, patients)
    if masked:
        native = native.model_copy(update={"threshold": None, "reason": rules.OWN_MASK})
    calibrated = rules.healthy(calibration.voxels, patients)
    thresholds = [native, *calibrated, *tuned]
    applied: dict[str, dict[str, Threshold]] = {}
    for threshold in thresholds:
        applied.setdefault(threshold.protocol, {}).update(dict.fromkeys(threshold.patients, threshold))

    totals = {protocol: Under() for protocol in applied}
    overlap, components = np.zeros(len(bins)), 0
    per_case: list[CaseValue] = []
    sets, dice, bounds = [], [], {"auroc_case": 0.0, "ap_case": 0.0}
    paper = rules.paper_liver(options.native_threshold, patients) if options.anatomy == "liver" else None
    paper_total = Confusion(0, 0, 0)
    bright = BrightVoxels(bins, options.native_threshold) if options.anatomy == "lung" else None
    for i in indices:
        source, opened = reader.sources[i], reader.open(i)
        per_patient = {protocol: by_patient[source.patient] for protocol, by_patient in applied.items()}
        result, lesions = evaluate_case(source, opened, per_patient, masked, totals)
        free, curves = threshold_free(source, opened, bins, counts[i], lesions, overlap)
        bounds["auroc_case"] = max(bounds["auroc_case"], curves.auroc_bound())
        bounds["ap_case"] = max(bounds["ap_case"], curves.ap_bound())
        components += len(lesions)
        per_case += [*result.values, *free]
        dice.append(result.dice)
        sets.append(SliceSet.of(source, opened, options.slice_score))
        if paper is not None and paper.threshold is not None:
            paper_total += paper_confusion(source, paper.threshold)
        if bright is not None:
            per_case += bright.add(source, opened)
        options.progress(i + 1, len(reader))

    pooled_curves = Curves.of(bins, counts)
    place = np.searchsorted(bins.lower, pooled_curves.lower)
    free_values = {
        "auroc": pooled_curves.auroc(),
        "ap": pooled_curves.ap(),
        "aupro": aupro(pooled_curves, overlap[place], components),
    }
    pooled = [_pooled("none", metric, value) for metric, value in free_values.items()]
    for protocol, total in totals.items():
        pooled += _pooled_under(protocol, total)
    if paper is not None:
        paper_rates = paper_total.rates() if paper.reason is None else dict.fromkeys(VOXEL_METRICS)
        pooled += [_pooled(rules.PAPER_LIVER, m, v, paper.reason or NO_LESION) for m, v in paper_rates.items()]
        thresholds.append(paper)
    if bright is not None:
        pooled += bright.pooled()
        bounds[BRIGHT_AUROC] = bright.bound
    pooled += _healthy_volumes(healthy, applied)
    slice_cases, slice_pooled = slice_metrics(sets, calibration.slices, rules.HEALTHY)

    shown = rules.VAL if any(rules.VAL in d for d in dice) else rules.ORACLE
    if options.gallery_path is not None:
        _gallery(options, reader, {i: d[shown] for i, d in enumerate(dice) if shown in d}, applied[shown])
    return Measurement(
        thresholds=thresholds,
        per_case=[*per_case, *slice_cases],
        pooled=[*pooled, *slice_pooled],
        error_bounds={
            "auroc": pooled_curves.auroc_bound(),
            "ap": pooled_curves.ap_bound(),
            **bounds,
            **tuned_bounds,
        },
    )


def _measure_slices(reader: Reader, calibration: _Calibration, options: MeasureOptions) -> Measurement:
    sets = []
    for i, source in enumerate(reader.sources):
        sets.append(SliceSet.of(source, reader.open(i), options.slice_score))
        options.progress(i + 1, len(reader))
    per_case, pooled = slice_metrics(sets, calibration.slices, rules.HEALTHY)
    protocols = rules.protocols_of(options.anatomy)
    voxel = [("none", m) for m in FREE_METRICS]
    voxel += [(p, m) for p in protocols if p != rules.PAPER_LIVER for m in VOXEL_METRICS]
    if options.anatomy == "lung":
        voxel += [*((rules.NATIVE, m) for m in BRIGHT_RATES), ("none", BRIGHT_AUROC)]
    for source in reader.sources:
        for protocol, metric in voxel:
            absent = {"value": None, "reason": SLICE_LABELS_ONLY, "protocol": protocol, "metric": metric}
            per_case.append(CaseValue(case=source.id, patient=source.patient, **absent))
    voxel += [(p, m) for p in protocols if p == rules.PAPER_LIVER for m in VOXEL_METRICS]
    pooled += [_pooled(protocol, metric, None, SLICE_LABELS_ONLY) for protocol, metric in voxel]
    patients = list(dict.fromkeys(s.patient for s in reader.sources))
    thresholds = [Threshold(protocol=p, threshold=None, patients=patients, reason=SLICE_LABELS_ONLY) for p in protocols]
    return Measurement(thresholds=thresholds, per_case=per_case, pooled=pooled)


def _pooled_under(protocol: str, total: Under) -> list[PooledValue]:
    if total.reason is not None:
        return [_pooled(protocol, m, None, total.reason) for m in VOXEL_METRICS]
    values: dict[str, float | None] = dict(total.counts.rates())
    values["lesion_sen"] = total.found / total.lesions if total.lesions else None
    values["fp_components"] = total.false_components / total.cases
    return [_pooled(protocol, metric, value) for metric, value in values.items()]


def _healthy_volumes(healthy: Sequence[HealthyMap], applied: dict[str, dict[str, Threshold]]) -> list[PooledValue]:
    """Return the mean false-positive volume per held-out healthy scan; a tuned protocol's folds are averaged."""
    volumes: dict[str, list[float]] = {}
    for part in healthy:
        opened = part.open()
        for protocol, by_patient in applied.items():
            folds = {(t.fold, t.threshold): t for t in by_patient.values() if t.threshold is not None}
            found = [millilitres(int(np.count_nonzero(binarise(opened, t))), opened.spacing) for t in folds.values()]
            if found:
                volumes.setdefault(protocol, []).append(float(np.mean(found)))
    return [_pooled(protocol, "healthy_fp_volume_ml", float(np.mean(v))) for protocol, v in volumes.items()]


def _gallery(options: MeasureOptions, reader: Reader, dice: dict[int, float], by_patient: dict[str, Threshold]) -> None:
    def threshold(i: int) -> Threshold:
        return by_patient[reader.sources[i].patient]

    assert options.gallery_path is not None
    write_gallery(
        options.gallery_path,
        reader,
        dice,
        lambda i, opened: binarise(opened, threshold(i)),
        lambda i: {"protocol": threshold(i).protocol, "threshold": threshold(i).threshold},
        options.window,
    )


def _pooled(protocol: str, metric: str, value: float | None, reason: str | None = NO_LESION) -> PooledValue:
    return PooledValue(
        protocol=protocol, metric=metric, unit="pooled", value=value, reason=reason if value is None else None
    )
