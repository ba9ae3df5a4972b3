"""What a terminal shows at the end of ``bench run``, and beside what a paper printed after ``bench reproduce``."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..benchmark.catalogue.printed import COSTS, NOT_SIGNIFICANT, Printed
from ..benchmark.protocols.catalogue import PROTOCOLS, VAL
from ..benchmark.runs.folder import RunFolder
from ..benchmark.scoring.metrics import METRICS, sign
from ..benchmark.shelves.shelf import wide
from ..benchmark.statistics import t_interval
from .columns import flag_set, flag_text, kind_sentences, metric_name, records_of
from .formats import NOT_AVAILABLE, p_value
from .headline import Headline, headlines
from .legends import interval_sentences
from .tables import tables_of

BESIDE = (
    "row", "dataset", "metric", "printed", "here", "ci_low", "ci_high", "difference", "diff_low", "diff_high", "stars",
    "stars_here", "p_here", "n_cases", "n_seeds", "flags", "of", "reason",
)  # fmt: skip
OF_ALL_ROWS = {"phantom", "planted", "smoke", "quick"}
AMONG_ROWS = {"trivial", "best-trivial", "below-best-trivial", "area-alone"}
"""Flags that a page of printed numbers says once, and those that compare rows of the run."""
PERCENT = 100
_STYLES = {"best-trivial": "bold", "below-best-trivial": "dim"}


def headline(folder: RunFolder) -> RenderableType:
    """Return the headline tables of a run for ``rich.console.Console.print``; a note where nothing has finished."""
    if wide(folder):
        return Text(f"The tables of so many cells are in {folder.tables_dir}, headline-*.md first.")
    tables = tables_of(folder)
    found = headlines(tables.summary, tables.headline_tests, tables.told_missing)
    if not found:
        return Text("No cell has finished yet: there is nothing to tabulate.")
    return Group(*(part for one in found for part in (_table(one), _legend(one))))


def _table(one: Headline) -> Table:
    title = f"{one.dataset}, trained on {one.train}"
    if "phantom" in one.flags:
        title += "  PHANTOM: synthetic data"
    table = Table(
        title=escape(title), title_justify="left", title_style="bold", header_style="", box=None, pad_edge=False
    )
    table.add_column("Method", vertical="bottom", no_wrap=True)
    columns = [c for c in one.columns if c.short]
    for column in columns:
        table.add_column(column.short, justify="right", style="dim italic" if column.muted else "", no_wrap=True)
    for row in [*one.rows, *([one.chance] if one.chance else [])]:
        entries = {c.key: row.entries[c.key] for c in columns}
        texts = [
            e.interval.removeprefix("p ") if c.against else e.text if c.key == VAL else e.value
            for c, e in zip(columns, entries.values(), strict=True)
        ]
        style = next((s for flag, s in _STYLES.items() if flag in row.flags), "")
        table.add_row(*(escape(text) for text in (row.label, *texts)), style=style)
    return table


def _legend(one: Headline) -> Text:
    protocol, metric = one.verdict
    bounds = [PROTOCOLS[c.protocol] for c in one.columns if c.short and PROTOCOLS[c.protocol].is_oracle]
    lines = [
        f"Percent, mean over patients. ◆ best trivial baseline by {metric_name(metric, protocol)}, chosen for every "
        "patient on all others; † not shown to beat it; ‡ slice AUROC not shown to exceed the ROI's area alone; "
        "≠ fewer patients or seeds.",
        *filter(None, [one.corrected(*one.families), one.missing]),
        *kind_sentences(row.flags for row in one.rows),
        *interval_sentences(row.entries[c.key].interval for row in one.rows for c in one.columns if c.key == VAL),
        *(f"(!) {protocol.id}: {protocol.legend}." for protocol in bounds),
    ]
    return Text("\n".join(lines) + "\n", style="dim")


def beside(printed: Sequence[Printed], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one line per printed number with columns ``BESIDE``, in per cent, or in seconds for what a run costs.

    ``printed``, ``here`` and ``difference`` are texts, ``n/a`` where the run has none. ``ci_low`` and ``ci_high`` are
    the interval of ours, of seconds Student's over the timings, one per seed; ``diff_low`` and ``diff_high`` that of
    the difference, for which the printed number is exact; NaN where there is none, for the ``reason``. ``stars`` are
    the printed asterisks and ``stars_here`` those of our paired t-test of the same two rows, whose p is ``p_here``.
    ``of`` says what a number is of that ours is no counterpart to; it has no difference. ``flags`` are those of the
    number, but for what holds for the whole run or compares its rows. ``tables`` are those of the run; what no number
    needs is not asked for.
    """
    rows = []
    for one in printed:
        ours = _of_cost(one, tables["cost"]) if one.metric in COSTS else _of_summary(one, tables["summary"])
        digits = _digits(one.metric in COSTS)
        known = ours is not None and not pd.isna(ours.value)
        compared = None if one.of else ours
        rows.append(
            {
                "row": one.row,
                "dataset": one.dataset,
                "metric": ours.name if ours else _name(one),
                "printed": _pair(one.value, one.std, digits),
                "here": _pair(ours.value, ours.std, digits) if ours else NOT_AVAILABLE,
                "ci_low": ours.low if ours else np.nan,
                "ci_high": ours.high if ours else np.nan,
                "difference": f"{compared.value - one.value:+.{digits}f}" if compared and known else NOT_AVAILABLE,
                "diff_low": compared.low - one.value if compared else np.nan,
                "diff_high": compared.high - one.value if compared else np.nan,
                **_stars(one, tables),
                "n_cases": ours.n_cases if ours else 0,
                "n_seeds": ours.n_seeds if ours else 0,
                "flags": flag_text({*flag_set(ours.flags)} - OF_ALL_ROWS - AMONG_ROWS) if ours else "",
                "of": one.of,
                "reason": ours.reason if ours else "",
            }
        )
    return pd.DataFrame(rows, columns=list(BESIDE))


class _Ours(NamedTuple):
    """The counterpart of a printed number, in its unit."""

    name: str
    value: float
    std: float
    low: float
    high: float
    n_cases: int
    n_seeds: int
    flags: str
    reason: str


def _name(one: Printed) -> str:
    return COSTS.get(one.metric) or f"{metric_name(one.metric, one.protocol)}, {one.unit}"


def _of_summary(one: Printed, summary: pd.DataFrame) -> _Ours | None:
    where = {"dataset": one.dataset, "protocol": one.protocol, "metric": one.metric, "unit": one.unit}
    for row in records_of(summary, method=one.row, **where):
        scale = PERCENT if METRICS[one.metric].unit == "share" else 1
        value, std, low, high = (scale * row[name] for name in ("mean", "std", "ci_low", "ci_high"))
        counts = int(row["n_cases"]), int(row["n_seeds"])
        return _Ours(_name(one), value, std, low, high, *counts, row["flags"], row["reason"])
    return None


def _of_cost(one: Printed, cost: pd.DataFrame) -> _Ours | None:
    rows = records_of(cost, method=one.row, dataset=one.dataset)
    if not rows:
        return None
    values = np.array([row[one.metric] for row in rows], np.float64)
    spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    name = f"{_name(one)}, on {'/'.join(sorted({row['device'] for row in rows}))}"
    between = t_interval(values, noun="timing")
    return _Ours(
        name, float(values.mean()), spread, between.low, between.high, 0, len(rows), rows[0]["flags"], between.reason
    )  # fmt: skip


def _stars(one: Printed, tables: Mapping[str, pd.DataFrame]) -> dict[str, object]:
    """Return the printed asterisks and ours: pairs of seeds as papers repeat runs, of patients where there are none."""
    found: dict[str, object] = {"stars": one.stars, "stars_here": "", "p_here": np.nan}
    if one.test is None:
        return found
    where = {"dataset": one.dataset, "protocol": one.protocol, "metric": one.metric, "reference": one.test.against}
    rows = {row["unit"]: row for row in records_of(tables["paired_tests"], method=one.row, **where)}
    tested = [rows[unit] for unit in ("seed", "patient") if unit in rows] if one.unit == "patient" else []
    tested = [row for row in (*tested, rows.get(one.unit)) if row is not None and not pd.isna(row["p_t"])]
    if not tested:
        return found | {"stars_here": NOT_AVAILABLE}
    stars = one.test.of(tested[0]["p_t"])
    worse = stars != NOT_SIGNIFICANT and tested[0]["mean_diff"] * sign(one.metric) < 0
    return found | {"stars_here": f"{stars} worse" if worse else stars, "p_here": tested[0]["p_t"]}


def beside_text(frame: pd.DataFrame, missing: str = "") -> str:
    """Return what :func:`beside` found for a terminal: intervals in brackets, asterisks where a table has any.

    ``missing`` says what is done with cells that failed.
    """
    rows = records_of(frame)
    shown = frame.assign(interval=[*map(own_interval, rows)], of_difference=[*map(difference_interval, rows)])
    shown["p_here"] = frame["p_here"].map(p_value)
    columns = ["row", "dataset", "metric", "printed", "here", "interval", "difference", "of_difference"]
    columns += ["stars", "stars_here", "p_here"] if any(frame["stars"]) else []
    last = ["n_cases", "n_seeds", "flags", *(["of"] if any(frame["of"]) else [])]
    return "\n".join(filter(None, [shown[[*columns, *last]].to_string(index=False), missing]))


def own_interval(row: Mapping[str, Any]) -> str:
    """Return the interval of ours in a row of :func:`beside`, or why there is none."""
    return _interval(row, "ci") or (row["reason"] if row["here"] != NOT_AVAILABLE else "")


def difference_interval(row: Mapping[str, Any]) -> str:
    """Return the interval of the difference in a row of :func:`beside`, empty where there is none."""
    return _interval(row, "diff")


def _interval(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    digits = _digits(str(row["metric"]).startswith(tuple(COSTS.values())))
    return "" if pd.isna(low) or pd.isna(high) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def _digits(seconds: bool) -> int:
    return 3 if seconds else 1


def _pair(value: float | None, spread: float | None, digits: int) -> str:
    if value is None or pd.isna(value):
        return NOT_AVAILABLE
    return f"{value:.{digits}f}" + ("" if spread is None or pd.isna(spread) else f" ± {spread:.{digits}f}")
