"""How the slices of a scan look whatever their resolution and place: scans that agree show the same body."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..case import Spacing

STEP_MM = (3.0, 4.0, 4.0)
_SIDE = 128
_KEPT = 31
_WINDOW = (-200.0, 300.0)
FEWEST = 8
"""Steps that two scans must have in common, 24 mm, or all of a shorter one."""


def spectra(image: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return one row per 3 mm of a scan: the log magnitudes of its slice's spatial frequencies, float32.

    ``image`` is in HU (z, y, x), ``spacing`` in mm. Slices are brought to pixels of 4 mm and what varies over more than
    16 mm is removed; magnitudes do not change with the place of the body in the slice.
    """
    pages = _coarse(np.clip(image, *_WINDOW).astype(np.float32), spacing)
    pages = ndimage.gaussian_filter(pages, (0, 1, 1)) - ndimage.gaussian_filter(pages, (0, 4, 4))
    canvas = np.zeros((len(pages), _SIDE, _SIDE), np.float32)
    rows, columns = min(_SIDE, pages.shape[1]), min(_SIDE, pages.shape[2])
    canvas[:, :rows, :columns] = pages[:, :rows, :columns]
    size = np.abs(np.fft.rfft2(canvas))[:, :, : _KEPT + 1]
    kept = np.concatenate([size[:, : _KEPT + 1], size[:, -_KEPT:]], axis=1)
    return np.log1p(kept).reshape(len(kept), -1).astype(np.float32)


def comparable(scans: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the rows of all scans as unit vectors, less what slices of all scans have in common."""
    everyone = np.concatenate(list(scans))
    mean, spread = everyone.mean(axis=0), everyone.std(axis=0) + 1e-6
    centred = [(scan - mean) / spread for scan in scans]
    return [scan / np.maximum(np.linalg.norm(scan, axis=1, keepdims=True), 1e-6) for scan in centred]


def likeness(a: np.ndarray, a_mirrored: np.ndarray, b: np.ndarray) -> float:
    """Return the highest mean cosine of rows along a common stretch of two scans, either way up, flipped or not.

    Args:
        a, b: rows of :func:`comparable`.
        a_mirrored: those of ``a`` by :func:`mirrored`, which a caller keeps for all of its pairs.
    """
    tables = [rows @ b.T for rows in (a, a_mirrored)]
    return max(_longest_agreement(table) for both in tables for table in (both, both[:, ::-1]))


def mirrored(rows: np.ndarray) -> np.ndarray:
    """Return the rows as they are of slices whose columns are reversed."""
    table = rows.reshape(len(rows), 2 * _KEPT + 1, _KEPT + 1)
    return np.ascontiguousarray(np.concatenate([table[:, :1], table[:, :0:-1]], axis=1)).reshape(rows.shape)


def _longest_agreement(cosines: np.ndarray) -> float:
    rows, columns = cosines.shape
    offset = (np.arange(columns) - np.arange(rows)[:, None] + rows - 1).ravel()
    counts = np.bincount(offset)
    means = np.bincount(offset, weights=cosines.ravel()) / counts
    return float(means[counts >= min(FEWEST, rows, columns)].max())


def _coarse(image: np.ndarray, spacing: Spacing) -> np.ndarray:
    sizes = [max(1, round(n * mm / step)) for n, mm, step in zip(image.shape, spacing, STEP_MM, strict=True)]
    blur = [0.4 * step / mm if step > mm else 0.0 for mm, step in zip(spacing, STEP_MM, strict=True)]
    places = [(np.arange(size) + 0.5) * step / mm - 0.5 for size, mm, step in zip(sizes, spacing, STEP_MM, strict=True)]
    smooth = ndimage.gaussian_filter(image, blur)
    return ndimage.map_coordinates(smooth, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
