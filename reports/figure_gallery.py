"""Overlays: input, anomaly map, and truth against prediction for the worst, median and best patient of a cell."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import UasbenchError
from .figure_style import MUTED, PREDICTION, TRUTH, new_figure, save, style

NAMES = ("best", "median", "worst")
LOW, HIGH = 1.0, 99.5
MARGIN = 6

CAPTION = (
    "Slice with most lesion of the best, median and worst patient by Dice. Input: window as stored by the scorer, the "
    f"same for all methods. Map: colours run from the {LOW:g}th to the {HIGH:g}th percentile of the cell's scores "
    "inside the region of interest, over the slices shown; outside it is black. Right: truth (blue) and prediction "
    "(orange) at the threshold named. Slices are cropped to the region of interest."
)


class GalleryError(UasbenchError):
    """A gallery file cannot be read."""


@dataclass(frozen=True)
class GalleryEntry:
    """One slice of one patient; arrays of shape (rows, columns).

    Attributes:
        meta: which (best, median or worst), case, patient, z, dice, protocol, threshold.
    """

    image: NDArray[np.uint8]
    roi: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    map: NDArray[np.float32]
    prediction: NDArray[np.bool_]
    meta: dict[str, Any]


def read_gallery(path: Path) -> list[GalleryEntry]:
    """Read ``gallery.npz`` as the scorer writes it: ``<name>/image`` … for best, median and worst, and ``meta``.

    Raises:
        GalleryError: the file is damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            metas = json.loads(str(stored["meta"]))
            return [_entry(stored, name, metas[name]) for name in NAMES if name in metas]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise GalleryError(f"{path} cannot be read ({error}): 'bench rescore' writes it again") from error


def _entry(stored: Any, name: str, meta: dict[str, Any]) -> GalleryEntry:
    return GalleryEntry(
        image=stored[f"{name}/image"].astype(np.uint8),
        roi=stored[f"{name}/roi"].astype(bool),
        truth=stored[f"{name}/truth"].astype(bool),
        map=stored[f"{name}/map"].astype(np.float32),
        prediction=stored[f"{name}/prediction"].astype(bool),
        meta={"which": name, **meta},
    )


def gallery_figure(entries: list[GalleryEntry], title: str, path: Path) -> Path:
    """Draw one row per entry: input, map, contours of truth and prediction."""
    scores = np.concatenate([e.map[e.roi & np.isfinite(e.map)] for e in entries])
    low, high = np.percentile(scores, [LOW, HIGH]) if scores.size else (0.0, 1.0)
    with style():
        height = 0.55 + 2.05 * len(entries)
        figure = new_figure(7.2, height, layout=None)
        figure.subplots_adjust(0.1, 0.01, 0.995, 1 - 0.52 / height, 0.02, 0.03)
        panels = figure.subplots(len(entries), 3, squeeze=False)
        for row, entry in zip(panels, entries, strict=True):
            crop = _crop(entry.roi | entry.truth)
            image, scored = entry.image[crop], np.where(entry.roi, entry.map, np.nan)[crop]
            row[0].imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            row[1].set_facecolor("black")
            row[1].imshow(scored, cmap="magma", vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest")
            row[2].imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            for mask, colour in ((entry.truth[crop], TRUTH), (entry.prediction[crop], PREDICTION)):
                if mask.any():
                    row[2].contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.3)
            for axes in row:
                axes.set_xticks([])
                axes.set_yticks([])
                for side in axes.spines.values():
                    side.set_visible(False)
            row[0].set_ylabel(_label(entry.meta), fontsize=8)
        for axes, name in zip(panels[0], ("input", "anomaly map", "truth (blue), prediction (orange)"), strict=True):
            axes.set_title(name, fontsize=8.5, color=MUTED)
        figure.suptitle(title, fontsize=10, x=0.01, y=1 - 0.06 / height, ha="left", va="top")
        return save(figure, path, dpi=120)


def _crop(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    if not mask.any():
        return slice(None), slice(None)
    bounds = []
    for axis in (1, 0):
        used = np.flatnonzero(mask.any(axis=axis))
        bounds.append(slice(max(0, int(used[0]) - MARGIN), int(used[-1]) + 1 + MARGIN))
    return bounds[0], bounds[1]


def _label(meta: dict[str, Any]) -> str:
    dice = meta.get("dice")
    lines = [str(meta.get("which", "")), f"patient {meta.get('patient', '?')}"]
    if isinstance(dice, (int, float)):
        lines.append(f"Dice {100 * dice:.1f} %")
    threshold = meta.get("threshold")
    where = f"{threshold:.4g}" if isinstance(threshold, (int, float)) else "mask"
    lines.append(f"{meta.get('protocol', '')} {where}")
    return "\n".join(filter(None, lines))
