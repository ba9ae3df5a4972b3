"""Pictures of one slice, and their table: composed from pixels, because Matplotlib takes a second per cell."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.atomic import write_file
from ...common.boxes import bounds
from .style import INK, MUTED, PREDICTION, TRUTH

MARGIN = 6
PANEL = 236
FOUND = "#009e73"
_LEFT, _TOP, _GAP = 122, 54, 6


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of a patient: image and masks (y, x), what the method made of it by title, what ``meta`` tells."""

    image: NDArray[np.uint8]
    roi: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    map: NDArray[np.float32]
    prediction: NDArray[np.bool_]
    meta: dict[str, Any]
    restored: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def box(self) -> tuple[slice, ...]:
        """The rows and columns that are shown: those of the region of interest and the truth."""
        shown = self.roi | self.truth
        if not shown.any():
            return slice(None), slice(None)
        return tuple(slice(max(0, start - MARGIN), stop + MARGIN) for start, stop in bounds(shown))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a panel in pixels."""
        rows, columns = self.image[self.box].shape
        scale = PANEL / max(rows, columns)
        return max(1, round(columns * scale)), max(1, round(rows * scale))

    def input(self) -> Any:
        """Return the image as the scorer stored it."""
        return self._grey(self.image)

    def made(self, title: str) -> Any | None:
        """Return what the method made of it under a title, 0 black and 1 white, or None where there is no such."""
        if title not in self.restored:
            return None
        return self._grey(np.rint(255 * np.clip(np.nan_to_num(self.restored[title]), 0, 1)).astype(np.uint8))

    def scores(self, low: float, high: float) -> Any:
        """Return the map in colours from ``low`` to ``high``, one colour where these are equal."""
        from matplotlib import colormaps
        from PIL import Image

        map_, roi = self.map[self.box], self.roi[self.box]
        level = np.clip((map_ - low) / (high - low), 0, 1) if high > low else np.full(map_.shape, 0.5)
        coloured = np.where(roi[..., None], colormaps["magma"](np.nan_to_num(level), bytes=True)[..., :3], 0)
        return Image.fromarray(coloured.astype(np.uint8)).resize(self.size, Image.Resampling.NEAREST)

    def contours(self) -> Any:
        """Return the image with the outlines of prediction and truth."""
        drawn = np.array(self.input())
        for mask, colour in ((self.prediction, PREDICTION), (self.truth, TRUTH)):
            drawn[outline(self._large(mask))] = _rgb(colour)
        return _image(drawn)

    def outcome(self) -> Any:
        """Return the image with what was found, missed and marked in error."""
        drawn = np.array(self.input())
        hit = self.truth & self.prediction
        for mask, colour in (
            (hit, FOUND),
            (self.truth & ~self.prediction, TRUTH),
            (self.prediction & ~self.truth, PREDICTION),
        ):
            drawn[self._large(mask)] = _rgb(colour)
        return _image(drawn)

    def _grey(self, pixels: NDArray[np.uint8]) -> Any:
        from PIL import Image

        return Image.fromarray(pixels[self.box]).resize(self.size, Image.Resampling.BILINEAR).convert("RGB")

    def _large(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        from PIL import Image

        small = Image.fromarray(mask[self.box].astype(np.uint8))
        return np.array(small.resize(self.size, Image.Resampling.NEAREST)).astype(bool)


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the two outermost pixels of a mask."""
    from scipy.ndimage import binary_erosion

    return mask & ~np.asarray(binary_erosion(mask, iterations=2), bool)


def compose(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Any | None]]], path: Path) -> Path:
    """Write a table of panels: a label and one image per column in each row; where there is none it stays white.

    The column of labels is as wide as its longest line.
    """
    from PIL import Image, ImageDraw

    left = max([_LEFT, *(math.ceil(_font(13).getlength(line)) + 16 for text, _ in rows for line in text.split("\n"))])
    size = (left + max(3, len(columns)) * (PANEL + _GAP), _TOP + len(rows) * (PANEL + _GAP))
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((8, 8), title, fill=INK, font=_font(15))
    for column, name in enumerate(columns):
        pen.text((left + column * (PANEL + _GAP), _TOP - 19), name, fill=MUTED, font=_font(13))
    for row, (label, panels) in enumerate(rows):
        y = _TOP + row * (PANEL + _GAP)
        pen.multiline_text((8, y + 4), label, fill=INK, font=_font(13), spacing=4)
        for column, panel in enumerate(panels):
            if panel is None:
                continue
            x = left + column * (PANEL + _GAP)
            canvas.paste(Image.new("RGB", (PANEL, PANEL), "black"), (x, y))
            canvas.paste(panel, (x + (PANEL - panel.width) // 2, y + (PANEL - panel.height) // 2))
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    return write_file(path, buffer.getvalue())


def _image(pixels: NDArray[np.uint8]) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


@cache
def _font(size: int) -> Any:
    import matplotlib as mpl
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
