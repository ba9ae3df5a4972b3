"""One case as several methods see it, for a notebook: the same slice, row by row."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .gallery import quantiles
from .panels import Slice
from .style import MUTED, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("scan", "anomaly map", "truth (blue), prediction (orange)")
PANEL_INCHES = 2.6


def middle_slice(roi: np.ndarray, truth: np.ndarray | None, labels: np.ndarray | None) -> int:
    """Return the slice with most lesion inside the region of interest, else a labelled one, else with most of it.

    All are bool: ``roi`` and ``truth`` (z, y, x), ``labels`` (z,).
    """
    area = roi.sum(axis=(1, 2))
    lesion = np.zeros_like(area) if truth is None else (truth & roi).sum(axis=(1, 2))
    if lesion.any():
        return int(lesion.argmax())
    return int((area if labels is None or not labels.any() else area * labels).argmax())


def methods_figure(title: str, rows: Mapping[str, Slice]) -> Figure:
    """Draw one row per method: scan, map, and the outlines of truth and prediction.

    Colours of a map run over the method's own scores in that slice. The key of a row stands beside it. The figure is
    unknown to pyplot; a notebook shows it where it is the value of a cell.
    """
    with style():
        figure = new_figure(PANEL_INCHES * len(COLUMNS) + 1.2, PANEL_INCHES * len(rows) + 0.7)
        axes = figure.subplots(len(rows), len(COLUMNS), squeeze=False)
        for across, (label, one) in zip(axes, rows.items(), strict=True):
            panels = (one.input(), one.scores(*quantiles([one])), one.contours())
            for ax, panel in zip(across, panels, strict=True):
                ax.imshow(np.asarray(panel), interpolation="nearest")
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
            across[0].set_ylabel(label, rotation=0, ha="right", va="center", color=MUTED)
        for ax, name in zip(axes[0], COLUMNS, strict=True):
            ax.set_title(name, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left")
    # Without pyplot nobody has told the notebook how a figure is shown.
    setattr(figure, "_repr_png_", partial(_png, figure))  # noqa: B010
    return figure


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
