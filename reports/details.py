"""Tables beside the headline of one data set: surfaces and volumes, lesions, strata, slices and patients."""

from dataclasses import replace

import numpy as np
import pandas as pd

from ..benchmark.protocols.catalogue import PROTOCOLS, deciding
from ..benchmark.scoring.detection import CONTRAST_BINS, VOLUME_BINS
from ..benchmark.scoring.metrics import METRICS, NO_PROTOCOL, Metric
from .columns import flag_set, records_of
from .formats import bracket, number, percent
from .grid import PrintedRow, PrintedTable
from .headline import Headline
from .legends import interval_sentences, marked
from .tables import Tables

GROUPS = {
    "Surfaces and volumes": ("surfaces", "volumes"),
    "Lesions": ("lesions",),
    "Lesions by volume and contrast": ("strata",),
    "Slices and patients": ("slices", "patients"),
}
NOT_MEASURED = "not measured: the record is of an earlier version, and 'bench rescore' measures its maps again"
_UNITS = ("patient", "slice", "pooled")


def details(headline: Headline, tables: Tables) -> tuple[list[PrintedTable], list[str]]:
    """Return a table per group in which something is defined, and what else a reader should know.

    What needs a threshold is shown under one protocol: that of the headline's order, or the next best that has it.
    """
    protocol = detailed_protocol(headline)
    shown = (protocol, NO_PROTOCOL)
    part = records_of(tables.summary, dataset=headline.dataset, train=headline.train)
    rows = {(r["method"], r["metric"], r["unit"]): r for r in part if r["protocol"] in shown}
    defined = {metric for (_, metric, _), row in rows.items() if not pd.isna(row["mean"])}
    grids = []
    for title, families in GROUPS.items():
        columns = [m for m in METRICS.values() if m.family in families and m.id in defined]
        if columns:
            grid = _grid(title, protocol, columns, headline, rows)
            if "strata" in families:
                grid = replace(grid, legend=(*grid.legend, _lesions(headline, tables)))
            grids.append(grid)
    measured = {METRICS[metric].family for _, metric, _ in rows if metric in METRICS}
    return grids, [] if "surfaces" in measured else [f"Surfaces, lesions and strata were {NOT_MEASURED}."]


def detailed_protocol(headline: Headline) -> str:
    """Return the protocol of surfaces and lesions: that of the headline's order, or the next best that has them."""
    return next(id_ for id_ in (headline.verdict[0], *deciding()) if "surfaces" in PROTOCOLS[id_].needs)


def lesions_of(headline: Headline, tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Return volume in ml and contrast in units of noise of every lesion of a data set."""
    own = [r for r in tables.records if (r.cell.dataset, r.cell.train) == (headline.dataset, headline.train)]
    facts = max((r.data.facts for r in own), key=len).values()
    lesions = [(lesion, case.noise_hu) for case in facts for lesion in case.lesions or ()]
    ml = np.array([lesion.ml for lesion, _ in lesions])
    return ml, np.array([lesion.contrast_sd(noise) for lesion, noise in lesions])


def _lesions(headline: Headline, tables: Tables) -> str:
    """Say how many lesions are in each bin."""
    ml, contrast = lesions_of(headline, tables)
    bins = [(part, ml) for part in VOLUME_BINS] + [(part, contrast) for part in CONTRAST_BINS]
    return f"Lesions: {'; '.join(f'{part.title}: {int(part.holds(values).sum())}' for part, values in bins)}."


def _grid(title: str, protocol: str, columns: list[Metric], headline: Headline, rows: dict) -> PrintedTable:
    printed = []
    for method in headline.rows:
        found = [next((rows[key] for u in _UNITS if (key := (method.method, m.id, u)) in rows), None) for m in columns]
        cells = [shown_value(metric, row) for metric, row in zip(columns, found, strict=True)]
        under = [shown_interval(metric, row) for metric, row in zip(columns, found, strict=True)]
        hints = [NOT_MEASURED if row is None else row["reason"] for row in found]
        printed.append(PrintedRow((method.label, *cells), ("", *under), hints=("", *hints)))
    needs = any(rows[key]["protocol"] == protocol for key in rows if key[1] in {m.id for m in columns})
    where = f" at the {protocol} threshold" if needs else ""
    legend = (
        "Shares in percent; means over patients [95 % interval for new patients and seeds]; what is of all lesions, "
        "slices or patients is averaged over seeds [the same interval, by leaving patients out]. The documentation of "
        "metrics says what each is, and what where nothing is there or called.",
        *filter(None, [headline.missing]),
        *interval_sentences(text for row in printed for text in row.under),
        *headline.cautions,
    )
    return PrintedTable(title + where, ("Method", *(m.title for m in columns)), tuple(printed), legend)


def shown_value(metric: Metric, row: dict | None) -> str:
    """Return the mean of a row of the summary: shares in percent."""
    mean = float("nan") if row is None else float(row["mean"])
    return percent(mean) if metric.unit == "share" else number(mean)


def shown_interval(metric: Metric, row: dict | None) -> str:
    """Return the interval of a mean with its marks, empty where there is none."""
    if row is None or pd.isna(row["ci_low"]) or pd.isna(row["ci_high"]):
        return ""
    low, high = float(row["ci_low"]), float(row["ci_high"])
    plain = bracket(low, high) if metric.unit == "share" else f"[{number(low)}, {number(high)}]"
    return marked(plain, flag_set(row["flags"]))
