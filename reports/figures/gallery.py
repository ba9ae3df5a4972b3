"""Pictures of slices: input, map, truth and prediction of the worst, median and best patient; what methods train on."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import UasbenchError
from .panels import Slice, compose
from .style import new_figure, save, style

NAMES = ("best", "median", "worst")
LOW, HIGH = 1.0, 99.5
LABEL = 14
PREVIEW_ROWS, PREVIEW_INCHES = 4, 2.4

CAPTION = (
    "Slice with most lesion of the best, median and worst patient by Dice. Input: window as stored by the scorer, the "
    f"same for all methods. Map: colours run from the {LOW:g} % to the {HIGH:g} % quantile of the cell's scores "
    "inside the region of interest, over the slices shown; outside it is black, and a constant map is one colour. "
    "Right: truth (blue) and prediction (orange) at the threshold named. Slices are cropped to the region of interest."
)


class GalleryError(UasbenchError):
    """A gallery file cannot be read."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """The pictured slices of a cell by name, and what the file says of the cell."""

    slices: dict[str, Slice]
    about: dict[str, Any] = field(default_factory=dict)

    def named(self, *starts: str) -> list[Slice]:
        """Return the slices of these names, and those whose names are these and a number, in that order."""
        names = [n for start in starts for n in sorted(self.slices) if n.rpartition("-")[0] == start or n == start]
        return [self.slices[name] for name in names]


def quantiles(slices: Sequence[Slice]) -> tuple[float, float]:
    """Return the 1 % and the 99.5 % quantile of the scores inside the regions of interest; 0 and 1 without any."""
    scores = np.concatenate([np.empty(0), *(s.map[s.roi & np.isfinite(s.map)] for s in slices)])
    if not scores.size:
        return 0.0, 1.0
    low, high = np.percentile(scores, [LOW, HIGH])
    return float(low), float(high)


def read_gallery(path: Path) -> Gallery:
    """Read ``gallery.npz`` as the scorer writes it: ``<name>/image`` … for every picture, and ``meta``.

    Raises:
        GalleryError: the file is damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            metas = json.loads(str(stored["meta"]))
            names = [name for name in stored.files if name.endswith("/image")]
            found = {
                name: Slice(
                    image=stored[f"{name}/image"].astype(np.uint8),
                    map=stored[f"{name}/map"].astype(np.float32),
                    **{part: stored[f"{name}/{part}"].astype(bool) for part in ("roi", "truth", "prediction")},
                    meta={"which": name, **metas[name]},
                    restored={
                        title: stored[f"{name}/restored/{number}"].astype(np.float32)
                        for number, title in enumerate(metas[name].get("restored", []))
                    },
                )
                for name in (name.removesuffix("/image") for name in names)
            }
            return Gallery(found, {key: value for key, value in metas.items() if key not in found})
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise GalleryError(f"{path} cannot be read ({error}): 'bench rescore' writes it again") from error


def gallery_figure(slices: Sequence[Slice], title: str, path: Path) -> Path:
    """Draw one row per slice: input, map, contours of truth and prediction."""
    low, high = quantiles(slices)
    rows = [(label_of(one.meta), [one.input(), one.scores(low, high), one.contours()]) for one in slices]
    return compose(title, ("input", "anomaly map", "truth (blue), prediction (orange)"), rows, path)


def label_of(meta: Mapping[str, Any]) -> str:
    """Return what stands beside a row: which slice it is, whose, its Dice and the threshold."""
    dice = meta.get("dice")
    lines = [str(meta.get("which", "")), shortened_patient(meta)]
    if isinstance(dice, (int, float)):
        lines.append(f"Dice {100 * dice:.1f} %")
    threshold = meta.get("threshold")
    where = f"{threshold:.4g}" if isinstance(threshold, (int, float)) else "mask"
    lines += [str(meta.get("protocol", "")), f"threshold {where}"]
    return "\n".join(filter(None, lines))


def shortened_patient(meta: Mapping[str, Any]) -> str:
    """Return the patient's name, cut in the middle where it is too long for a row: numbers stand at the end."""
    patient = str(meta.get("patient", "?"))
    return patient if len(patient) <= LABEL else f"{patient[: LABEL // 2 - 1]}…{patient[-(LABEL // 2) :]}"


def draw_preview(title: str, pictures: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw the first examples, one row each, from float arrays (n, H, W) in [0, 1] by column title."""
    rows = min(PREVIEW_ROWS, *(len(images) for images in pictures.values()))
    with style():
        figure = new_figure(PREVIEW_INCHES * len(pictures), PREVIEW_INCHES * rows + 0.6)
        axes = figure.subplots(rows, len(pictures), squeeze=False)
        for column, (name, images) in enumerate(pictures.items()):
            axes[0, column].set_title(name)
            for row in range(rows):
                axes[row, column].imshow(images[row], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axes[row, column].set_axis_off()
        figure.suptitle(title, x=0.01, ha="left")
        return save(figure, path)
