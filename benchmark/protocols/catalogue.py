"""The catalogue of threshold protocols: what each is called, whose labels it sees, and how it finds its threshold.

A new protocol is its function and its entry in ``PROTOCOLS``. Records, undefined rows, tables, headline, marks and the
check of docs/protocols.md follow from the entry; the mark of an upper bound follows from ``sees_labels``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ...datasets.splits import no_folds_reason
from ..runs.records import Threshold
from ..scoring.metrics import NO_NATIVE, NO_PROTOCOL, Needs, applies
from ..scoring.paper_grid import PaperGrid
from ..scoring.readouts import ReadOut
from ..scoring.slices import NO_CALIBRATION
from .evidence import NO_LESIONS, Evidence
from .paper_lung import paper_lung
from .tuning import PLAIN, Objective

OWN_MASK = "the mask is the method's own"
PAPER_THRESHOLD = 0.5


_MASK: tuple[Needs, ...] = ("voxels", "components", "mask")
_DETAILED: tuple[Needs, ...] = (*_MASK, "surfaces", "lesions", "strata")

Chosen = tuple[list[Threshold], float | None]
"""Thresholds for every patient, and what the bins may hide of the value that they were chosen by, where they were."""


@dataclass(frozen=True)
class Protocol:
    """Where a threshold comes from; ``id`` is its name in records, tables and headings.

    Attributes:
        legend: what the threshold is: below tables, and its row in docs/protocols.md.
        sees_labels: whether it sees lesion labels of the patients that it is applied to; those get the mark ``oracle``.
        find: chooses the thresholds; None where no threshold is needed.
        anatomies: sets that it applies to; None is all.
        headline: whether headline tables have a column of its Dice.
        decides: whether its Dice may order the rows of a table, before the protocols below it.
        post_processes: whether it may smooth by mm and drop components below mm³ as well.
        quantile: share of held-out healthy scores at or below the threshold; slices are called by the same share.
        grid: read-out of masks on another grid than the scan's, which gives pooled rows alone.
        needs: which kinds of metrics it has; their rows stay undefined where a set has slice labels only.
    """

    id: str
    legend: str
    sees_labels: Literal["no", "of other patients", "yes"]
    find: Callable[[Protocol, Evidence], Chosen] | None
    anatomies: tuple[str, ...] | None = None
    headline: bool = False
    decides: int | None = None
    post_processes: bool = False
    quantile: float | None = None
    grid: Callable[[Threshold], ReadOut] | None = None
    needs: tuple[Needs, ...] = _MASK

    @property
    def is_oracle(self) -> bool:
        """Whether its numbers are upper bounds and no results."""
        return self.sees_labels == "yes"

    @property
    def has_gap(self) -> bool:
        """Whether ``oracle`` bounds it: both choose for the same masks."""
        return self.find is not None and self.grid is None and not self.is_oracle

    def thresholds(self, evidence: Evidence) -> Chosen:
        return ([], None) if self.find is None else self.find(self, evidence)

    def undefined(self, patients: list[str], reason: str | None) -> Threshold:
        """Return what the record stores where it cannot be applied."""
        return Threshold(protocol=self.id, threshold=None, patients=patients, reason=reason)


def _native(protocol: Protocol, evidence: Evidence) -> Chosen:
    value, patients = evidence.options.native_threshold, evidence.patients
    if evidence.own_masks or value is None:
        return [protocol.undefined(patients, OWN_MASK if evidence.own_masks else NO_NATIVE)], None
    return [Threshold(protocol=protocol.id, threshold=value, patients=patients)], None


def _healthy_quantile(protocol: Protocol, evidence: Evidence) -> Chosen:
    curves, patients = evidence.healthy_curves, evidence.patients
    if curves is None:
        return [protocol.undefined(patients, NO_CALIBRATION)], None
    assert protocol.quantile is not None
    cut = curves.cut_at(protocol.quantile)
    threshold, share = curves.threshold(cut), float(curves.shares[cut])
    return [Threshold(protocol=protocol.id, threshold=threshold, quantile=share, patients=patients)], None


def _cross_fitted(protocol: Protocol, evidence: Evidence) -> Chosen:
    if not evidence.folds:
        return [protocol.undefined(evidence.patients, no_folds_reason(evidence.patients))], None
    return [evidence.tune(protocol.id, f.tune, f.apply, k)[0] for k, f in enumerate(evidence.folds)], None


def _tuned_on_all(protocol: Protocol, evidence: Evidence) -> Chosen:
    threshold, bound = evidence.tune(protocol.id, evidence.patients, evidence.patients)
    return [threshold], bound


def _best_pooled_dice(protocol: Protocol, evidence: Evidence) -> Chosen:
    patients, curves = evidence.patients, evidence.curves
    if not curves.positives:
        return [protocol.undefined(patients, NO_LESIONS)], 0.0
    objective = Objective(curves, curves.shares, curves.dice(), curves.dice_bound())
    asked = Threshold(protocol=protocol.id, threshold=None, patients=patients, tuned_on=patients)
    return [evidence.studies.search(asked, {PLAIN: objective})], objective.bound


def _fixed(protocol: Protocol, evidence: Evidence) -> Chosen:
    """Return 0.5 for methods that own a threshold (docs/methods/two-stage.md)."""
    if evidence.options.native_threshold is None:
        return [protocol.undefined(evidence.patients, NO_NATIVE)], None
    return [Threshold(protocol=protocol.id, threshold=PAPER_THRESHOLD, patients=evidence.patients)], None


VAL, ORACLE, ORACLE_POOLED, NATIVE = "val", "oracle", "oracle-pooled", "native"
# In reading order: tables are sorted by it.
PROTOCOLS: dict[str, Protocol] = {
    protocol.id: protocol
    for protocol in (
        Protocol(NATIVE, "the method's own constant", sees_labels="no", find=_native, headline=True, decides=4,
                 needs=(*_DETAILED, "bright voxels")),
        Protocol("healthy-q95", "the 95 % quantile of scores on held-out healthy voxels; no lesion label is used",
                 sees_labels="no", find=_healthy_quantile, headline=True, decides=2, quantile=0.95, needs=_DETAILED),
        Protocol("healthy-q99", "the 99 % quantile of scores on held-out healthy voxels; no lesion label is used",
                 sees_labels="no", find=_healthy_quantile, decides=3, quantile=0.99),
        Protocol(VAL, "tuned with smoothing and least size on labelled validation patients; none tunes its own "
                 "(cross-fitted)", sees_labels="of other patients", find=_cross_fitted, headline=True, decides=1,
                 post_processes=True, needs=_DETAILED),
        Protocol(ORACLE, "tuned like val, but on the test labels: an upper bound, not a result",
                 sees_labels="yes", find=_tuned_on_all, headline=True, post_processes=True),
        Protocol(ORACLE_POOLED,
                 "the threshold of the best pooled Dice on the test labels: an upper bound of pooled Dice without "
                 "post-processing, not a result",
                 sees_labels="yes", find=_best_pooled_dice),
        Protocol("paper-liver", "fixed at 0.5, slices pooled on the 256² grid, as in the liver paper",
                 sees_labels="no", find=_fixed, anatomies=("liver",), headline=True, grid=PaperGrid,
                 needs=("voxels",)),
        Protocol("paper-lung",
                 "found on the test labels by a search to two decimals, as in the lung paper: an upper bound",
                 sees_labels="yes", find=lambda protocol, evidence: paper_lung(protocol.id, evidence),
                 anatomies=("lung",), headline=True),
        Protocol(NO_PROTOCOL, "no threshold is needed", sees_labels="no", find=None,
                 needs=("scores", "bright scores")),
    )
}  # fmt: skip

REFINED = PROTOCOLS["healthy-q95"]
"""The protocol whose masks refined rows start from, and are compared with."""


def protocols_of(anatomy: str) -> list[Protocol]:
    """Return the protocols that choose a threshold on sets of an anatomy, in reading order."""
    return [p for p in PROTOCOLS.values() if p.find is not None and applies(p.anatomies, anatomy)]


def is_oracle(protocol: str) -> bool:
    """Tell whether numbers need the mark of an upper bound; those of a protocol that is not known here get it too."""
    return protocol not in PROTOCOLS or PROTOCOLS[protocol].is_oracle


def deciding() -> list[str]:
    """Return the protocols whose Dice may order methods, the preferred one first."""
    return [id_ for _, id_ in sorted((p.decides, p.id) for p in PROTOCOLS.values() if p.decides is not None)]


def slice_quantiles() -> dict[str, float]:
    """Return the protocols that call slices, with their quantile of healthy slice scores."""
    return {p.id: p.quantile for p in PROTOCOLS.values() if p.quantile is not None}
