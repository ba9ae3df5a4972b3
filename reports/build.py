"""Everything that a finished or half-finished run shows: tables, figures, report; a pure function of its records."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..benchmark.runs.folder import RunFolder
from ..benchmark.shelves.shelf import wide
from ..common.atomic import write_text
from . import html
from .columns import CASES, PAIRED_TESTS, RANKS, SUMMARY, flag_set, kind_marks, kind_sentences
from .details import details
from .experiment import write_page
from .failing import POLICY, Policy, policy_of, told
from .figures.pictures import draw
from .gain import gain_grid
from .grid import (
    PrintedTable,
    compact_grid,
    cost_grid,
    failure_grid,
    frame_grid,
    headline_grid,
    paired_grids,
    published_grid,
    rank_grid,
    skipped_grid,
)
from .headline import headlines
from .headline_csv import headline_frame
from .latex import latex
from .refined import refined_grid
from .tables import Tables, tables_of
from .wide import wide_tables
from .writers import csv_text, markdown

MOST_ROWS = 200
"""Rows that a table for readers has at most, where it is a CSV table as it is."""


def build(folder: RunFolder, policy: Policy = "exclude", tell: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Write ``tables/``, ``figures/`` and ``report.html`` and return the files, the report last; of a wide run tables.

    Works with whatever is there: no record at all, one seed, one patient. Every file is replaced atomically. ``policy``
    says what counts for cells that failed or are missing; ``tell`` hears what is done next.

    Raises:
        RecordError: a record is damaged.
    """
    tell("making tables")
    if policy_of(folder.info()) != policy:
        folder.update_info(**{POLICY: policy})
    many = wide(folder)
    tables = wide_tables(folder, policy, tell) if many else tables_of(folder, policy)
    files = [write_text(folder.tables_dir / name, text) for name, text in table_texts(tables, many=many).items()]
    if many:
        return files
    found = headlines(tables.summary, tables.paired_tests, tables.told_missing)
    tell("drawing figures")
    pictures = draw(folder, tables, found)
    files += pictures.files
    tell("writing the report")
    files += write_page(folder, tables)
    return [*files, write_text(folder.report_html, html.render(tables, found, pictures, folder))]


def table_texts(tables: Tables, *, many: bool = False) -> dict[str, str]:
    """Return the files in ``tables/`` by name, of ``many`` cells without what needs all values at once."""
    found = headlines(tables.summary, tables.paired_tests, tables.told_missing)
    texts = {f"{name}.csv": csv_text(tables[name]) for name in tables if not (many and name == "per_case")}
    missing = tables.told_missing()
    readable = {
        "cost": [cost_grid(tables.cost, told(tables.missing, "exclude"))],
        "cases": [_first_rows("cases", tables.cases, CASES, left=3)],
        "summary": [_first_rows("summary", tables.summary, [*SUMMARY[:12], "flags"], missing)],
        "paired_tests": [_first_rows("paired_tests", tables.paired_tests, [*PAIRED_TESTS[:16], "flags"], missing)],
    }
    for one in found:
        texts[f"headline-{one.name}.csv"] = csv_text(headline_frame(one))
        published = published_grid(one)
        readable[f"headline-{one.name}"] = [headline_grid(one), *([published] if published else [])]
        if not many:
            readable[f"details-{one.name}"] = details(one, tables)[0]
        ranked = rank_grid(tables.ranks, one)
        readable[f"ranks-{one.name}"] = [ranked] if ranked else []
        readable[f"paired_tests-{one.name}"] = paired_grids(tables.paired_tests, one)
    if len(tables.tuned):
        texts["tuned.csv"] = csv_text(tables.tuned)
        readable["tuned"] = [gain for one in found if (gain := gain_grid(tables.tuned, one)) is not None]
    if len(tables.refined):
        texts["refined.csv"] = csv_text(tables.refined)
        readable["refined"] = [gain for one in found if (gain := refined_grid(tables.refined, one)) is not None]
    readable["ranks"] = [_first_rows("ranks", tables.ranks, RANKS, missing)]
    readable |= {"failures": [failure_grid(tables.failures)], "skipped": [skipped_grid(tables.skipped)]}
    for name, grids in readable.items():
        texts |= {f"{name}.md": markdown(grids), f"{name}.tex": latex(grids)}
    for one in found:
        texts[f"headline_full-{one.name}.tex"] = texts[f"headline-{one.name}.tex"]
        texts[f"headline-{one.name}.tex"] = latex([compact_grid(one)])
    return texts


def _first_rows(
    name: str, frame: pd.DataFrame, columns: Sequence[str], missing: str = "", left: int | None = None
) -> PrintedTable:
    """Return a table as it is, of a long one the first rows and where all are."""
    title, shown = name.replace("_", " ").capitalize(), frame.head(MOST_ROWS)
    kinds = [flag_set(flags) for flags in shown["flags"]]
    if "method" in shown:  # a part of a wide table may lack the column of flags
        shown = shown.assign(
            method=[f"{m} {kind_marks(flags)}".rstrip() for m, flags in zip(shown["method"], kinds, strict=True)]
        )
    grid = frame_grid(title, shown, columns, left=left)
    cut = f"The first {MOST_ROWS} of {len(frame)} rows; tables/{name}.csv has all of them."
    said = (cut if len(frame) > MOST_ROWS else "", missing)
    return replace(grid, legend=(*kind_sentences(kinds), *filter(None, said)))
