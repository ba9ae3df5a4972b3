"""Which lung mask a case gets: the one given, the lungmask network's, or the classical segmentation's."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...common.errors import DataError
from ..case import Note, Spacing, warning
from . import lungmask_model
from .lungs import segment_lungs

MASK_FILE, LUNGMASK, CLASSICAL = "mask file", "lungmask R231", "classical segmentation"
MIN_LITRES = 0.5
MIN_SHARE = 0.1
"""A scan too small to hold 0.5 l of lung, such as a crop, must have lung in at least this share of its volume."""


def lung_roi(
    case_id: str,
    image: np.ndarray,
    spacing: Spacing,
    mask: np.ndarray | None = None,
    *,
    notes: Iterable[Note] = (),
    mask_source: str = MASK_FILE,
    image_file: Path | None = None,
    mask_file: Path | None = None,
) -> tuple[np.ndarray, str, tuple[Note, ...]]:
    """Return the lungs, how they were found, and the notes with what a reader should know added (docs/datasets.md).

    A given mask is kept where it holds at least 0.5 l (in a crop: a tenth of the scan). Otherwise the lungmask network
    segments the lungs where its weights lie on this machine, else the classical segmentation does; no network is
    ever downloaded. Only the image (HU, z y x, LPS) and the mask are read, never a lesion; spacing in mm (z, y, x).
    The result begins with ``notes``; a given mask that is kept is called ``mask_source``.

    Raises:
        DataError: mask and image differ in shape, or less lung is found than a chest holds.
    """
    found, least = list(notes), min(MIN_LITRES, MIN_SHARE * image.size * math.prod(spacing) / 1e6)
    expected = f"expected at least {least:.2g} l"
    name = f"case {case_id}" if image_file is None else str(image_file)
    if mask is not None:
        if mask.shape != image.shape:
            raise DataError(
                f"{mask_file or name}: lung mask of shape {mask.shape}, image of shape {image.shape}; "
                "pair the mask with its own image, or remove the mask to have the lungs segmented"
            )
        mask = np.ascontiguousarray(mask, dtype=bool)
        if litres(mask, spacing) >= least:
            return mask, mask_source, tuple(found)
        found.append(warning(f"the lung mask is {_size(mask, spacing)}, {expected}: replaced"))
    reason = lungmask_model.available()
    if reason is None:
        roi, source = lungmask_model.segment(image, spacing), LUNGMASK
        found.append(Note(f"lungs by the lungmask network (R231){', for want of a mask file' if mask is None else ''}"))
    else:
        roi, source = segment_lungs(image, spacing), CLASSICAL
        text = "lungs by classical segmentation, which may leave out consolidation at the pleura"
        found.append(warning(f"{text} (lungmask: {reason})"))
    if litres(roi, spacing) < least:
        given = "no lung mask" if mask is None else f"the lung mask is {_size(mask, spacing)}"
        raise DataError(
            f"{name}: {given}, and what {source} finds is {_size(roi, spacing)}, {expected}; "
            f"provide a lung mask file or leave {case_id} out with --exclude"
        )
    return roi, source, tuple(found)


def litres(mask: np.ndarray, spacing: Spacing) -> float:
    """Return the volume of ``mask`` (z, y, x) in litres; ``spacing`` in mm."""
    return int(np.count_nonzero(mask)) * math.prod(spacing) / 1e6


def _size(mask: np.ndarray, spacing: Spacing) -> str:
    return f"{litres(mask, spacing):.2g} l" if mask.any() else "empty"
