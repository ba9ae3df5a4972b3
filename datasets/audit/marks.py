"""Marks of a scan that survive cutting, turning and renumbering: scans that share some hold the same voxels."""

import numpy as np

_EVERY = np.uint64(512)
_REACH = 5
_FIELD = (-150, 350)


def marks(image: np.ndarray) -> np.ndarray:
    """Return hashes of some 5×5 neighbourhoods within slices, ascending uint64, for an image in HU (z, y, x).

    A neighbourhood's hash does not depend on the order of its 25 values, so that slices may be flipped, transposed,
    cut or stored in another order; about one in 512 hashes is kept, by its value, so that two copies keep the same
    ones. Only neighbourhoods with all their values between -150 and 350 HU count, of which ten or more differ: the
    noise of CT makes each of them one of a kind. Resampling and averaging change all of them.
    """
    found = [_of_slice(np.rint(page).astype(np.int64)) for page in image if min(page.shape) >= _REACH]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


def shared(a: np.ndarray, b: np.ndarray) -> tuple[int, float]:
    """Return how many marks two scans share, and their share of the scan that has fewer; 0 where one has none."""
    count = len(np.intersect1d(a, b, assume_unique=True))
    return count, count / max(1, min(len(a), len(b)))


def _of_slice(page: np.ndarray) -> np.ndarray:
    within = (page >= _FIELD[0]) & (page <= _FIELD[1])
    counts = _boxes(within.astype(np.uint64))
    sums = _mixed(_boxes(_mixed(page.view(np.uint64))))
    rows, columns = np.nonzero((counts == _REACH**2) & (sums % _EVERY == 0))
    around = np.lib.stride_tricks.sliding_window_view(page, (_REACH, _REACH))[rows, columns]
    ordered = np.sort(around.reshape(len(rows), _REACH**2), axis=1)
    lively = (np.diff(ordered, axis=1) > 0).sum(axis=1) >= 9
    return sums[rows[lively], columns[lively]]


def _boxes(values: np.ndarray) -> np.ndarray:
    """Return the sums over all boxes of 5×5, modulo 2⁶⁴."""
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.uint64)
    total[1:, 1:] = values.cumsum(axis=0, dtype=np.uint64).cumsum(axis=1, dtype=np.uint64)
    n = _REACH
    return total[n:, n:] - total[:-n, n:] - total[n:, :-n] + total[:-n, :-n]


def _mixed(values: np.ndarray) -> np.ndarray:
    """Scatter the bits of each value (Steele, Lea & Flood 2014, SplitMix64)."""
    with np.errstate(over="ignore"):
        out = values + np.uint64(0x9E3779B97F4A7C15)
        out = (out ^ (out >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        out = (out ^ (out >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return out ^ (out >> np.uint64(31))
