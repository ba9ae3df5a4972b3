"""The record schema: one JSON file per finished cell, from which every table is computed."""

import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from ...common.atomic import write_file, write_text
from ...common.sealed import with_digest
from ...datasets.case import Region, Spacing, Trust
from ...methods.pretraining import Level
from .html_tables import record_html

SCHEMA_VERSION = 1
FIT_SEAL = "fit.json"
"""What a fit was and cost, with the digests of its checkpoints."""
MAP_SEAL = "map.json"
"""What making a cell's maps cost, with the digests of all of them."""
UNCHECKED = "unchecked"
"""Set in the environment of a record that an earlier version wrote, or whose maps it made, without digests."""
Unit = Literal["patient", "pooled", "slice", "seed"]
Verdict = Literal["flattened", "falling", "rising", "not watched"]


class _Strict(BaseModel, extra="forbid"):
    """A value that refuses fields it does not know."""


class CellKey(BaseModel, extra="forbid", frozen=True):
    """What a cell is: a method label (``name`` or ``name@variant``), test set, train set, seed."""

    method: str
    dataset: str
    train: str
    seed: int

    @property
    def slug(self) -> str:
        return f"{self.method}__{self.dataset}__{self.train}__s{self.seed}".replace("/", "-").replace(":", "-")


class MethodInfo(_Strict):
    """The parts of a method card that tables need.

    ``pretraining`` says what the weights were made of, ``overlap`` how much of the test set they had seen;
    ``labels_elsewhere`` names the sets whose masks of anomalies were learned from.
    """

    name: str
    title: str
    family: str
    supervision: str
    uses: str
    deterministic: bool
    trivial: bool
    min_seeds: int = 1
    near_chance: bool = False
    undertrained: bool = False
    region: Region = "roi"
    year: int | None = None
    pretraining: str = "none"
    overlap: Level = "none"
    labels_elsewhere: tuple[str, ...] = ()


class StageIds(_Strict):
    """Content addresses of the stages behind a cell.

    ``members`` are the fits of an ensemble or of the folds of a top line; ``fit`` is their digest then.
    """

    fit: str
    map: str
    measure: str
    members: list[str] = Field(default_factory=list)

    @property
    def fits(self) -> list[str]:
        """The fits behind the cell: those of an ensemble or of folds, or the one training."""
        return self.members or [self.fit]


class LesionFacts(_Strict):
    """One lesion: its volume, and its mean HU minus that of the organ within 10 mm of it, None where there is none."""

    ml: float
    contrast_hu: float | None

    def contrast_sd(self, noise_hu: float | None) -> float:
        """Return the contrast without its sign in units of the organ's noise; NaN where one is unknown or noise 0."""
        return math.nan if self.contrast_hu is None or not noise_hu else abs(self.contrast_hu) / noise_hu


class CaseFacts(_Strict):
    """What a test case is like: what ``cases.csv`` lists, and what lesions are divided by.

    ``slices`` show the organ, ``lesion_slices`` of them a lesion; ``spacing`` is mm (z, y, x). ``noise_hu`` is the
    spread of the organ outside lesions, ``contrast_hu`` that of :class:`LesionFacts` for all lesions together. What
    needs a voxel truth is None without one.
    """

    slices: int
    lesion_slices: int
    spacing: Spacing
    organ_ml: float
    lesion_ml: float | None = None
    noise_hu: float | None = None
    contrast_hu: float | None = None
    lesions: list[LesionFacts] | None = None


class DataInfo(_Strict):
    """Where the numbers come from.

    ``cases`` and ``train_cases`` map a case id to the fingerprint of its image and region of interest; ``truth`` maps
    it to the fingerprint of its labels. ``roi_source`` is the set's rule, ``roi_sources`` what a case got where the
    rule leaves a choice. ``trust`` names the cases whose spacing or orientation is not simply that of their header.
    ``split`` is the manifest (train and calibration parts, its hash). The lesions of a ``planted`` set are synthetic.
    ``only`` and ``excluded`` are the options of the run that name cases of its sets. ``facts`` describe the cases;
    earlier versions recorded none.
    """

    anatomy: str
    cases: dict[str, str]
    patients: dict[str, str]
    truth: dict[str, str]
    train_cases: dict[str, str]
    split: dict[str, Any]
    roi_source: str
    roi_sources: dict[str, str] = Field(default_factory=dict)
    only: list[str] = Field(default_factory=list)
    excluded: list[str] = Field(default_factory=list)
    notes: dict[str, list[str]] = Field(default_factory=dict)
    trust: dict[str, Trust] = Field(default_factory=dict)
    phantom: dict[str, Any] | None = None
    planted: bool = False
    facts: dict[str, CaseFacts] = Field(default_factory=dict)


class LabelUse(_Strict):
    """Which lesion labels a top line learned from.

    ``training`` is ``cross-fit`` or ``unseen``; ``sets`` the data sets of the labels; ``folds`` the patients that each
    model of a cross-fitted method maps, which are the ones whose scans it has not seen; ``cases`` what each model was
    trained on.
    """

    training: str
    sets: list[str]
    folds: list[list[str]] = Field(default_factory=list)
    cases: list[list[str]] = Field(default_factory=list)


class Threshold(_Strict):
    """One threshold and the study that found it.

    ``patients`` are those whose cases the threshold is applied to; ``tuned_on`` those it was tuned on; ``drawn`` those
    of them on whom smoothing and minimum size were tried. ``value`` is the objective reached on ``tuned_on``.
    ``quantile`` is the share of scores at or below the threshold.
    """

    protocol: str
    fold: int | None = None
    threshold: float | None
    quantile: float | None = None
    smoothing_mm: float = 0.0
    min_size_mm3: float = 0.0
    patients: list[str] = Field(default_factory=list)
    tuned_on: list[str] = Field(default_factory=list)
    drawn: list[str] = Field(default_factory=list)
    value: float | None = None
    study: str | None = None
    trials: int = 0
    reason: str | None = None


class CaseValue(_Strict):
    """A metric of one case; None is undefined, with the reason."""

    case: str
    patient: str
    protocol: str
    metric: str
    value: float | None
    reason: str | None = None


class PooledValue(_Strict):
    """A metric over all cases of the cell; ``unit`` says whether voxels (pooled) or slices are pooled.

    ``left_out`` is its value over the other patients for every patient without whom it is defined, at the thresholds of
    all: what intervals and tests resample patients by. Empty where it does not depend on patients or is undefined.
    """

    protocol: str
    metric: str
    unit: Unit
    value: float | None
    reason: str | None = None
    left_out: dict[str, float] = Field(default_factory=dict)


class Cost(_Strict):
    """What a cell cost; seconds, MiB. ``compiled`` says that compiling its networks was asked for."""

    fit_s: float
    score_s: float
    measure_s: float
    s_per_slice: float
    peak_ram_mib: float
    peak_gpu_mib: float | None
    params: int
    device: str
    threads: int
    precision: str
    compiled: bool = False
    updates: dict[str, int] = Field(default_factory=dict)


class ScoreHistogram(_Strict):
    """How many voxels inside the regions of interest have which score, in equally wide bins from ``low`` to ``high``.

    The first and the last bin hold what lies beyond, too. ``healthy`` are the voxels without lesion; ``dice`` is the
    mean over patients with a lesion of their Dice above each edge (bins + 1), empty where no patient has one.
    """

    low: float
    high: float
    healthy: list[int]
    lesion: list[int]
    dice: list[float]


class Convergence(_Strict):
    """How the loss on held-out healthy patients went in one phase of one fit, and the verdict of a rule on it.

    ``fit`` counts the fits behind the cell; ``points`` are (update, loss), the first one before training; ``ratio``
    compares the last two fifths of the curve (:func:`..convergence.judge`), whose version is ``rule``.
    """

    fit: int = 0
    phase: str
    points: list[tuple[int, float]]
    ratio: float | None
    verdict: Verdict
    rule: int


class Record(_Strict):
    """Everything measured on one cell.

    ``profile`` is the one whose settings the method has. ``labels`` says which lesion labels a top line learned from,
    None for every other method; ``provenance`` is what the method says about itself, such as the weights it started
    from, and as ``compiled`` what became of compiling its networks; ``isolation`` is the wall that stood between its
    code and the labels; ``convergence`` has a phase for each training that was watched. ``froc`` holds by protocol the
    share of lesions found at so many false components per scan; ``histogram`` is that of the scores, None of sets
    without voxel labels and in records of earlier versions.
    ``digest`` is that of its text (:mod:`uasbench.common.sealed`), None until the record is written.
    """

    schema_version: int = SCHEMA_VERSION
    cell: CellKey
    method: MethodInfo
    profile: str
    config: dict[str, Any]
    ids: StageIds
    data: DataInfo
    thresholds: list[Threshold]
    per_case: list[CaseValue]
    pooled: list[PooledValue]
    error_bounds: dict[str, float]
    cost: Cost
    environment: dict[str, Any]
    created: str
    labels: LabelUse | None = None
    provenance: dict[str, str] = Field(default_factory=dict)
    isolation: Literal["landlock", "audit", "none"] = "none"
    convergence: list[Convergence] = Field(default_factory=list)
    froc: dict[str, list[tuple[float, float]]] = Field(default_factory=dict)
    histogram: ScoreHistogram | None = None
    digest: str | None = None

    def __repr__(self) -> str:
        return f"Record({self.cell.slug}: {len(self.data.cases)} cases, {len(self.per_case)} values)"

    def _repr_html_(self) -> str:
        return record_html(self)


class Failure(_Strict):
    """A cell that could not be finished."""

    cell: CellKey
    stage: str
    error: str
    log: str = ""


class Skip(_Strict):
    """A method that declined, with its reason."""

    method: str
    dataset: str
    reason: str


def write_json(path: Path, value: BaseModel | dict[str, Any] | list[Any]) -> None:
    """Write JSON atomically; a record with its digest.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    if isinstance(value, Record):
        write_file(path, with_digest(value.model_dump_json(indent=1, exclude={"digest"}) + "\n"))
        return
    text = (
        value.model_dump_json(indent=1) if isinstance(value, BaseModel) else json.dumps(value, indent=1, sort_keys=True)
    )
    write_text(path, text + "\n")
