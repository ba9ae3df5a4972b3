"""What a change of a row has brought on the test set, patient by patient: ``METHOD@tuned`` less ``METHOD``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..benchmark.experiments import TUNED
from ..benchmark.scores import Scores
from ..benchmark.scoring.metrics import METRICS, NO_PROTOCOL
from ..benchmark.statistics import holm
from .columns import (
    GROUP,
    ORDER,
    Facts,
    MethodOnData,
    flag_set,
    flag_text,
    kind_marks,
    kind_sentences,
    metric_name,
    records_of,
    sort_rows,
)
from .formats import NOT_AVAILABLE, bracket, p_value, percent, points, stars
from .grid import PrintedRow, PrintedTable
from .headline import Headline
from .legends import families, family
from .paired import paired_tests

GAIN = [
    "method", "dataset", "train", "protocol", "metric", "unit", "default", "tuned", "n", "mean_diff", "crossed_low",
    "crossed_high", "p_crossed", "p_holm_crossed", "n_family", "flags", "reason",
]  # fmt: skip
SHOWN = (NO_PROTOCOL, "ap")


def tuned_gain(scores: Sequence[Scores], facts: Mapping[MethodOnData, Facts]) -> pd.DataFrame:
    """Return one row per method with default and tuned settings, protocol, metric and unit; none without any.

    The test and its interval are those of :func:`.paired.paired_tests`, with the method's default settings as
    reference. Holm's correction runs over the methods that were tuned, supervised top lines and others apart.
    """
    rows = by_method(scores)
    changes = [
        Change(method, rows[method].values(), rows[tuned].values())
        for method in sorted(rows)
        if (tuned := f"{method}@{TUNED}") in rows
    ]
    return changed(changes, facts, GAIN, ORDER["tuned"])


@dataclass(frozen=True)
class Change:
    """The values of a row before and after a change of it; ``method`` is what tables call the row."""

    method: str
    before: Iterable[Scores]
    after: Iterable[Scores]


def by_method(scores: Iterable[Scores]) -> dict[str, dict[tuple, Scores]]:
    """Return the scores of every row by data, protocol, metric and unit."""
    rows: dict[str, dict[tuple, Scores]] = {}
    for one in scores:
        rows.setdefault(one.key.method, {})[(*one.key[1:], one.unit)] = one
    return rows


def changed(
    changes: Iterable[Change], facts: Mapping[MethodOnData, Facts], columns: Sequence[str], order: Sequence[str]
) -> pd.DataFrame:
    """Return one row per change, data, protocol, metric and unit, corrected over the changes.

    The two columns after ``unit`` get the means before and after the change.
    """
    found = [pd.DataFrame(columns=list(columns))]
    first = list(columns).index("unit") + 1
    for change in changes:
        sides = [{(*one.key[1:], one.unit): one for one in side} for side in (change.before, change.after)]
        pair = [one for side in sides for one in side.values()]
        references = {one.key.dataset: [one.key.method] for one in sides[0].values()}
        frame = paired_tests(pair, facts, references)
        frame = frame.loc[frame["unit"] != "seed", :]
        keys = list(zip(*(frame[name] for name in GROUP), strict=True))
        # What Wilcoxon's p could reach is another question here: the families are others.
        flags = [flag_text({*flag_set(text)} - {"wilcoxon-mute"}) for text in frame["flags"]]
        frame = frame.assign(method=change.method, flags=flags)
        for name, side in zip(columns[first : first + 2], sides, strict=True):
            frame[name] = [side[key].mean for key in keys]
        found.append(frame)
    table = pd.concat([frame for frame in found if len(frame)] or found)
    family = [*(table[name] for name in GROUP), table["flags"].map(lambda flags: kind_marks(flag_set(flags)))]
    grouped = table["p_crossed"].astype(np.float64).groupby(family, sort=False)
    table["p_holm_crossed"] = grouped.transform(lambda p: holm(p.to_numpy()))
    table["n_family"] = grouped.transform("count").astype("Int64")
    return sort_rows(table.reindex(columns=list(columns)), order)


def gain_grid(gain: pd.DataFrame, headline: Headline) -> PrintedTable | None:
    """Return what tuning has brought by the metric that orders a headline table and by AP; None without any."""
    rows = [
        r for r in records_of(gain, dataset=headline.dataset, train=headline.train)
        if (r["protocol"], r["metric"]) in (headline.verdict, SHOWN) and METRICS[r["metric"]].unit == "share"
        and r["unit"] in ("slice" if headline.slices_only else "patient", "patient")
    ]  # fmt: skip
    if not rows:
        return None
    body = []
    rows.sort(key=lambda r: (np.isnan(r["mean_diff"]), -r["mean_diff"], r["method"]))
    for r in sorted(rows, key=lambda r: (r["protocol"], r["metric"]) == SHOWN):
        interval = bracket(r["crossed_low"], r["crossed_high"], signed=True) or NOT_AVAILABLE
        cells = (
            f"{r['method']} {kind_marks(flag_set(r['flags']))}".rstrip(), metric_name(r["metric"], r["protocol"]),
            str(r["n"]), percent(r["default"]), percent(r["tuned"]), points(r["mean_diff"]), interval,
            p_value(r["p_crossed"]), p_value(r["p_holm_crossed"]) + stars(r["p_holm_crossed"]),
        )  # fmt: skip
        body.append(PrintedRow(cells, hints=(r["reason"], *[""] * (len(cells) - 1))))
    headers = ("Method", "Metric", "n", "Default", "Tuned", "Difference", "95 % interval", "p", "p (Holm)")
    keys = dict.fromkeys((r["metric"], r["protocol"]) for r in rows)
    corrected = {metric_name(*key): family(r for r in rows if (r["metric"], r["protocol"]) == key) for key in keys}
    legend = (
        f"Difference = METHOD@{TUNED} − METHOD, in percentage points, over the patients that both have; crossed test, "
        "for which patients and seeds are random, and Holm's correction over what was tuned: "
        f"{families(corrected) or 'no method'}. Settings were chosen on planted lesions (docs/tuning.md).",
        *kind_sentences(flag_set(r["flags"]) for r in rows),
        *filter(None, [headline.missing]),
    )
    return PrintedTable("What tuning has brought", headers, tuple(body), legend, left=2)
