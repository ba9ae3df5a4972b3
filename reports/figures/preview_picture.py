"""A picture of what methods train on: healthy, synthetic and target side by side."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .style import new_figure, save, style

ROWS, INCHES = 4, 2.4


def draw_preview(title: str, pictures: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw the first examples, one row each, from float arrays (n, H, W) in [0, 1] by column title."""
    rows = min(ROWS, *(len(images) for images in pictures.values()))
    with style():
        figure = new_figure(INCHES * len(pictures), INCHES * rows + 0.6)
        axes = figure.subplots(rows, len(pictures), squeeze=False)
        for column, (name, images) in enumerate(pictures.items()):
            axes[0, column].set_title(name)
            for row in range(rows):
                axes[row, column].imshow(images[row], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axes[row, column].set_axis_off()
        figure.suptitle(title, x=0.01, ha="left")
        return save(figure, path)
