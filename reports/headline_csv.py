"""The headline table as numbers: in percent, with marks and intervals in columns of their own."""

import math
from typing import Any

import pandas as pd

from ..benchmark.scoring.metrics import NO_PROTOCOL
from .columns import flag_text
from .headline import GAP, Column, Headline, HeadlineRow


def headline_frame(headline: Headline) -> pd.DataFrame:
    """Return the rows of a headline table in their order, the chance row last; documented in docs/tables.md."""
    rows = [*headline.rows, *([headline.chance] if headline.chance else [])]
    fixed = ["dataset", "train", "method", "marks", "winner", "n_patients", "n_cases", "n_seeds"]
    columns = [*fixed, *(name for c in headline.columns for name in _parts(c)), "flags"]
    return pd.DataFrame([_values(row, headline) for row in rows], columns=pd.Index(columns))


def _values(row: HeadlineRow, headline: Headline) -> dict[str, Any]:
    numbers: dict[str, float] = {}
    for column in headline.columns:
        known = row.entries[column.key].numbers
        for name, part in _parts(column).items():
            numbers[name] = known.get(part, math.nan) * (1 if part == "p" else 100)
    return {
        "dataset": headline.dataset,
        "train": headline.train,
        "method": row.method,
        "marks": row.marks,
        "winner": "yes" if row is headline.winner else "no",
        "n_patients": row.n_patients,
        "n_cases": row.n_cases,
        "n_seeds": row.n_seeds,
        **numbers,
        "flags": flag_text({*row.flags, *headline.flags} - {"chance"}),
    }


def _parts(column: Column) -> dict[str, str]:
    """Return the names of a column's numbers in the file, and what each is of them."""
    if column.against:
        return {f"against_{column.against}": "mean", f"against_{column.against}_p": "p"}
    if column.key == GAP:
        return {"oracle_gap": "mean"}
    name = column.key if column.protocol == NO_PROTOCOL else f"{column.metric}_{column.protocol}"
    spread = {f"{name}_std": "std"} if column.spread else {}
    return {name: "mean", **spread, f"{name}_ci_low": "ci_low", f"{name}_ci_high": "ci_high"}
