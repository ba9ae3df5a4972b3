"""Pictures of slices: input, map, truth and prediction of the worst, median and best patient; what methods train on."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.atomic import write_file
from ...common.boxes import bounds
from ...common.errors import UasbenchError
from .style import INK, MUTED, PREDICTION, TRUTH, new_figure, save, style

NAMES = ("best", "median", "worst")
LOW, HIGH = 1.0, 99.5
MARGIN = 6
PANEL = 236
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


@dataclass(frozen=True)
class GalleryEntry:
    """One slice of one patient; ``meta`` says which (best, median or worst), case, z, dice, protocol, threshold."""

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
            return [
                GalleryEntry(
                    image=stored[f"{name}/image"].astype(np.uint8),
                    map=stored[f"{name}/map"].astype(np.float32),
                    **{part: stored[f"{name}/{part}"].astype(bool) for part in ("roi", "truth", "prediction")},
                    meta={"which": name, **metas[name]},
                )
                for name in NAMES
                if name in metas
            ]
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise GalleryError(f"{path} cannot be read ({error}): 'bench rescore' writes it again") from error


def gallery_figure(entries: Sequence[GalleryEntry], title: str, path: Path) -> Path:
    """Draw one row per entry: input, map, contours of truth and prediction.

    Composed from pixels, because Matplotlib takes a second per cell.
    """
    from PIL import Image, ImageDraw

    scores = np.concatenate([e.map[e.roi & np.isfinite(e.map)] for e in entries])
    low, high = np.percentile(scores, [LOW, HIGH]) if scores.size else (0.0, 1.0)
    left, top, gap = 122, 54, 6
    size = (left + 3 * (PANEL + gap), top + len(entries) * (PANEL + gap))
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((8, 8), title, fill=INK, font=_font(15))
    for column, name in enumerate(("input", "anomaly map", "truth (blue), prediction (orange)")):
        pen.text((left + column * (PANEL + gap), top - 19), name, fill=MUTED, font=_font(13))
    for row, entry in enumerate(entries):
        y = top + row * (PANEL + gap)
        pen.multiline_text((8, y + 4), _label(entry.meta), fill=INK, font=_font(13), spacing=4)
        for column, panel in enumerate(_panels(entry, float(low), float(high))):
            x = left + column * (PANEL + gap)
            canvas.paste(Image.new("RGB", (PANEL, PANEL), "black"), (x, y))
            offset = (x + (PANEL - panel.width) // 2, y + (PANEL - panel.height) // 2)
            canvas.paste(panel, offset)
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    return write_file(path, buffer.getvalue())


def _panels(entry: GalleryEntry, low: float, high: float) -> list[Any]:
    from matplotlib import colormaps
    from PIL import Image

    crop, shown = (slice(None), slice(None)), entry.roi | entry.truth
    if shown.any():
        crop = tuple(slice(max(0, start - MARGIN), stop + MARGIN) for start, stop in bounds(shown))
    rows, columns = entry.image[crop].shape
    scale = PANEL / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    grey = Image.fromarray(entry.image[crop]).resize(size, Image.Resampling.BILINEAR).convert("RGB")
    level = np.full(entry.map[crop].shape, 0.5)
    if high > low:
        level = np.clip((entry.map[crop] - low) / (high - low), 0, 1)
    coloured = np.where(entry.roi[crop][..., None], colormaps["magma"](np.nan_to_num(level), bytes=True)[..., :3], 0)
    scored = Image.fromarray(coloured.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    outlined = np.array(grey)
    for mask, colour in ((entry.prediction[crop], PREDICTION), (entry.truth[crop], TRUTH)):
        large = np.array(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)).astype(bool)
        outlined[outline(large)] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return [grey, scored, Image.fromarray(outlined)]


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the two outermost pixels of a mask."""
    from scipy.ndimage import binary_erosion

    return mask & ~np.asarray(binary_erosion(mask, iterations=2), bool)


@cache
def _font(size: int) -> Any:
    import matplotlib as mpl
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _label(meta: dict[str, Any]) -> str:
    dice = meta.get("dice")
    patient = str(meta.get("patient", "?"))
    lines = [str(meta.get("which", "")), patient if len(patient) <= LABEL else f"{patient[: LABEL - 1]}…"]
    if isinstance(dice, (int, float)):
        lines.append(f"Dice {100 * dice:.1f} %")
    threshold = meta.get("threshold")
    where = f"{threshold:.4g}" if isinstance(threshold, (int, float)) else "mask"
    lines += [str(meta.get("protocol", "")), f"threshold {where}"]
    return "\n".join(filter(None, lines))


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
