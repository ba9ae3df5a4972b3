"""Coloured cells as vector graphics: one outline per colour, however many cells it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def mosaic(axes: Axes, codes: np.ndarray, colours: Sequence[str]) -> None:
    """Fill cell (row, column) with ``colours[code]``, row 0 at the top; cells with a negative code stay empty.

    ``codes`` is an integer array (rows, columns); neighbours of one colour become one outline.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    rows, columns = codes.shape
    ends = np.pad(codes, ((0, 0), (0, 1)), constant_values=-2)
    for code, colour in enumerate(colours):
        corners = []
        for row in range(rows):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], ends[row] == code]).astype(int)))
            for left, right in edges.reshape(-1, 2):
                a, b, top, bottom = left - 0.5, right - 0.5, row - 0.5, row + 0.5
                corners += [(a, top), (b, top), (b, bottom), (a, bottom), (a, top)]
        if corners:
            kinds = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(corners) // 5)
            axes.add_patch(PathPatch(Path(corners, kinds), facecolor=colour, edgecolor=colour, linewidth=0.3))
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
