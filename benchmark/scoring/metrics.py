"""The catalogue of metrics: what each is called, what it needs, how it is computed and what the tables say of it.

A new metric is its function and its entry in ``METRICS``. Records, undefined rows, tables, ranks, marks and the check
of docs/metrics.md follow from the entry.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ...datasets.case import Spacing
from .detection import CONTRAST_BINS, FROC_RATES, VOLUME_BINS, Bin, LesionWise
from .lesions import ProtocolTotals, millilitres
from .ranking_metrics import Curves, ScoredVoxels, aupro
from .surfaces import SurfaceDistances

NO_PROTOCOL = "none"  # the protocol of metrics without a threshold
NO_LESION = "no lesion in the region of interest"
ONE_CLASS = "only one class in the region of interest"
ONE_KIND = "all slices belong to one class"
SLICE_LABELS_ONLY = "the set has slice labels only"
ONE_BRIGHT_CLASS = "the bright voxels do not hold both classes"
NO_NATIVE = "the method has no native threshold"
ONE_PATIENT_KIND = "all tested patients have a lesion, or none has"
SPECIFICITY = 0.95
PARTIAL_RATE = 0.3  # false-positive rate at which partial areas end

Needs = Literal[
    "voxels", "components", "mask", "surfaces", "lesions", "strata", "scores", "slices", "called slices",
    "slice threshold", "patients", "bright voxels", "bright scores", "healthy scans",
]  # fmt: skip
Aggregate = Literal["case", "pooled"]


@dataclass(frozen=True)
class Undefined:
    """There is no value, and why."""

    reason: str


# None: the metric has no row here, such as a false-positive volume in a case with a lesion.
Value = float | Undefined | None


class MaskedCase(NamedTuple):
    """The mask of one case on the native grid, cropped to the region of interest: bool (z, y, x), as the lesion is.

    ``voxels`` counts those of the region.
    """

    mask: np.ndarray
    lesion: np.ndarray
    spacing: Spacing
    totals: ProtocolTotals
    voxels: int


class CalledHealthy(NamedTuple):
    """How many voxels of one held-out healthy scan there are, how many are called on average, and the volume of one."""

    voxels: int
    called: float
    spacing: Spacing


class CalledSlices(NamedTuple):
    """Slices called above a threshold, and those that show a lesion (bool, same shape)."""

    called: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Metric:
    """A metric: ``id`` is its name in records and tables, ``title`` in headings and on axes.

    Attributes:
        direction: whether ``higher`` or ``lower`` is better; None where methods are not compared by it.
        needs: what ``value`` is given: ``voxels`` and ``components`` a :class:`ProtocolTotals` (which pools),
            ``mask`` a :class:`MaskedCase`, ``surfaces`` :class:`SurfaceDistances`, ``lesions`` and ``strata``
            :class:`LesionWise` (which pools), ``scores`` :class:`ScoredVoxels`, ``slices`` and ``patients``
            :class:`Curves` of those, ``called slices`` :class:`CalledSlices`, ``slice threshold`` a score,
            ``bright voxels`` how many are not and are called anomalous of the healthy and the lesion ones,
            int64 (2, 2), ``bright scores`` :class:`Curves`, ``healthy scans`` :class:`CalledHealthy` of each.
        value: computes it, or says why it is undefined.
        meaning: what it measures; with ``family``, ``undefined`` and ``pooled`` its row in docs/metrics.md.
        pooled: what its value over the cell is of; ``no`` where it has none.
        unit: of a value: ``share`` (0 … 1, printed in percent), ``count``, ``ml``, ``mm`` or ``score`` (of the map).
        per_case: whether it has rows per case, which tables average over patients.
        anatomies: sets that it applies to; None is all.
        always_listed: whether a cell without such masks or labels still gets its rows, undefined and with the reason.
        one_sided: whether calling everything, or nothing, is best by it; no baseline is marked and no method ranked by
            such a rate.
    """

    id: str
    title: str
    direction: Literal["higher", "lower"] | None
    needs: Needs
    value: Callable[[Any], Value]
    meaning: str
    undefined: str
    pooled: str = "no"
    unit: Literal["share", "count", "ml", "mm", "score"] = "share"
    per_case: bool = True
    anatomies: tuple[str, ...] | None = None
    always_listed: bool = True
    one_sided: bool = False

    def has(self, aggregate: Aggregate) -> bool:
        """Tell whether it has rows per case, or over the cell."""
        return self.per_case if aggregate == "case" else self.pooled != "no"

    @property
    def family(self) -> str:
        """What it is about; tables of one family hold its metrics together."""
        return _FAMILIES.get(self.needs, self.needs)

    @property
    def of_slices(self) -> bool:
        """Whether it is had from slice labels too."""
        return self.needs in ("slices", "called slices", "slice threshold", "patients")

    @property
    def in_mm(self) -> bool:
        """Whether it hangs on the spacing of a scan."""
        return self.unit in ("ml", "mm") or self.needs in ("surfaces", "strata")


def applies(anatomies: tuple[str, ...] | None, anatomy: str) -> bool:
    """Tell whether a metric or a protocol of these anatomies applies to a set of this one."""
    return anatomies is None or anatomy in anatomies


def computed(needs: Needs, evidence: Any, aggregate: Aggregate) -> Iterator[tuple[Metric, Value]]:
    """Yield every metric that needs this evidence, with its value."""
    for metric in METRICS.values():
        if metric.needs == needs and metric.has(aggregate):
            value = metric.value(evidence)
            if value is not None:
                yield metric, value


def _share(part: int, whole: int, reason: str) -> Value:
    return float(part / whole) if whole else Undefined(reason)


def _dice(totals: ProtocolTotals) -> Value:
    return 2 * totals.tp / (totals.predicted + totals.positives) if totals.positives else Undefined(NO_LESION)


def _precision(totals: ProtocolTotals) -> Value:
    if not totals.positives:
        return Undefined(NO_LESION)
    return totals.tp / totals.predicted if totals.predicted else 0.0


def _volume_error(case: MaskedCase) -> Value:
    if not case.totals.positives:
        return Undefined(NO_LESION)
    return millilitres(abs(case.totals.fp - case.totals.fn), case.spacing)


def _near(tolerance_mm: float) -> Callable[[SurfaceDistances], Value]:
    return lambda s: s.within(tolerance_mm) if len(s.truth_mm) else Undefined(NO_LESION)


def _lesion_f1(lesions: LesionWise) -> Value:
    found = int(lesions.found.sum())
    return 2 * found / (found + len(lesions) + len(lesions.false)) if len(lesions) else Undefined(NO_LESION)


def _mean(values: np.ndarray, reason: str) -> Value:
    return float(values.mean()) if len(values) else Undefined(reason)


def _called_share(scans: Sequence[CalledHealthy]) -> Value:
    voxels = sum(scan.voxels for scan in scans)
    return sum(scan.called for scan in scans) / voxels if voxels else None


def _called_ml(scans: Sequence[CalledHealthy]) -> Value:
    return float(np.mean([millilitres(1, scan.spacing) * scan.called for scan in scans])) if scans else None


def _froc(lesions: LesionWise) -> Value:
    return float(np.mean(lesions.recall_at(FROC_RATES))) if len(lesions) else Undefined(NO_LESION)


def _false_volume(case: MaskedCase) -> Value:
    return None if case.totals.lesions else millilitres(case.totals.fp, case.spacing)


def _defined(value: float | None, reason: str) -> Value:
    return Undefined(reason) if value is None else value


def _why(scored: ScoredVoxels) -> str:
    return ONE_CLASS if scored.curves.positives else NO_LESION


def _share_of_lesion(curves: Curves) -> float | None:
    return curves.positives / (curves.positives + curves.negatives) if curves.positives else None


def _dice_of_everything(curves: Curves) -> float | None:
    return 2 * curves.positives / (2 * curves.positives + curves.negatives) if curves.positives else None


def _right(called: np.ndarray, labels: np.ndarray) -> Value:
    return _share(int((called & labels).sum()), int(labels.sum()), ONE_KIND)


# As in Yao et al. 2021, Table II, the positive class of bright voxels is *healthy* (docs/metrics.md).
def _bright_precision(counts: np.ndarray) -> Value:
    if not counts.any(axis=1).all():
        return Undefined(ONE_BRIGHT_CLASS)
    kept = counts[:, 0].sum()
    return float(counts[0, 0] / kept) if kept else 0.0


def _strata() -> Iterator[Metric]:
    """Yield recall and Dice of the lesions in each bin of their volume and of their contrast."""
    kinds = (("volume", "ml", VOLUME_BINS), ("contrast", "contrast", CONTRAST_BINS))
    values = (("recall", "found", "share found"), ("Dice", "dice", "mean Dice"))
    for kind, column, bins in kinds:
        for part in bins:
            for name, value, meaning in values:
                yield Metric(
                    f"lesion_{name.lower()}_{part.id}", f"Lesion {name}, {part.title}", "higher", "strata",
                    _in_bin(part, column, value), f"{meaning} of the lesions of this {kind}", f"none of this {kind}",
                    "of these lesions", per_case=False,
                )  # fmt: skip


def _in_bin(part: Bin, column: str, value: str) -> Callable[[LesionWise], Value]:
    def of(lesions: LesionWise) -> Value:
        chosen = part.holds(getattr(lesions, column))
        return _mean(getattr(lesions, value)[chosen], "no lesion of this volume or contrast")

    return of


_FAMILIES: dict[Needs, str] = {
    "scores": "voxels", "components": "lesions", "mask": "volumes", "healthy scans": "volumes",
    "called slices": "slices", "slice threshold": "slices", "bright scores": "bright voxels",
}  # fmt: skip
_VOXELS, _SLICES, _LUNG = "of the voxels of all cases", "of the slices of all cases", ("lung",)
_PATIENTS = "of all patients"
CHANCE: dict[str, float | str] = {
    "dice": "chance_dice", "psc": "prevalence", "ap": "prevalence", "auroc": 0.5, "slice_auroc": 0.5,
    "slice_ap": "slice_prevalence",
}  # fmt: skip
"""What a map without any information reaches: a number, or the metric that says it of a set."""
# In reading order: tables are sorted by it.
METRICS: dict[str, Metric] = {
    metric.id: metric
    for metric in (
        Metric("dice", "Dice", "higher", "voxels", _dice, "Dice of the mask", "no lesion", _VOXELS),
        Metric("psc", "PSC", "higher", "voxels", _precision, "precision of the mask", "no lesion", _VOXELS,
               one_sided=True),
        Metric("sen", "SEN", "higher", "voxels",
               lambda t: _share(t.tp, t.positives, NO_LESION),
               "sensitivity of the mask", "no lesion", _VOXELS, one_sided=True),
        Metric("auroc", "AUROC", "higher", "scores", lambda s: _defined(s.curves.auroc(), _why(s)),
               "area under the ROC curve; ties count half", "one class", _VOXELS),
        Metric("ap", "AP", "higher", "scores", lambda s: _defined(s.curves.ap(), _why(s)),
               "average precision (step sum, as in scikit-learn)", "no lesion", _VOXELS),
        Metric("slice_auroc", "Slice AUROC", "higher", "slices", lambda c: _defined(c.auroc(), ONE_KIND),
               "slices with a lesion against slices without, by the card's slice score", "one class", _SLICES),
        Metric("slice_ap", "Slice AP", "higher", "slices",
               lambda c: _defined(c.ap() if c.negatives else None, ONE_KIND),
               "average precision of the same", "one class", _SLICES),
        Metric("slice_sen95", "Slice SEN at 95 % SPE", "higher", "slices",
               lambda c: _defined(c.sensitivity_at(SPECIFICITY), ONE_KIND),
               "share of slices with a lesion above the score that at most 5 % of the others exceed", "one class",
               _SLICES),
        Metric("patient_auroc", "Patient AUROC", "higher", "patients",
               lambda c: _defined(c.auroc(), ONE_PATIENT_KIND),
               "patients with a lesion against patients without, by their highest slice score", "one class", _PATIENTS,
               per_case=False),
        Metric("patient_sen95", "Patient SEN at 95 % SPE", "higher", "patients",
               lambda c: _defined(c.sensitivity_at(SPECIFICITY), ONE_PATIENT_KIND),
               "share of patients with a lesion above the score that at most 5 % of the others exceed", "one class",
               _PATIENTS, per_case=False),
        Metric("slice_sen", "Slice SEN", "higher", "called slices", lambda s: _right(s.called, s.labels),
               "share of slices with a lesion called above a quantile of healthy slices", "no such slice", _SLICES,
               one_sided=True),
        Metric("slice_spe", "Slice SPE", "higher", "called slices", lambda s: _right(~s.called, ~s.labels),
               "share of slices without a lesion not called", "no such slice", _SLICES, one_sided=True),
        Metric("aupro", "AUPRO", "higher", "scores", lambda s: _defined(aupro(s.curves, s.overlap, s.regions), _why(s)),
               "per-region overlap up to a false-positive rate of 0.3, divided by 0.3", "no lesion", "of all lesions"),
        Metric("auroc_image", "Whole-image AUROC", "higher", "scores", lambda s: _defined(s.images.auroc(), _why(s)),
               "AUROC of whole slices: what lies outside the region is healthy and has the lowest score", "one class",
               _VOXELS),
        Metric("auroc_image_fpr30", "Whole-image AUROC to 30 % FPR", "higher", "scores",
               lambda s: _defined(s.images.auroc_up_to(PARTIAL_RATE), _why(s)),
               "area under the same ROC curve up to a false-positive rate of 0.3, divided by 0.3", "one class",
               _VOXELS),
        Metric("aupro_image", "Whole-image AUPRO", "higher", "scores",
               lambda s: _defined(aupro(s.images, s.overlap, s.regions), _why(s)), "AUPRO of the same",
               "no lesion", "of all lesions"),
        Metric("bright_psc", "Bright-voxel PSC", "higher", "bright voxels", _bright_precision,
               "of the bright voxels not called anomalous, the share that is healthy (0 if all are called)",
               "one class", _VOXELS, anatomies=_LUNG, one_sided=True),
        Metric("bright_sen", "Bright-voxel SEN", "higher", "bright voxels",
               lambda counts: _share(counts[0, 0], counts[0].sum(), "no bright healthy voxel"),
               "of the bright healthy voxels, the share not called anomalous", "no such voxel", _VOXELS,
               anatomies=_LUNG, one_sided=True),
        Metric("bright_spe", "Bright-voxel SPE", "higher", "bright voxels",
               lambda counts: _share(counts[1, 1], counts[1].sum(), "no bright lesion voxel"),
               "of the bright lesion voxels, the share called anomalous", "no such voxel", _VOXELS, anatomies=_LUNG,
               one_sided=True),
        Metric("bright_auroc", "Bright-voxel AUROC", "higher", "bright scores",
               lambda c: _defined(c.auroc(), ONE_BRIGHT_CLASS),
               "area under the ROC curve of the bright voxels; the same for either positive class", "one class",
               _VOXELS, anatomies=_LUNG),
        Metric("nsd_2mm", "NSD 2 mm", "higher", "surfaces", _near(2.0),
               "share of the surfaces of mask and lesions within 2 mm of the other one", "no lesion"),
        Metric("nsd_5mm", "NSD 5 mm", "higher", "surfaces", _near(5.0),
               "share of the surfaces of mask and lesions within 5 mm of the other one", "no lesion"),
        Metric("hd95", "HD95 (mm)", "lower", "surfaces",
               lambda s: s.hausdorff(0.95) if len(s.truth_mm) else Undefined(NO_LESION),
               "distance that 95 % of either surface keeps to the other one", "no lesion", unit="mm"),
        Metric("volume_error_ml", "Volume error (ml)", "lower", "mask", _volume_error,
               "difference of the volumes of mask and lesions, without its sign", "no lesion", unit="ml"),
        Metric("lesion_f1", "Lesion F1", "higher", "lesions", _lesion_f1,
               "F1 of lesions and components of the mask, matched one to one at IoU ≥ 0.1", "no lesion",
               "of all lesions"),
        Metric("lesion_recall", "Lesion recall", "higher", "lesions",
               lambda lesions: _mean(lesions.found, NO_LESION), "share of lesions matched", "no lesion",
               "of all lesions"),
        Metric("lesion_fp", "False components per scan", "lower", "lesions",
               lambda lesions: len(lesions.false) / lesions.cases, "components of the mask that match no lesion",
               "never", "mean over cases", unit="count", one_sided=True),
        Metric("lesion_dice", "Lesion Dice", "higher", "lesions", lambda lesions: _mean(lesions.dice, NO_LESION),
               "mean over lesions of the Dice of each with all components that touch it", "no lesion",
               "of all lesions", per_case=False),
        *_strata(),
        Metric("froc", "FROC", "higher", "lesions", _froc,
               "mean lesion recall at ¼, ½, 1, 2, 4 and 8 false components per scan, by their highest score",
               "no lesion", "of all lesions", per_case=False),
        Metric("lesion_sen", "Lesion SEN", "higher", "components", lambda t: _share(t.found, t.lesions, NO_LESION),
               "share of lesions (components, 26 neighbours) that the mask touches", "no lesion", "of all lesions",
               always_listed=False, one_sided=True),
        Metric("fp_components", "False-positive components", "lower", "components",
               lambda t: t.false_components / t.cases,
               "components of the mask that touch no lesion", "never", "mean over cases", unit="count",
               always_listed=False, one_sided=True),
        Metric("fp_volume_ml", "False-positive volume (ml)", "lower", "mask", _false_volume,
               "predicted volume in a case without a lesion", "listed for those alone", unit="ml",
               always_listed=False, one_sided=True),
        Metric("fp_share", "Called share without a lesion", "lower", "mask",
               lambda case: None if case.totals.lesions else _share(case.totals.fp, case.voxels, "no voxel"),
               "share of the region of interest called in a case without a lesion", "listed for those alone",
               always_listed=False, one_sided=True),
        Metric("healthy_fp_volume_ml", "False-positive volume in healthy scans (ml)", "lower", "healthy scans",
               _called_ml, "predicted volume in held-out healthy scans", "listed where there is one",
               "mean over those scans", unit="ml", per_case=False, always_listed=False, one_sided=True),
        Metric("healthy_share", "Called share of healthy scans", "lower", "healthy scans", _called_share,
               "share of the region of interest called in held-out healthy scans", "listed where there is one",
               "of the voxels of those scans", per_case=False, always_listed=False, one_sided=True),
        Metric("prevalence", "Lesion share", None, "scores", lambda s: _defined(_share_of_lesion(s.curves), NO_LESION),
               "share of the voxels that are lesion: the AP and precision of chance", "no lesion", _VOXELS),
        Metric("chance_dice", "Dice of calling everything", None, "scores",
               lambda s: _defined(_dice_of_everything(s.curves), NO_LESION),
               "Dice of a mask of all voxels", "no lesion", _VOXELS),
        Metric("slice_prevalence", "Lesion share of slices", None, "slices",
               lambda c: _defined(_share_of_lesion(c), ONE_KIND),
               "share of the slices with a lesion: the slice AP of chance", "no such slice", _SLICES),
        Metric("slice_threshold", "Slice threshold", None, "slice threshold", lambda score: score,
               "the quantile of healthy slices above which slices are called", "listed where there is one",
               "of all healthy slices", unit="score", per_case=False, always_listed=False),
    )
}  # fmt: skip


def sign(metric: str) -> int:
    """Return 1 where higher is better, −1 where lower is, and 0 where methods are not compared by a metric."""
    known = METRICS.get(metric)
    return 0 if known is None or known.direction is None else 1 if known.direction == "higher" else -1


def decides(metric: str) -> bool:
    """Tell whether a metric says on its own which of two methods is better."""
    return sign(metric) != 0 and not METRICS[metric].one_sided


def needs_voxels(metric: str) -> bool:
    """Tell whether a metric cannot be had from slice labels."""
    return metric not in METRICS or not METRICS[metric].of_slices
