"""Maps and truth in, every number out. Needs neither torch nor a method, and can be repeated from stored maps."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ...common.errors import DataError
from ..runs.records import CaseFacts, CaseValue, PooledValue, ScoreHistogram, Threshold
from ..scoring.cases import ArrayCase, CaseReader, HealthyMap, MeasureCase, ScoredCase
from ..scoring.metrics import METRICS, NO_PROTOCOL, SLICE_LABELS_ONLY, applies
from ..scoring.pictured_series import errors, series
from ..scoring.pictured_slices import Decisions, extremes, write_gallery
from ..scoring.readouts import (
    BRIGHT_HU,
    BrightVoxels,
    MaskMetrics,
    MeasuredCase,
    ReadOut,
    ThresholdFree,
    case_row,
    healthy_scans,
    pooled_row,
    undefined,
)
from ..scoring.slices import SliceMetrics, slice_scores
from .catalogue import NATIVE, ORACLE, PROTOCOLS, VAL, protocols_of, slice_quantiles
from .evidence import Evidence, MeasureOptions

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
    froc: dict[str, list[tuple[float, float]]] = Field(default_factory=dict)
    histogram: ScoreHistogram | None = None
    facts: dict[str, CaseFacts] = Field(default_factory=dict)


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
    voxels, slices = [], [np.empty(0, np.float32)]
    for part in healthy:
        cropped = part.open()
        voxels.append(cropped.scores)
        slices.append(slice_scores(cropped.map, cropped.roi, options.slice_score)[1])
    if not cases:
        raise MeasureError("there are no cases to measure; check the data set and the excluded cases")
    if twice := [id_ for id_, number in Counter(case.id for case in cases).items() if number > 1]:
        raise MeasureError(f"case {min(twice)} appears twice; name the cases of a set differently")
    sliced = SliceMetrics(options.slice_score, np.concatenate(slices), slice_quantiles())
    if reader.voxel_truth:
        found = _of_voxels(Evidence.of(reader, options, voxels), healthy, sliced)
    else:
        thresholds = [p.undefined(reader.patients, SLICE_LABELS_ONLY) for p in protocols_of(options.anatomy)]
        found = _read_out(reader, [sliced, _Unlabelled(options.anatomy)], options)
        found = found.model_copy(update={"thresholds": thresholds})
    applying = {metric.id for metric in METRICS.values() if applies(metric.anatomies, options.anatomy)}
    return found.model_copy(
        update={
            "per_case": [row for row in found.per_case if row.metric in applying],
            "pooled": [row for row in found.pooled if row.metric in applying],
        }
    )


def _of_voxels(evidence: Evidence, healthy: Sequence[HealthyMap], sliced: SliceMetrics) -> Measurement:
    """Measure a set with voxel labels."""
    reader, options = evidence.reader, evidence.options
    thresholds, tuned, histogram = _choose(replace(evidence))
    grids: list[ReadOut] = [grid(t) for t in thresholds if (grid := PROTOCOLS[t.protocol].grid) is not None]
    applied: dict[str, dict[str, Threshold]] = {}
    for t in thresholds:
        if PROTOCOLS[t.protocol].grid is None:
            applied.setdefault(t.protocol, {}).update(dict.fromkeys(t.patients, t))
    needs = {id_: PROTOCOLS[id_].needs for id_ in applied}
    masks = MaskMetrics(applied, {NATIVE} if evidence.own_masks else set(), needs)
    readouts = [masks, ThresholdFree(evidence.bins, evidence.counts), *grids]
    if any(m.needs == "bright scores" and applies(m.anatomies, options.anatomy) for m in METRICS.values()):
        readouts.append(BrightVoxels(evidence.bins, options.native_threshold, (NATIVE, NO_PROTOCOL)))
    found = _read_out(reader, [*readouts, sliced], options)
    if options.gallery_path is not None:
        _write_gallery(evidence, applied, masks.dice, found.facts)
    bounds = {name: bound for part in readouts for name, bound in part.bounds.items()} | tuned
    return found.model_copy(
        update={
            "thresholds": thresholds,
            "pooled": found.pooled + healthy_scans(healthy, applied),
            "error_bounds": bounds,
            "froc": masks.froc,
            "histogram": histogram,
        }
    )


def _write_gallery(
    evidence: Evidence,
    applied: Mapping[str, Mapping[str, Threshold]],
    dice_of: Sequence[Mapping[str, float]],
    facts: Mapping[str, CaseFacts],
) -> None:
    reader, options = evidence.reader, evidence.options
    assert options.gallery_path is not None
    # Under ``val``, or under ``oracle`` where no patient has a threshold of others.
    shown = VAL if any(VAL in dice for dice in dice_of) else ORACLE
    dice = {i: dice[shown] for i, dice in enumerate(dice_of) if shown in dice}
    tuned = Decisions(reader, applied[shown])
    if not options.series:
        write_gallery(options.gallery_path, reader, extremes(tuned, dice), options.window)
        return
    # The papers show a method's own decision; a method without one has a threshold of others.
    decides = evidence.own_masks or options.native_threshold is not None
    own = Decisions(reader, applied[NATIVE], evidence.own_masks) if decides else tuned
    dim = BRIGHT_HU if applies(METRICS["bright_auroc"].anatomies, options.anatomy) else None
    wrong, summary = errors(own, dim, options.trained_slice_mm)
    pictures = [*extremes(tuned, dice), *series(own, facts), *wrong]
    write_gallery(options.gallery_path, reader, pictures, options.window, errors=summary)


def _choose(evidence: Evidence) -> tuple[list[Threshold], dict[str, float], ScoreHistogram | None]:
    """Return all thresholds, the bounds of their searches and how scores are spread.

    What these keep in memory goes with ``evidence``.
    """
    thresholds, tuned = [], {}
    for protocol in protocols_of(evidence.options.anatomy):
        chosen, bound = protocol.thresholds(evidence)
        thresholds += chosen
        if bound is not None:
            tuned[protocol.id] = bound
    evidence.studies.write()
    return thresholds, tuned, evidence.histogram


class _Unlabelled:
    """The rows that slice labels leave undefined."""

    def __init__(self, anatomy: str) -> None:
        self.protocols = (*protocols_of(anatomy), PROTOCOLS[NO_PROTOCOL])
        self.bounds: dict[str, float] = {}

    def add(self, measured: MeasuredCase) -> list[CaseValue]:
        found = [(p.id, undefined(p.needs, "case", SLICE_LABELS_ONLY)) for p in self.protocols if p.grid is None]
        return [case_row(measured.case, protocol, *pair) for protocol, pairs in found for pair in pairs]

    def pooled(self, without: str | None = None) -> list[PooledValue]:
        found = [(p.id, undefined(p.needs, "pooled", SLICE_LABELS_ONLY)) for p in self.protocols]
        return [pooled_row(protocol, *pair) for protocol, pairs in found for pair in pairs]


def _read_out(reader: CaseReader, readouts: Sequence[ReadOut], options: MeasureOptions) -> Measurement:
    """Show every case to every read-out, one case in memory at a time; return rows per case and over the cell."""
    per_case: list[CaseValue] = []
    facts: dict[str, CaseFacts] = {}
    for i, case in enumerate(reader.cases):
        measured = MeasuredCase(i, case, reader.read(i))
        per_case += [row for part in readouts for row in part.add(measured)]
        facts[case.id] = measured.facts
        options.progress(i + 1, len(reader.cases))
    pooled = [row for part in readouts for row in _pooled(part, reader.patients)]
    return Measurement(per_case=per_case, pooled=pooled, facts=facts)


def _pooled(part: ReadOut, patients: Sequence[str]) -> list[PooledValue]:
    """Return the rows over the cell, each with its values over all patients but one."""
    rows = {(row.protocol, row.metric): row for row in part.pooled()}
    for patient in patients if len(patients) > 1 else ():
        for other in part.pooled(without=patient):
            row = rows.get((other.protocol, other.metric))
            if row is None or row.value is None or METRICS[row.metric].direction is None:
                continue
            if other.value is not None:
                row.left_out[patient] = other.value
    return list(rows.values())
