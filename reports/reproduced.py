"""What a paper printed and what a run gave, row by row, at the end of ``bench reproduce``."""

from collections.abc import Sequence

import pandas as pd

from ..benchmark.experiments import Printed
from .columns import KINDS, flag_set, flag_text, metric_name

COLUMNS = ("row", "dataset", "metric", "printed", "here", "difference", "n_cases", "n_seeds", "flags")
PERCENT = 100


def beside(printed: Sequence[Printed], summary: pd.DataFrame) -> pd.DataFrame:
    """Return one line per printed number with columns ``COLUMNS``, in per cent as text; ``n/a`` where the run has none.

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
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _pair(value: float | None, spread: float | None) -> str:
    if value is None or pd.isna(value):
        return "n/a"
    return f"{value:.1f}" + ("" if spread is None or pd.isna(spread) else f" ± {spread:.1f}")
