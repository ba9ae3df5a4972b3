"""The headline table of one data set and train set: what a reader looks at first."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from ..benchmark.protocols.catalogue import PROTOCOLS, VAL, Protocol, deciding, is_oracle, slice_quantiles
from ..benchmark.scoring.metrics import CHANCE, NO_PROTOCOL, SLICE_LABELS_ONLY, needs_voxels
from .columns import KINDS, flag_set, kind_marks, kind_sentences, metric_name, records_of
from .formats import NOT_AVAILABLE, bracket, p_value, percent, points, spread
from .legends import BANNERS, CAUTIONS, families, family, interval_sentences, marked
from .trivial import BEST_TRIVIAL, CONFOUND

NO_COMPETITOR = {"trivial", *KINDS}
_SLICE_UNITS = ("slice", "pooled", "patient")
GAP = "gap"
NOT_COMPARED = "not compared"
CHANCE_ROW = "chance: Dice and precision of calling everything, areas and AP of scores that know nothing."


@dataclass(frozen=True)
class Column:
    """Where a column's numbers come from in the summary: the first of ``units`` that has a row counts.

    Its ``key`` is the protocol where it is a Dice, and ``note`` is added to the heading; a terminal shows no column
    without a ``short`` one. A column that is ``optional`` is left out where no method has such a row. With ``against``
    it holds differences to that reference, and their p.
    """

    key: str
    protocol: str
    metric: str
    units: tuple[str, ...] = ("patient",)
    note: str = ""
    optional: bool = False
    spread: bool = False
    short: str = ""
    against: str = ""

    @property
    def title(self) -> str:
        if self.against:
            return f"Against {'best trivial ◆' if self.against == BEST_TRIVIAL else self.against}"
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
    """One printed number, and why it is missing; ``numbers`` are the shares behind value, spread, interval and p."""

    value: str
    spread: str = ""
    interval: str = ""
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)

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
    cautions: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        return f"{self.method} {self.marks}".rstrip()


@dataclass(frozen=True)
class Headline:
    """The table of one (dataset, train) pair, best method first.

    ``verdict`` holds protocol and metric that order the rows and decide the marks, ``area`` the slice AUROC that the
    area of the region of interest reaches alone (NaN where it was not run). ``families`` says over which methods the p
    against a reference, or behind a mark, is corrected.
    """

    dataset: str
    train: str
    columns: tuple[Column, ...]
    rows: tuple[HeadlineRow, ...]
    verdict: tuple[str, str]
    area: float
    flags: frozenset[str]
    slices_only: bool = False
    families: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""
    chance: HeadlineRow | None = None

    @property
    def name(self) -> str:
        """Stem of the table's files."""
        return f"{self.dataset}-{self.train}"

    @property
    def winner(self) -> HeadlineRow | None:
        """The best competitor that learns, else the best trivial baseline; None where no value orders the rows."""
        defined = [row for row in self.rows if row.n_cases]
        learned = (row for row in defined if not row.flags & NO_COMPETITOR)
        return next(learned, next((row for row in defined if "best-trivial" in row.flags), None))

    def title_of(self, column: Column) -> str:
        """Return a column's heading; the slice AUROC carries its confound."""
        if column.key == "slice_auroc" and not math.isnan(self.area):
            return f"{column.title} (ROI area alone: {percent(self.area)})"
        return column.title

    def legend(self) -> list[str]:
        """Return the sentences that every rendering prints below the table."""
        protocol, metric = self.verdict
        name = metric_name(metric, protocol)
        tuned = PROTOCOLS[protocol].sees_labels if protocol in PROTOCOLS else "no"
        ranked = (
            f"Printed rows are ordered by {name}{'' if tuned == 'no' else ', whose threshold sees labels ' + tuned}. "
            "◆ best trivial baseline, chosen for every patient on all others, so that a difference to it is not one of "
            "two rows; † not shown to beat every trivial one "
            "(p > 0.05 or no gain); ‡ slice AUROC not shown to exceed what the area of the region of interest reaches "
            "alone; ≠ fewer patients or seeds than other rows, so that means are not comparable as they stand."
        )
        if any(c.against for c in self.columns):
            ranked += f" Against a reference: difference in {name}, and its p."
        first, *others = self._slice_legend() if self.slices_only else self._voxel_legend()
        banners = [text for flag, text in BANNERS.items() if flag in self.flags]
        marks = interval_sentences(entry.interval for row in self.rows for entry in row.entries.values())
        kinds = kind_sentences(row.flags for row in self.rows)
        told = [*filter(None, [self.corrected(*self.families), self.missing]), *marks, *self.cautions]
        return [*banners, first, " ".join([ranked, *kinds]), *told, *others]

    def corrected(self, *names: str) -> str:
        """Say what the p of references and marks are of, and over which methods they are corrected."""
        told = families({name: self.families.get(name, "") for name in names})
        return f"p: crossed test (seeds and patients random), after Holm over {told}." if told else ""

    @property
    def cautions(self) -> list[str]:
        """What is said where any number of the table carries a flag."""
        return [text for flag, text in CAUTIONS.items() if any(flag in row.cautions for row in self.rows)]

    def _voxel_legend(self) -> list[str]:
        used = dict.fromkeys(c.protocol for c in self.columns if c.protocol != NO_PROTOCOL)
        return [
            "Percent; mean over patients (each averaged over seeds) ± standard deviation between patients "
            "[95 % bootstrap-t interval for new patients and seeds]; slice and pooled columns: over all voxels or "
            "slices, ± between seeds [the same interval, by leaving patients out].",
            "PSC (precision) and SEN (sensitivity) are printed at the val threshold, the oracle gap as oracle − val. "
            "AUROC and AP count voxels inside the region of interest.",
            *([CHANCE_ROW] if self.chance else []),
            *(f"{protocol}: threshold is {PROTOCOLS[protocol].legend}." for protocol in used),
        ]

    def _slice_legend(self) -> list[str]:
        called = "; ".join(f"{protocol}: {100 * share:.0f} %" for protocol, share in slice_quantiles().items())
        rates = (
            "SEN and SPE: share of slices with and without a lesion called right above a quantile of the slice "
            f"scores of held-out healthy scans ({called}); no lesion label is used."
        )
        return [
            "Percent; slices of all cases pooled, mean over seeds [95 % bootstrap-t interval for new patients and "
            "seeds, by leaving patients out]; per patient: mean over patients with slices of both kinds.",
            "The labels say which slices show a lesion, not where: there is no Dice and no other voxel metric.",
            *([CHANCE_ROW] if self.chance else []),
            *([rates] if any(c.protocol in slice_quantiles() for c in self.columns) else []),
        ]


def headlines(
    summary: pd.DataFrame, tests: pd.DataFrame | None = None, missing: Callable[[str, str], str] = lambda *_: ""
) -> list[Headline]:
    """Return the headline table of every (dataset, train) pair of a summary; with paired ``tests``, also their p.

    ``missing`` says of a pair what is done with cells that failed.
    """
    pairs = sorted(set(zip(summary["dataset"], summary["train"], strict=True)))
    found = [_headline(summary, tests, dataset, train) for dataset, train in pairs]
    return [replace(one, missing=missing(one.dataset, one.train)) for one in found]


def _headline(summary: pd.DataFrame, tests: pd.DataFrame | None, dataset: str, train: str) -> Headline:
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
    pairs = {} if tests is None else _compared(tests, dataset, train, *verdict)
    references = sorted({reference for _, reference in pairs}, key=lambda name: (name == BEST_TRIVIAL, name))
    shown = [c for c in chosen if _shown(c, rows, methods, slices_only)]
    # Beside the numbers that order the rows: the last column of a wide table is seldom looked at.
    place = next((i for i, c in enumerate(shown, 1) if c.key in (GAP, "slice_auroc")), len(shown))
    shown[place:place] = [
        Column(f"against-{r}", *verdict[:2], against=r, short="p against\n◆" if r == BEST_TRIVIAL else "")
        for r in references
    ]
    columns = tuple(shown)
    found = []
    for method in methods:
        decided = _find(rows, method, *verdict)
        shown = decided or next(row for key, row in rows.items() if key[0] == method)
        flags = flag_set(shown["flags"])
        marks = "◆" if "best-trivial" in flags else "†" if "below-best-trivial" in flags else ""
        if _no_better_than_area(slice_auroc[method], method, area):
            marks += "‡"
        if flags & {"unequal-n", "missing-seeds", "failed-cells"}:
            marks += "≠"
        marks += kind_marks(flags)
        cells = {c.key: _find(rows, method, c.protocol, c.metric, c.units) for c in columns if not c.against}
        entries = {
            c.key: _difference(pairs.get((method, c.against))) if c.against else _entry(cells[c.key], c)
            for c in columns
        }
        cautions = frozenset[str]().union(*(flag_set(row["flags"]) for row in cells.values() if row is not None))
        n_patients = 0 if decided is None or pd.isna(decided["n_patients"]) else int(decided["n_patients"])
        n_cases, n_seeds = (0 if decided is None else int(decided[name]) for name in ("n_cases", "n_seeds"))
        order = (-float(decided["mean"]) if decided and _defined(decided) else math.inf, method)
        found.append((order, HeadlineRow(method, marks, flags, entries, n_patients, n_cases, n_seeds, cautions)))
    ordered = tuple(row for _, row in sorted(found, key=lambda pair: pair[0]))
    common = frozenset.intersection(*(row.flags for row in ordered)) & set(BANNERS)
    common |= frozenset.union(*(row.flags for row in ordered)) & {"phantom"}
    corrected = _families(pairs, [_find(rows, m, *verdict) for m in methods], [*slice_auroc.values()])
    return Headline(
        dataset, train, columns, ordered, verdict[:2], area, frozenset(common), slices_only, corrected,
        chance=_chance(columns, part),
    )  # fmt: skip


def _chance(columns: Sequence[Column], rows: Sequence[dict]) -> HeadlineRow | None:
    """Return what a map without information reaches: everything called, or a score that knows nothing."""
    known = {(r["metric"], r["unit"]): r["mean"] for r in rows if r["metric"] in CHANCE.values() and _defined(r)}
    entries = {c.key: HeadlineNumber(NOT_AVAILABLE, reason=NOT_COMPARED if c.against else "") for c in columns}
    for column in columns:
        level = CHANCE.get(column.metric)
        if isinstance(level, str):
            level = next((known[level, unit] for unit in column.units if (level, unit) in known), None)
        if level is not None and column.key != GAP and not column.against:
            entries[column.key] = HeadlineNumber(percent(level), numbers={"mean": level})
    if all(entry.value == NOT_AVAILABLE for entry in entries.values()):
        return None
    return HeadlineRow("chance", "", frozenset({"chance"}), entries, 0, 0, 0)


def compared(headline: Headline, tests: pd.DataFrame) -> dict[tuple[str, str], dict]:
    """Return the tests of what orders a headline table by method and reference: of the first unit with a p, if any."""
    units = ("patient",) if needs_voxels(headline.verdict[1]) else _SLICE_UNITS
    where = (headline.dataset, headline.train, *headline.verdict)
    if found := _compared(tests, *where, units):
        return found
    part = records_of(
        tests, **dict(zip(("dataset", "train", "protocol", "metric"), where, strict=True)), unit="patient"
    )
    return {(row["method"], row["reference"]): row for row in part}


def _compared(
    tests: pd.DataFrame, dataset: str, train: str, protocol: str, metric: str, units: Sequence[str]
) -> dict[tuple[str, str], dict]:
    """Return the tests of the verdict by method and reference; the first of the units that has a p counts."""
    part = records_of(tests, dataset=dataset, train=train, protocol=protocol, metric=metric)
    for unit in units:
        found = {(r["method"], r["reference"]): r for r in part if r["unit"] == unit}
        if any(not pd.isna(r["p_holm_crossed"]) for r in found.values()):
            return found
    return {}


def _families(
    pairs: Mapping[tuple[str, str], dict], verdicts: Sequence[dict | None], areas: Sequence[dict | None]
) -> dict[str, str]:
    """Say over which methods the corrections run, by reference and by mark; that of ◆ is †'s."""
    by_reference: dict[str, list[dict]] = {}
    for (_, reference), row in sorted(pairs.items()):
        by_reference.setdefault(reference, []).append(row)
    return {name: family(rows) for name, rows in by_reference.items() if name != BEST_TRIVIAL} | {
        "†": family(filter(None, verdicts), "p_best_trivial"),
        "‡": family(filter(None, areas), "p_area_alone"),
    }


def _no_better_than_area(row: dict | None, method: str, area: float) -> bool:
    """Tell whether a slice AUROC is not shown to exceed the area's, or where nothing tests that, is not above it."""
    if row is None or method == CONFOUND:
        return False
    return "area-alone" in flag_set(row["flags"]) or float(row["mean"]) <= area


def _difference(row: dict | None) -> HeadlineNumber:
    """Return a difference with its p, or why there is none."""
    if row is None:
        return HeadlineNumber(NOT_AVAILABLE, reason=NOT_COMPARED)
    numbers = {"mean": row["mean_diff"], "p": row["p_holm_crossed"]}
    return HeadlineNumber(points(row["mean_diff"]), interval=shown_p(row), reason=row["reason"], numbers=numbers)


def shown_p(row: dict) -> str:
    """Return the corrected p of a comparison; below the best trivial baseline nothing is tested."""
    if math.isnan(row["p_holm_crossed"]):
        return ""
    if row["reference"] == BEST_TRIVIAL and row["mean_diff"] <= 0:
        return "no gain"
    return f"p {p_value(row['p_holm_crossed'])}"


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
        return HeadlineNumber(points(row["oracle_gap"]), reason=row["reason"], numbers={"mean": row["oracle_gap"]})
    shown = spread(row["std"]) if column.spread else ""
    numbers = {name: row[name] for name in ("mean", "std", "ci_low", "ci_high") if name != "std" or column.spread}
    interval = marked(bracket(row["ci_low"], row["ci_high"]), flag_set(row["flags"]))
    return HeadlineNumber(percent(row["mean"]), shown, interval, row["reason"], numbers)
