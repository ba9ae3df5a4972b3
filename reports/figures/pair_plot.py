"""Which methods are shown to differ: the crossed test of all pairs, as a table and as a map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ...benchmark.crossed import crossed_tests
from ...benchmark.scores import Scores
from ...benchmark.statistics import holm
from ..formats import STARS
from ..trivial import paired_difference
from .mosaic import mosaic
from .style import GRID, INK, MUTED, new_figure, save, style

COLUMNS = ["method", "other", "n", "mean_diff", "p_crossed", "p_holm"]
_BETTER, _WORSE = ("#9ecae1", "#4292c6", "#08519c"), ("#fdd0a2", "#fd8d3c", "#a63603")


def all_pairs(scores: Mapping[str, Scores], better: int) -> pd.DataFrame:
    """Return the crossed test of every ordered pair of methods over the patients that both have, Holm over all pairs.

    ``mean_diff`` is method − other, turned so that a gain is positive (``better`` is −1 where lower values are better).
    """
    names = [name for name, one in scores.items() if one.sample is not None]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    samples = {name: sample for name in names if (sample := scores[name].sample) is not None}
    differences = [better * paired_difference(samples[a], samples[b]) for a, b in pairs]
    found = crossed_tests(differences, *([samples[pair[i]].spread for pair in pairs] for i in range(2)))
    corrected = holm(found.p) if pairs else np.empty(0)
    rows = []
    for (a, b), d, mean, p, q in zip(pairs, differences, found.mean, found.p, corrected, strict=True):
        rows += [(a, b, len(d), mean, p, q), (b, a, len(d), -mean, p, q)]
    place = {name: i for i, name in enumerate(names)}
    rows.sort(key=lambda row: (place[row[0]], place[row[1]]))
    return pd.DataFrame(rows, columns=COLUMNS)


def pair_figure(pairs: pd.DataFrame, labels: Mapping[str, str], title: str, path: Path) -> Path:
    """Draw who is shown to be better than whom: rows against columns, methods in the order of ``pairs``."""
    names = list(dict.fromkeys(pairs["method"]))
    place, n = {name: i for i, name in enumerate(names)}, len(names)
    levels = [limit for limit, _ in reversed(STARS)]
    codes = np.full((n, n), -1)
    for row in pairs.to_dict("records"):
        reached = sum(row["p_holm"] <= limit for limit in levels)
        side = 0 if row["mean_diff"] > 0 else len(levels)
        codes[place[row["method"]], place[row["other"]]] = side + reached if reached else 0
    with style():
        from matplotlib.patches import Patch

        side = 0.16 * n if n > 12 else 0.24 * n
        figure = new_figure(max(5.6, 2.4 + side), 1.3 + side)
        axes = figure.add_subplot()
        mosaic(axes, codes, (GRID, *_BETTER, *_WORSE))
        axes.set_aspect("equal")
        every = 1 if n <= 30 else 5
        numbers = [str(i + 1) if i == 0 or (i + 1) % every == 0 else "" for i in range(n)]
        axes.set_yticks(range(n), [f"{labels[name]}  {i + 1}" for i, name in enumerate(names)], fontsize=7)
        axes.set_xticks(range(n), numbers, fontsize=6.5)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, colors=INK)
        axes.set_title(title)
        told = [f"{word}, p ≤ {limit:g}" for word in ("better", "worse") for limit in levels]
        handles = [Patch(color=c, label=text) for c, text in zip((*_BETTER, *_WORSE), told, strict=True)]
        handles.append(Patch(color=GRID, label="not shown to differ"))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=3 if side < 5 else 4, fontsize=7, labelcolor=INK,
            title="row against column, after Holm", title_fontsize=7.5,
        ).get_title().set_color(MUTED)  # fmt: skip
        return save(figure, path)
