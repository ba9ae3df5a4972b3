"""What a terminal shows at the end of ``bench run``, and beside what a paper printed after ``bench reproduce``."""

from collections.abc import Sequence

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..benchmark.experiments import Printed
from ..benchmark.protocols.catalogue import PROTOCOLS, VAL
from ..benchmark.runs.folder import RunFolder
from .columns import KINDS, flag_set, flag_text, kind_sentences, metric_name
from .headline import Headline, headlines
from .tables import tables_of

BESIDE = ("row", "dataset", "metric", "printed", "here", "difference", "n_cases", "n_seeds", "flags")
PERCENT = 100
_STYLES = {"best-trivial": "bold", "below-best-trivial": "dim"}


def headline(folder: RunFolder) -> RenderableType:
    """Return the headline tables of a run for ``rich.console.Console.print``; a note where nothing has finished."""
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
        "≠ fewer patients or seeds. p after Holm.",
        *filter(None, [one.missing]),
        *kind_sentences(row.flags for row in one.rows),
        *(f"(!) {protocol.id}: {protocol.legend}." for protocol in bounds),
    ]
    return Text("\n".join(lines) + "\n", style="dim")


def beside(printed: Sequence[Printed], summary: pd.DataFrame) -> pd.DataFrame:
    """Return one line per printed number with columns ``BESIDE``, in per cent as text; ``n/a`` where the run has none.

    ``summary`` is the run's table; ``flags`` names the rows that are no competitors (``topline``, ``transductive``) and
    the upper bounds (``oracle``).
    """
    keys = ["method", "dataset", "protocol", "metric", "unit"]
    values = summary.drop_duplicates(keys).set_index(keys)
    rows = []
    for one in printed:
        key = (one.row, one.dataset, one.protocol, one.metric, one.unit)
        found = values.loc[key] if key in values.index else None
        here, spread = (None, None) if found is None else (PERCENT * found["mean"], PERCENT * found["std"])
        rows.append(
            {
                "row": one.row,
                "dataset": one.dataset,
                "metric": f"{metric_name(one.metric, one.protocol)}, {one.unit}",
                "printed": _pair(one.value, one.std),
                "here": _pair(here, spread),
                "difference": "n/a" if here is None or pd.isna(here) else f"{here - one.value:+.1f}",
                "n_cases": 0 if found is None else int(found["n_cases"]),
                "n_seeds": 0 if found is None else int(found["n_seeds"]),
                "flags": "" if found is None else flag_text({*flag_set(found["flags"])} & {*KINDS, "oracle"}),
            }
        )
    return pd.DataFrame(rows, columns=list(BESIDE))


def _pair(value: float | None, spread: float | None) -> str:
    if value is None or pd.isna(value):
        return "n/a"
    return f"{value:.1f}" + ("" if spread is None or pd.isna(spread) else f" ± {spread:.1f}")
