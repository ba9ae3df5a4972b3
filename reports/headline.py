"""The headline table of one data set and train set: what a reader looks at first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ..benchmark.protocols.catalogue import PROTOCOLS, VAL, Protocol, deciding, is_oracle, slice_quantiles
from ..benchmark.scoring.metrics import NO_PROTOCOL, SLICE_LABELS_ONLY, needs_voxels
from .columns import flag_set, kind_marks, kind_sentences, metric_name, records_of
from .formats import NOT_AVAILABLE, bracket, percent, points, spread

BANNERS = {
    "smoke": "SMOKE profile: a few training steps; no claim about any method.",
    "quick": "QUICK profile: a plumbing test, networks have barely learned.",
    "phantom": "PHANTOM: synthetic data. No number here says anything about patients.",
    "planted": "PLANTED: synthetic lesions in healthy scans, on which settings are chosen.",
}
"""What a table says first where all its rows carry the flag, or of the phantom any."""
CONFOUND = "roi-area"
_SLICE_UNITS = ("slice", "pooled", "patient")
GAP = "gap"


@dataclass(frozen=True)
class Column:
    """Where a column's numbers come from in the summary: the first of ``units`` that has a row counts.

    Its ``key`` is the protocol where it is a Dice, and ``note`` is added to the heading; a terminal shows no column
    without a ``short`` one. A column that is ``optional`` is left out where no method has such a row.
    """

    key: str
    protocol: str
    metric: str
    units: tuple[str, ...] = ("patient",)
    note: str = ""
    optional: bool = False
    spread: bool = False
    short: str = ""

    @property
    def title(self) -> str:
        return "Oracle gap" if self.key == GAP else metric_name(self.metric, self.protocol) + self.note

    @property
    def muted(self) -> bool:
        """Whether it holds upper bounds, which are printed grey."""
        return self.key == GAP or is_oracle(self.protocol)


_SLICE_AUROC = Column("slice_auroc", NO_PROTOCOL, "slice_auroc", _SLICE_UNITS, short="Slice\nAUROC")


def voxel_columns() -> tuple[Column, ...]:
    """Return the columns of a set with voxel labels; Dice comes under every protocol that asks for a column."""
    shown = [p for p in PROTOCOLS.values() if p.headline]
    return (
        *(_dice_column(p) for p in shown if p.anatomies is None),
        Column(GAP, VAL, "dice", short="Oracle\ngap"),
        *(Column(metric, VAL, metric) for metric in ("psc", "sen")),
        *(Column(metric, NO_PROTOCOL, metric, short=metric.upper()) for metric in ("auroc", "ap")),
        _SLICE_AUROC,
        *(_dice_column(p) for p in shown if p.anatomies is not None),
    )


def _dice_column(protocol: Protocol) -> Column:
    of_paper, first = protocol.anatomies is not None, protocol.id == VAL
    note = " (upper bound)" if protocol.is_oracle else " (pooled)" if protocol.grid else ""
    short = f"Dice\n{protocol.id.removeprefix('healthy-')}{' (!)' if protocol.is_oracle else ''}"
    short = "" if of_paper else f"Dice {protocol.id}\n[95 % CI]" if first else short
    units = ("pooled",) if protocol.grid else ("patient",)
    return Column(
        protocol.id, protocol.id, "dice", units, note, optional=of_paper, spread=of_paper or first, short=short
    )


def slice_columns() -> tuple[Column, ...]:
    """Return the columns of a set with slice labels only; a terminal shows those of the first quantile."""
    patient = "Slice AUROC\nper patient"
    rates = [
        (protocol, metric, "" if i else f"Slice\n{name} {protocol.removeprefix('healthy-')}")
        for i, protocol in enumerate(slice_quantiles())
        for metric, name in (("slice_sen", "SEN"), ("slice_spe", "SPE"))
    ]
    return (
        _SLICE_AUROC,
        Column("slice_auroc_patient", NO_PROTOCOL, "slice_auroc", note=" per patient", optional=True, short=patient),
        Column("slice_ap", NO_PROTOCOL, "slice_ap", _SLICE_UNITS, optional=True, short="Slice\nAP"),
        *(Column(f"{m}-{p}", p, m, _SLICE_UNITS, optional=True, short=short) for p, m, short in rates),
    )


@dataclass(frozen=True)
class HeadlineNumber:
    """One printed number, and why it is missing."""

    value: str
    spread: str = ""
    interval: str = ""
    reason: str = ""

    @property
    def text(self) -> str:
        return " ".join(filter(None, [self.value, self.spread, self.interval]))


@dataclass(frozen=True)
class HeadlineRow:
    """One method; ``marks`` follow its name and are explained by :meth:`Headline.legend`."""

    method: str
    marks: str
    flags: frozenset[str]
    entries: dict[str, HeadlineNumber]
    n_patients: int
    n_cases: int
    n_seeds: int

    @property
    def label(self) -> str:
        return f"{self.method} {self.marks}".rstrip()


@dataclass(frozen=True)
class Headline:
    """The table of one (dataset, train) pair, best method first.

    ``verdict`` holds protocol and metric that order the rows and decide the marks, ``area`` the slice AUROC that the
    area of the region of interest reaches alone (NaN where it was not run).
    """

    dataset: str
    train: str
    columns: tuple[Column, ...]
    rows: tuple[HeadlineRow, ...]
    verdict: tuple[str, str]
    area: float
    flags: frozenset[str]
    slices_only: bool = False

    @property
    def name(self) -> str:
        """Stem of the table's files."""
        return f"{self.dataset}-{self.train}"

    def title_of(self, column: Column) -> str:
        """Return a column's heading; the slice AUROC carries its confound."""
        if column.key == "slice_auroc" and not math.isnan(self.area):
            return f"{column.title} (ROI area alone: {percent(self.area)})"
        return column.title

    def legend(self) -> list[str]:
        """Return the sentences that every rendering prints below the table."""
        protocol, metric = self.verdict
        ranked = (
            f"Rows are ordered by {metric_name(metric, protocol)}. ◆ best trivial baseline; † does not beat it; "
            "‡ slice AUROC not above what the area of the region of interest reaches alone; "
            "≠ fewer patients or seeds than other rows, so that means are not comparable as they stand."
        )
        first, *others = self._slice_legend() if self.slices_only else self._voxel_legend()
        banners = [text for flag, text in BANNERS.items() if flag in self.flags]
        return [*banners, first, " ".join([ranked, *kind_sentences(row.flags for row in self.rows)]), *others]

    def _voxel_legend(self) -> list[str]:
        used = dict.fromkeys(c.protocol for c in self.columns if c.protocol != NO_PROTOCOL)
        return [
            "Percent; mean over patients (each averaged over seeds) ± standard deviation between patients "
            "[95 % interval, bootstrap over seeds and patients]; slice and pooled columns: over seeds.",
            "PSC (precision) and SEN (sensitivity) are read at the val threshold. AUROC and AP count voxels inside the "
            "region of interest. Oracle gap = oracle − val.",
            *(f"{protocol}: threshold is {PROTOCOLS[protocol].legend}." for protocol in used),
        ]

    def _slice_legend(self) -> list[str]:
        called = "; ".join(f"{protocol}: {100 * share:.0f} %" for protocol, share in slice_quantiles().items())
        rates = (
            "SEN and SPE: share of slices with and without a lesion called right above a quantile of the slice "
            f"scores of held-out healthy scans ({called}); no lesion label is used."
        )
        return [
            "Percent; slices of all cases pooled, mean over seeds [95 % interval]; per patient: mean over patients "
            "with slices of both kinds [95 % interval, bootstrap over seeds and patients].",
            "The labels say which slices show a lesion, not where: there is no Dice and no other voxel metric.",
            *([rates] if any(c.protocol in slice_quantiles() for c in self.columns) else []),
        ]


def headlines(summary: pd.DataFrame) -> list[Headline]:
    """Return the headline table of every (dataset, train) pair of a summary."""
    pairs = sorted(set(zip(summary["dataset"], summary["train"], strict=True)))
    return [_headline(summary, dataset, train) for dataset, train in pairs]


def _headline(summary: pd.DataFrame, dataset: str, train: str) -> Headline:
    part = records_of(summary, dataset=dataset, train=train)
    rows = {(r["method"], r["protocol"], r["metric"], r["unit"]): r for r in part}
    methods = sorted({key[0] for key in rows})
    by_dice = [(protocol, "dice", ("patient",)) for protocol in deciding()]
    verdicts = [*by_dice, (NO_PROTOCOL, "slice_auroc", _SLICE_UNITS)]
    verdict = next((v for v in verdicts if any(_defined(_find(rows, m, *v)) for m in methods)), verdicts[0])
    slice_auroc = {m: _find(rows, m, *verdicts[-1]) for m in methods}
    area_row = slice_auroc.get(CONFOUND)
    area = float(area_row["mean"]) if area_row is not None else math.nan
    reasons = {row["reason"] for row in part if needs_voxels(row["metric"])}
    slices_only = reasons == {SLICE_LABELS_ONLY}
    chosen = slice_columns() if slices_only else voxel_columns()
    columns = tuple(c for c in chosen if _shown(c, rows, methods, slices_only))
    found = []
    for method in methods:
        decided = _find(rows, method, *verdict)
        shown = decided or next(row for key, row in rows.items() if key[0] == method)
        flags = flag_set(shown["flags"])
        marks = "◆" if "best-trivial" in flags else "†" if "below-best-trivial" in flags else ""
        own = slice_auroc[method]
        if own is not None and method != CONFOUND and float(own["mean"]) <= area:
            marks += "‡"
        if flags & {"unequal-n", "missing-seeds"}:
            marks += "≠"
        marks += kind_marks(flags)
        entries = {c.key: _entry(_find(rows, method, c.protocol, c.metric, c.units), c) for c in columns}
        n_patients = 0 if decided is None or pd.isna(decided["n_patients"]) else int(decided["n_patients"])
        n_cases, n_seeds = (0 if decided is None else int(decided[name]) for name in ("n_cases", "n_seeds"))
        order = (-float(decided["mean"]) if decided and _defined(decided) else math.inf, method)
        found.append((order, HeadlineRow(method, marks, flags, entries, n_patients, n_cases, n_seeds)))
    ordered = tuple(row for _, row in sorted(found, key=lambda pair: pair[0]))
    common = frozenset.intersection(*(row.flags for row in ordered)) & set(BANNERS)
    common |= frozenset.union(*(row.flags for row in ordered)) & {"phantom"}
    return Headline(dataset, train, columns, ordered, verdict[:2], area, frozenset(common), slices_only)


def _shown(column: Column, rows: dict, methods: Sequence[str], slices_only: bool) -> bool:
    found = [_find(rows, m, column.protocol, column.metric, column.units) for m in methods]
    return not column.optional or any(map(_defined, found) if slices_only else found)


def _find(rows: dict, method: str, protocol: str, metric: str, units: Sequence[str]) -> dict | None:
    return next((rows[key] for unit in units if (key := (method, protocol, metric, unit)) in rows), None)


def _defined(row: dict | None) -> bool:
    return row is not None and not math.isnan(row["mean"])


def _entry(row: dict | None, column: Column) -> HeadlineNumber:
    if row is None:
        return HeadlineNumber(NOT_AVAILABLE, reason="not measured")
    if column.key == GAP:
        return HeadlineNumber(points(row["oracle_gap"]), reason=row["reason"])
    shown = spread(row["std"]) if column.spread else ""
    return HeadlineNumber(percent(row["mean"]), shown, bracket(row["ci_low"], row["ci_high"]), row["reason"])
