"""What SAM has brought on the test set: rows ``METHOD+PROMPT`` less the masks that they start from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from ..benchmark.protocols.catalogue import NATIVE, REFINED
from ..benchmark.refinement.prompts import base_of
from ..benchmark.scores import Scores
from .columns import ORDER, Facts, MethodOnData, flag_set, kind_marks, kind_sentences, records_of
from .formats import NOT_AVAILABLE, bracket, p_value, percent, points, stars
from .gain import Change, by_method, changed
from .grid import PrintedRow, PrintedTable
from .headline import Headline
from .legends import family

REFINED_GAIN = [
    "method", "dataset", "train", "protocol", "metric", "unit", "without", "refined", "n", "mean_diff", "crossed_low",
    "crossed_high", "p_crossed", "p_holm_crossed", "n_family", "flags", "reason",
]  # fmt: skip


def refined_gain(scores: Sequence[Scores], facts: Mapping[MethodOnData, Facts]) -> pd.DataFrame:
    """Return one row per refined row, metric and unit, its masks less those of the row that it refines; maybe none.

    The masks before are those above the threshold that refining starts from, so that SAM is all that differs. Test,
    interval and correction are those of :func:`.gain.changed`, over all refined rows.
    """
    rows = by_method(scores)
    changes = []
    for label in sorted(rows):
        before = rows.get(base_of(label) or "")
        if before is None:
            continue
        masks = [one for one in rows[label].values() if one.key.protocol == NATIVE]
        plain = [one for one in before.values() if one.key.protocol == REFINED.id]
        changes.append(Change(label, [replace(one, key=one.key._replace(protocol=NATIVE)) for one in plain], masks))
    return changed(changes, facts, REFINED_GAIN, ORDER["refined"])


def refined_grid(gain: pd.DataFrame, headline: Headline) -> PrintedTable | None:
    """Return what SAM has brought in Dice on the data of a headline table; None without refined rows."""
    rows = records_of(gain, dataset=headline.dataset, train=headline.train, metric="dice", unit="patient")
    if not rows:
        return None
    body = []
    for r in rows:
        interval = bracket(r["crossed_low"], r["crossed_high"], signed=True) or NOT_AVAILABLE
        cells = (
            f"{r['method']} {kind_marks(flag_set(r['flags']))}".rstrip(), str(r["n"]), percent(r["without"]),
            percent(r["refined"]), points(r["mean_diff"]), interval, p_value(r["p_crossed"]),
            p_value(r["p_holm_crossed"]) + stars(r["p_holm_crossed"]),
        )  # fmt: skip
        body.append(PrintedRow(cells, hints=(r["reason"], *[""] * (len(cells) - 1))))
    headers = ("Method", "n", f"Dice {REFINED.id}", "Dice with SAM", "Difference", "95 % interval", "p", "p (Holm)")
    legend = (
        f"Difference = Dice of METHOD+PROMPT less that of METHOD under {REFINED.id}, whose masks it starts from, in "
        "percentage points, over the patients that both have; crossed test, for which patients and seeds are random, "
        f"and Holm's correction over the refined rows: {family(rows) or 'no row'}. Where "
        "+sam-centre or +sam-random, whose points do not come from the map, gain as much as +sam, SAM has gained it.",
        *kind_sentences(flag_set(r["flags"]) for r in rows),
        *filter(None, [headline.missing]),
    )
    return PrintedTable("What SAM has brought", headers, tuple(body), legend, left=1)
