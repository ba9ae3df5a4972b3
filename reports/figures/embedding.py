"""The layout of healthy, lesion, synthetic and training patches as points."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .style import MUTED, new_figure, save, style

EMBEDDING_CAPTION = (
    "Grey values of patches of the slices that the method looks at, laid out by t-SNE: around a random pixel of the "
    "organ in slices without a lesion, of the test set (healthy) and of the healthy set that is learned from "
    "(training), around the inmost pixel of a lesion, and of a synthetic lesion, which is put into a training slice. "
    "Distances between groups mean little in such a layout; the table counts neighbours before it."
)
_LOOKS = {
    "healthy": ("#7b8794", "o"),
    "lesion": ("#0072b2", "^"),
    "synthetic": ("#d55e00", "s"),
    "training": ("#009e73", "D"),
}


def embedding_figure(places: Mapping[str, Any], title: str, path: Path) -> Path:
    """Draw the places (n, 2) of each kind."""
    with style():
        figure = new_figure(5.4, 5.0)
        axes = figure.subplots()
        for kind, found in places.items():
            colour, marker = _LOOKS[kind]
            x, y = np.asarray(found).T
            axes.scatter(x, y, s=14, c=colour, marker=marker, alpha=0.75, linewidths=0, label=f"{kind} ({len(found)})")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.02), ncols=2, labelcolor=MUTED)
        axes.set_title(title)
        return save(figure, path)
