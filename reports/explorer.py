"""The table that a reader explores: every protocol's columns at once, of which the page shows a set."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..benchmark.protocols.catalogue import PROTOCOLS, is_oracle
from ..benchmark.scoring.metrics import METRICS, NO_PROTOCOL, sign
from .columns import MethodOnData, metric_name, records_of
from .details import shown_interval, shown_value
from .formats import NOT_AVAILABLE, number, percent, points, spread
from .grid import kind_of, reference_order, tags_of
from .headline import Headline, HeadlineRow, shown_p
from .legends import family, interval_sentences
from .tables import Tables
from .trivial import BEST_TRIVIAL

SETS = {
    "compact": "Compact", "thresholds": "Thresholds", "detection": "Detection", "cost": "Cost",
}  # fmt: skip
_AT_THRESHOLD = ("psc", "sen", "lesion_f1", "lesion_recall", "lesion_fp", "nsd_2mm", "hd95", "slice_sen", "slice_spe")
_FREE = ("ap", "auroc", "slice_auroc", "slice_ap", "slice_sen95", "patient_auroc")
_UNITS = ("patient", "slice", "pooled")
_COST = {
    "fit_s": "Fit (s)", "s_per_slice": "Score (ms per slice)", "peak_ram_mib": "Peak RAM (MiB)",
    "peak_gpu_mib": "Peak GPU (MiB)", "params": "Parameters",
}  # fmt: skip


@dataclass(frozen=True)
class ExploredColumn:
    """A column; ``sets`` are names of ``SETS``, with ``:PROTOCOL`` where it is shown under that protocol alone.

    Columns of one ``group`` hold the same under different protocols. ``first`` says whether it is shown without a
    script, ``muted`` whether it holds upper bounds, ``lower`` whether less is better.
    """

    group: str
    title: str
    note: str
    sets: str
    first: bool
    muted: bool = False
    lower: bool = False

    @property
    def always(self) -> bool:
        """Whether a page without a script shows it: the Dice of every protocol."""
        return self.first or "thresholds" in self.sets.split()


@dataclass(frozen=True)
class ExploredCell:
    """A printed value, what stands below it, what it is sorted by (empty for none), and why it is missing."""

    text: str = NOT_AVAILABLE
    under: str = ""
    value: str = ""
    reason: str = ""


@dataclass(frozen=True)
class ExploredRow:
    """A method, the flags below its name, and its cells."""

    method: str
    label: str
    tags: str
    family: str
    kind: str
    cells: tuple[ExploredCell, ...]


_Maker = Callable[[HeadlineRow], ExploredCell]


@dataclass(frozen=True)
class Explorer:
    """The table of a (dataset, train) pair, and what its controls offer."""

    columns: tuple[ExploredColumn, ...]
    rows: tuple[ExploredRow, ...]
    protocols: tuple[str, ...]
    protocol: str
    families: tuple[str, ...]
    sets: Mapping[str, str]
    legend: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        """The methods in the order in which a reader looks at them: winner, best trivial baseline, the others."""
        rows = [row for row in self.rows if row.family]
        return [row.method for row in sorted(rows, key=lambda row: {"winner": 0, "best": 1}.get(row.kind, 2))]


@dataclass(frozen=True)
class _Source:
    """The rows of a section's tables, by what a column asks for."""

    headline: Headline
    summary: Mapping[tuple[str, str, str, str], dict]
    tests: Mapping[tuple[str, str, str, str], dict]
    cost: Mapping[str, dict]

    def find(self, method: str, protocol: str, metric: str) -> dict | None:
        keys = ((method, protocol, metric, unit) for unit in _UNITS)
        return next((self.summary[key] for key in keys if key in self.summary), None)

    def has(self, protocol: str, metric: str) -> bool:
        found = (self.find(row.method, protocol, metric) for row in self.headline.rows)
        return any(row is not None and not pd.isna(row["mean"]) for row in found)


def explorer(headline: Headline, tables: Tables) -> Explorer:
    """Return the table of a headline with every protocol that has numbers, its rows in the headline's order."""
    where = {"dataset": headline.dataset, "train": headline.train}
    spent = records_of(tables.cost, **where)
    source = _Source(
        headline,
        {(r["method"], r["protocol"], r["metric"], r["unit"]): r for r in records_of(tables.summary, **where)},
        {(r["method"], r["protocol"], r["metric"], r["reference"]): r for r in _tests(tables.paired_tests, where)},
        {m: pd.DataFrame([r for r in spent if r["method"] == m])[[*_COST]].mean().to_dict()
         for m in {r["method"] for r in spent}},
    )  # fmt: skip
    protocols = tuple(p for p in PROTOCOLS if any(source.has(p, m) for m in ("dice", "slice_sen")) and p != NO_PROTOCOL)
    chosen = headline.verdict[0] if headline.verdict[0] in protocols else next(iter(protocols), NO_PROTOCOL)
    columns = list(_columns(source, protocols, chosen))
    facts = {row.method: tables.facts[MethodOnData(row.method, *where.values())].method for row in headline.rows}
    rows = tuple(
        ExploredRow(
            row.method, row.label, tags_of(row, headline), facts[row.method].family if row.method in facts else "",
            "winner" if row is headline.winner else kind_of(row.flags),
            tuple(cell(row) for _, cell in columns),
        )
        for row in [*headline.rows, *([headline.chance] if headline.chance else [])]
    )  # fmt: skip
    families = tuple(sorted({row.family for row in rows} - {""}))
    used = {part.partition(":")[0] for column, _ in columns for part in column.sets.split()}
    sets = {key: title for key, title in SETS.items() if key in used}
    printed = {column.protocol for column in headline.columns}
    marks = interval_sentences(cell.under for row in rows for cell in row.cells)
    said = headline.legend()
    legend = (
        *(sentence for sentence in marks if sentence not in said),
        *_other_families(source, headline),
        *(f"{p}: threshold is {PROTOCOLS[p].legend}." for p in protocols if p not in printed),
    )
    return Explorer(tuple(column for column, _ in columns), rows, protocols, chosen, families, sets, legend)


def _other_families(source: _Source, headline: Headline) -> Iterator[str]:
    """Say where Holm's correction runs over other methods than under the protocol of the headline's order."""
    found: dict[tuple[str, str], list[dict]] = {}
    for (_, protocol, metric, reference), row in source.tests.items():
        if metric == headline.verdict[1]:
            found.setdefault((reference, protocol), []).append(row)
    for (reference, protocol), rows in found.items():
        usual = family(found.get((reference, headline.verdict[0]), []))
        if (own := family(rows)) and own != usual:
            yield f"p against {reference} under {protocol}: Holm over {own}."


def _tests(frame: pd.DataFrame, where: Mapping[str, str]) -> list[dict]:
    """Return the tests of a section over patients, or over slices where these have the p."""
    rows = [r for r in records_of(frame, **where) if r["metric"] in ("dice", "slice_auroc") and r["unit"] in _UNITS]
    return sorted(rows, key=lambda r: (not math.isnan(r["p_holm_crossed"]), -_UNITS.index(r["unit"])))


def _columns(source: _Source, protocols: tuple[str, ...], chosen: str) -> Iterator[tuple[ExploredColumn, _Maker]]:
    """Yield the columns in reading order, each with the function that makes its cells."""
    headline, where = source.headline, [(p, PROTOCOLS[p]) for p in protocols]
    decided = headline.verdict[1]
    main = "dice" if decided == "dice" else "slice_auroc"
    compact = [main] if main != "dice" else []
    for name, protocol in where:
        if source.has(name, "dice"):
            note = "upper bound" if protocol.is_oracle else "pooled" if protocol.grid else "[95 % interval]"
            sets = f"compact:{name} thresholds"
            column = ExploredColumn("dice", f"Dice {name}", note, sets, name == chosen, protocol.is_oracle)
            yield column, _measured(source, name, "dice", std=True)
    for free in compact:
        yield _plain(free, "compact detection", True), _measured(source, NO_PROTOCOL, free, std=True)
    references = sorted({reference for *_, reference in source.tests}, key=reference_order)
    tested = [(name, "dice") for name in protocols] if main == "dice" else [(NO_PROTOCOL, main)]
    for reference in references:
        for name, metric in tested:
            if any(key[1:] == (name, metric, reference) for key in source.tests):
                title = f"Against {'best trivial ◆' if reference == BEST_TRIVIAL else reference}"
                sets = f"compact:{name}" if metric == "dice" else "compact"
                note = "points, p after Holm"
                shown = name in (chosen, NO_PROTOCOL)
                column = ExploredColumn(f"against-{reference}", title, note, sets, shown, is_oracle(name))
                yield column, _difference(source, name, metric, reference)
    for name, protocol in where:
        if protocol.has_gap and source.has(name, "dice"):
            column = ExploredColumn("gap", "Oracle gap", "points", f"thresholds:{name}", False, muted=True, lower=True)
            yield column, _gap(source, name)
        if source.has(name, "dice") and not protocol.grid:
            column = ExploredColumn("seeds", "Spread of seeds", "points", f"thresholds:{name}", False, lower=True)
            yield column, _between_seeds(source, name)
    for metric in _AT_THRESHOLD:
        for name in protocols:
            if source.has(name, metric):
                known = METRICS[metric]
                title, _, note = metric_name(metric, name).partition(" (")
                column = ExploredColumn(
                    metric, title, note.replace(")", ""), f"detection:{name}", False, is_oracle(name), sign(metric) < 0
                )
                yield column, _measured(source, name, known.id)
    for metric in _FREE:
        if metric not in compact and source.has(NO_PROTOCOL, metric):
            in_compact = metric in ("ap", "auroc")
            yield (
                _plain(metric, "compact detection" if in_compact else "detection", in_compact),
                _measured(source, NO_PROTOCOL, metric),
            )
    yield ExploredColumn("n", "n", _counted(headline), "compact thresholds detection", True), _count(headline)
    for key, title in _COST.items():
        name, _, note = title.partition(" (")
        column = ExploredColumn(key, name, note.replace(")", ""), "cost", False, lower=True)
        if any(not pd.isna(spent[key]) for spent in source.cost.values()):
            yield column, _spent(source, key)


def _plain(metric: str, sets: str, first: bool) -> ExploredColumn:
    return ExploredColumn(metric, METRICS[metric].title, "", sets, first, lower=sign(metric) < 0)


def _counted(headline: Headline) -> str:
    return f"{'cases' if headline.slices_only else 'patients'} × seeds"


def _sorted_by(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.9g}"


def _measured(source: _Source, protocol: str, metric: str, std: bool = False) -> _Maker:
    known = METRICS[metric]

    def cell(row: HeadlineRow) -> ExploredCell:
        if row is source.headline.chance:
            keys = (c.key for c in source.headline.columns if (c.metric, c.protocol) == (metric, protocol))
            entry = next((row.entries[key] for key in keys if key != "gap" and not key.startswith("against")), None)
            return ExploredCell(entry.value if entry else "")
        found = source.find(row.method, protocol, metric)
        if found is None or pd.isna(found["mean"]):
            return ExploredCell(reason=found["reason"] if found else "not measured")
        text = shown_value(known, found)
        if std and (shown := spread(found["std"])):
            text += f" {shown}"
        return ExploredCell(text, shown_interval(known, found), _sorted_by(found["mean"]))

    return cell


def _difference(source: _Source, protocol: str, metric: str, reference: str) -> _Maker:
    def cell(row: HeadlineRow) -> ExploredCell:
        found = source.tests.get((row.method, protocol, metric, reference))
        if found is None or pd.isna(found["mean_diff"]):
            return ExploredCell("" if row is source.headline.chance else NOT_AVAILABLE, reason="not compared")
        return ExploredCell(points(found["mean_diff"]), shown_p(found), _sorted_by(found["mean_diff"]))

    return cell


def _gap(source: _Source, protocol: str) -> _Maker:
    def cell(row: HeadlineRow) -> ExploredCell:
        found = source.find(row.method, protocol, "dice")
        gap = np.nan if found is None else found["oracle_gap"]
        return ExploredCell(points(gap), "", _sorted_by(gap), "" if found else "not measured")

    return cell


def _between_seeds(source: _Source, protocol: str) -> _Maker:
    def cell(row: HeadlineRow) -> ExploredCell:
        found = source.summary.get((row.method, protocol, "dice", "seed"))
        std = np.nan if found is None else found["std"]
        return ExploredCell(percent(std), "", _sorted_by(std), "fewer than two seeds")

    return cell


def _count(headline: Headline) -> _Maker:
    def cell(row: HeadlineRow) -> ExploredCell:
        if row is headline.chance:
            return ExploredCell("")
        n = row.n_cases if headline.slices_only else row.n_patients
        return ExploredCell(f"{n or NOT_AVAILABLE} × {row.n_seeds}", "", str(n))

    return cell


def _spent(source: _Source, key: str) -> _Maker:
    def cell(row: HeadlineRow) -> ExploredCell:
        if row.method not in source.cost:
            return ExploredCell("" if row is source.headline.chance else NOT_AVAILABLE)
        value = source.cost[row.method][key] * (1000 if key == "s_per_slice" else 1)
        return ExploredCell(number(value), "", _sorted_by(value))

    return cell
