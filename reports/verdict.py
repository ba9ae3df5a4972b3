"""The headline table in sentences: best method, best trivial baseline, and whether the difference is real."""

import pandas as pd

from ..benchmark.scoring.metrics import needs_voxels
from .columns import KINDS, metric_name, records_of
from .formats import bracket, counted, p_value, percent, points
from .headline import Headline, HeadlineRow
from .paired import SECOND_REFERENCE

_SKIP = {"trivial", *KINDS}
_TITLES = {"transductive": "Transductive method", "topline": "Supervised top line"}


def sentences(headline: Headline, summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Return two or three sentences for the top of a section; none where nothing is defined."""
    protocol, metric = headline.verdict
    name = metric_name(metric, protocol)
    unit = "patient" if needs_voxels(metric) else "slice"
    where = {"dataset": headline.dataset, "train": headline.train, "protocol": protocol, "metric": metric}
    values = {r["method"]: r for r in records_of(summary, **where, unit=unit)}
    rows = [row for row in headline.rows if row.method in values and not pd.isna(values[row.method]["mean"])]
    learned = [row for row in rows if not row.flags & _SKIP]
    trivial = next((row for row in rows if "best-trivial" in row.flags), None)
    said = []
    if learned:
        best = values[learned[0].method]
        said.append(f"Best learning method: {learned[0].method}, {name} {_value(best)}.")
    if trivial is not None:
        said.append(f"The best trivial baseline, {trivial.method}, reaches {_value(values[trivial.method])}.")
    if trivial is not None and learned:
        beaten = [row for row in learned if "below-best-trivial" not in row.flags]
        verb = "lies" if len(beaten) == 1 else "lie"
        said.append(f"{len(beaten)} of {counted(len(learned), 'learning method')} {verb} above it.")
    for flag, title in _TITLES.items():
        said += [f"{title} {row.method}: {_value(values[row.method])}." for row in rows if flag in row.flags]
    if learned:
        said += _tested(learned[0], headline, tests)
    return said


def _value(row: dict) -> str:
    return " ".join(filter(None, [f"{percent(row['mean'])} %", bracket(row["ci_low"], row["ci_high"])]))


def _tested(best: HeadlineRow, headline: Headline, tests: pd.DataFrame) -> list[str]:
    protocol, metric = headline.verdict
    where = {"dataset": headline.dataset, "train": headline.train, "protocol": protocol, "metric": metric}
    said = []
    for row in sorted(
        records_of(tests, **where, unit="patient", method=best.method), key=lambda r: r["reference"] == SECOND_REFERENCE
    ):
        if pd.isna(row["p_holm"]):
            why = row["reason"] or "undefined"
            said.append(
                f"{best.method} against {row['reference']}: {points(row['mean_diff'])} points, no test ({why})."
            )
            continue
        p = p_value(row["p_holm"])
        shown = bracket(row["ci_low"], row["ci_high"], signed=True)
        difference = " ".join(filter(None, [f"{points(row['mean_diff'])} points", shown]))
        said.append(
            f"{best.method} against {row['reference']}: {difference}, {counted(row['n'], 'patient')}, "
            f"p {p if p.startswith('<') else f'= {p}'} after Holm; {_sensitivity(row['detectable'])}."
        )
    return said


def _sensitivity(detectable: float) -> str:
    if detectable > 1:
        return "too few patients to detect any difference that this metric can show"
    return f"a sample of this size and spread detects {percent(detectable)} points and more"
