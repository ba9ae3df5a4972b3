"""Maps and truth in, every number out. Needs neither torch nor a method, and can be repeated from stored maps."""

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ...common.errors import DataError
from ..runs.records import CaseValue, PooledValue, Threshold
from ..scoring.bright import BrightVoxels
from ..scoring.cases import ArrayCase, CaseReader, HealthyMap, MeasureCase, ScoredCase
from ..scoring.lesions import Lesions
from ..scoring.metrics import METRICS, NO_PROTOCOL, SLICE_LABELS_ONLY, Aggregate, Metric, Needs, Undefined, applies
from ..scoring.pictured_slices import write_gallery
from ..scoring.readouts import (
    MaskMetrics,
    MeasuredCase,
    ReadOut,
    ThresholdFree,
    case_row,
    healthy_volumes,
    pooled_row,
    undefined,
)
from ..scoring.slices import SliceMetrics, slice_scores
from .catalogue import NATIVE, ORACLE, PROTOCOLS, VAL, Evidence, protocols_of, slice_quantiles
from .inputs import CountedCases, MeasureOptions
from .tuning import Studies

__all__ = ["ArrayCase", "HealthyMap", "MeasureCase", "MeasureOptions", "Measurement", "measure"]


class MeasureError(DataError):
    """The cases cannot be measured together."""


class Measurement(BaseModel):
    """The numbers of a cell, as its record stores them."""

    model_config = ConfigDict(extra="forbid")

    thresholds: list[Threshold] = Field(default_factory=list)
    per_case: list[CaseValue] = Field(default_factory=list)
    pooled: list[PooledValue] = Field(default_factory=list)
    error_bounds: dict[str, float] = Field(default_factory=dict)


def measure(
    cases: Sequence[ScoredCase], healthy: Sequence[HealthyMap], options: MeasureOptions | None = None
) -> Measurement:
    """Measure one cell; the same inputs give the same result. Without ``healthy`` maps there is no calibration.

    Raises:
        MeasureError: no cases, or a case twice.
        DataError: shapes differ, a case has no truth, or only some have voxels.
        ScoreError: a map holds NaN or infinite values.
    """
    options = options or MeasureOptions()
    reader = CaseReader(cases, options.cache_mib << 20)
    voxels, slices = _calibration(healthy, options)
    _check(reader)
    sliced = SliceMetrics(options.slice_score, slices, slice_quantiles())
    if reader.voxel_truth:
        return _measure_voxels(reader, healthy, voxels, sliced, options)
    return _measure_slices(reader, sliced, options)


def _calibration(healthy: Sequence[HealthyMap], options: MeasureOptions) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the scores of held-out healthy scans: of their voxels, one array a scan, and of their slices."""
    voxels, slices = [], [np.empty(0, np.float32)]
    for part in healthy:
        cropped = part.open()
        voxels.append(cropped.scores)
        slices.append(slice_scores(cropped.map, cropped.roi, options.slice_score)[1])
    return voxels, np.concatenate(slices)


def _check(reader: CaseReader) -> None:
    ids = [s.id for s in reader.cases]
    if not ids:
        raise MeasureError("there are no cases to measure; check the data set and the excluded cases")
    if len(set(ids)) < len(ids):
        twice = sorted({i for i in ids if ids.count(i) > 1})
        raise MeasureError(f"case {twice[0]} appears twice; name the cases of a set differently")


def _measure_voxels(
    reader: CaseReader,
    healthy: Sequence[HealthyMap],
    healthy_scores: Sequence[np.ndarray],
    sliced: SliceMetrics,
    options: MeasureOptions,
) -> Measurement:
    counted = CountedCases.of(reader, options.threads)
    own_masks = any(case.native_mask() is not None for case in reader.cases)
    thresholds, bounds = _choose(counted, healthy_scores, own_masks, options)
    applied: dict[str, dict[str, Threshold]] = {}
    for t in thresholds:
        if PROTOCOLS[t.protocol].grid is None:
            applied.setdefault(t.protocol, {}).update(dict.fromkeys(t.patients, t))
    masks = MaskMetrics(applied, {NATIVE} if own_masks else set())
    readouts = [masks, ThresholdFree(counted.bins, counted.counts), *_extras(counted, thresholds, options)]
    per_case = _read_cases(counted, readouts, sliced, options)
    if options.gallery_path is not None:
        # Under ``val``, or under ``oracle`` where no patient has a threshold of others.
        shown = VAL if any(VAL in dice for dice in masks.dice) else ORACLE
        dice = {i: dice[shown] for i, dice in enumerate(masks.dice) if shown in dice}
        write_gallery(options.gallery_path, reader, dice, masks.thresholds[shown], options.window)
    pooled = [row for part in (*readouts, sliced) for row in part.pooled()]
    pooled += healthy_volumes(healthy, applied)
    bounds = {name: bound for part in readouts for name, bound in part.bounds.items()} | bounds
    return _measurement(thresholds, per_case, pooled, bounds, options.anatomy)


def _measurement(
    thresholds: list[Threshold],
    per_case: list[CaseValue],
    pooled: list[PooledValue],
    bounds: dict[str, float],
    anatomy: str,
) -> Measurement:
    """Return the rows of the metrics that apply to an anatomy."""
    applying = {metric.id for metric in METRICS.values() if applies(metric.anatomies, anatomy)}
    return Measurement(
        thresholds=thresholds,
        per_case=[row for row in per_case if row.metric in applying],
        pooled=[row for row in pooled if row.metric in applying],
        error_bounds=bounds,
    )


def _choose(
    counted: CountedCases, healthy_scores: Sequence[np.ndarray], own_masks: bool, options: MeasureOptions
) -> tuple[list[Threshold], dict[str, float]]:
    """Return the thresholds of every protocol, and what the bins may hide of the tuned ones."""
    studies = Studies(options.study_path, seed=options.seed, trials=options.trials)
    evidence = Evidence(counted, studies, options, healthy_scores, own_masks)
    thresholds, bounds = [], {}
    for protocol in protocols_of(options.anatomy):
        chosen, bound = protocol.thresholds(evidence)
        thresholds += chosen
        if bound is not None:
            bounds[protocol.id] = bound
    studies.write()
    return thresholds, bounds


def _extras(counted: CountedCases, thresholds: Sequence[Threshold], options: MeasureOptions) -> list[ReadOut]:
    """Return the read-outs that only some anatomies have, as the catalogues say."""
    found: list[ReadOut] = [grid(t) for t in thresholds if (grid := PROTOCOLS[t.protocol].grid) is not None]
    if any(m.needs == "bright scores" and applies(m.anatomies, options.anatomy) for m in METRICS.values()):
        found.append(BrightVoxels(counted.bins, options.native_threshold, (NATIVE, NO_PROTOCOL)))
    return found


def _read_cases(
    counted: CountedCases, readouts: Sequence[ReadOut], sliced: SliceMetrics, options: MeasureOptions
) -> list[CaseValue]:
    """Show every case to every read-out, one case in memory at a time, and return all rows."""
    rows: list[CaseValue] = []
    for i, case in enumerate(counted.reader.cases):
        cropped = counted.reader.read(i)
        assert cropped.lesion is not None
        measured = MeasuredCase(case, cropped, counted.counts[i], Lesions.of(cropped.lesion))
        for part in readouts:
            rows += part.add(measured)
        rows += sliced.add(case, cropped)
        options.progress(i + 1, len(counted.reader))
    return rows


def _measure_slices(reader: CaseReader, sliced: SliceMetrics, options: MeasureOptions) -> Measurement:
    per_case: list[CaseValue] = []
    absent = list(_absent(options.anatomy, "case"))
    for i, case in enumerate(reader.cases):
        per_case += sliced.add(case, reader.read(i))
        per_case += [case_row(case, *row) for row in absent]
        options.progress(i + 1, len(reader))
    pooled = sliced.pooled() + [pooled_row(*row) for row in _absent(options.anatomy, "pooled")]
    patients = list(dict.fromkeys(case.patient for case in reader.cases))
    thresholds = [p.undefined(patients, SLICE_LABELS_ONLY) for p in protocols_of(options.anatomy)]
    return _measurement(thresholds, per_case, pooled, {}, options.anatomy)


def _absent(anatomy: str, aggregate: Aggregate) -> Iterator[tuple[str, Metric, Undefined]]:
    """Yield the rows that slice labels leave undefined."""
    for protocol in (*protocols_of(anatomy), PROTOCOLS[NO_PROTOCOL]):
        needs: list[Needs] = ["voxels", "mask"]
        if protocol.find is None:
            needs = ["scores", "bright scores"]
        elif protocol.grid is not None:
            needs = ["voxels"] if aggregate == "pooled" else []
        elif protocol.id == NATIVE:
            needs.append("bright voxels")
        for metric, value in undefined(needs, aggregate, SLICE_LABELS_ONLY):
            yield protocol.id, metric, value
