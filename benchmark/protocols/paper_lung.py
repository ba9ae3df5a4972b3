"""The lung paper's threshold for its baselines: greedy search to two decimals on test labels (docs/protocols.md)."""

import numpy as np

from ..runs.records import Threshold
from ..scoring.bins import keys_of
from ..scoring.ranking_metrics import Curves
from .evidence import NO_LESIONS, Evidence
from .tuning import PLAIN, Objective

LEVELS = 101
TAIL = 1e-4


def paper_lung(protocol: str, evidence: Evidence) -> tuple[list[Threshold], float]:
    """Return the threshold of the best mean Dice over volumes, and how far the bins may be off that value.

    The levels 0.00 … 1.00 are the scores themselves where the maps lie in [0, 1]; elsewhere they run linearly over the
    range of the cell's scores without the lowest and the highest 1/10,000 of them. Yao et al. 2021, §IV-C.
    """
    patients = evidence.patients
    asked = Threshold(protocol=protocol, threshold=None, patients=patients)
    if not evidence.curves.positives:
        return [asked.model_copy(update={"reason": NO_LESIONS})], 0.0
    low, high = score_range(evidence.curves)
    levels = low + np.arange(LEVELS) / (LEVELS - 1) * (high - low)
    dice, doubt, shares = _over_volumes(evidence, levels)
    tried = greedy(dice)
    keys = keys_of(levels[tried].astype(np.float32))
    none = np.zeros(len(keys) - 1, np.int64)
    between = Curves(lower=keys[:-1] + 1, upper=keys[1:], negative=none, positive=none)
    bound = float(doubt[tried].max())
    asked = asked.model_copy(update={"tuned_on": patients})
    found = evidence.studies.search(asked, {PLAIN: Objective(between, shares[tried], dice[tried], bound)})
    level = tried[int(np.searchsorted(keys, keys_of(np.array([found.threshold], np.float32))[0]))]
    return [found.model_copy(update={"threshold": float(levels[level])})], bound


def score_range(curves: Curves) -> tuple[float, float]:
    """Return the scores at levels 0 and 1, from pooled counts of at least one voxel."""
    zero, one = keys_of(np.array([0, 1], np.float32))
    if zero <= curves.lower[0] and curves.lower[-1] <= one:
        return 0.0, 1.0
    return curves.threshold(curves.cut_at(TAIL)), curves.threshold(curves.cut_at(1 - TAIL))


def greedy(values: np.ndarray) -> np.ndarray:
    """Return the levels (ascending) that a search visits: all tenths, then the hundredths around the best tenth.

    ``values``, float64 (101,), are those at each level; of equal ones the lowest level counts.
    """
    tenths = np.arange(0, LEVELS, 10)
    best = int(tenths[np.argmax(values[tenths])])
    return np.union1d(tenths, np.arange(max(0, best - 9), min(LEVELS, best + 10)))


def _over_volumes(evidence: Evidence, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, at every level (float64), three look-ups over volumes.

    The mean Dice of those with a lesion, what the bin that the level lies in may add to or take from it, and the share
    of all voxels at or below the level.
    """
    bins, keys = evidence.bins, keys_of(levels.astype(np.float32))
    above = np.searchsorted(bins.lower, keys, side="right")
    inside = bins.upper[above - 1] > keys
    dice, highest, lowest = (np.zeros(len(levels)) for _ in range(3))
    predicted, voxels = np.zeros(len(levels), np.int64), 0
    volumes = sum(c.positives > 0 for c in evidence.counts)
    for c in evidence.counts:
        first = np.searchsorted(c.index, above)
        tp, fp = (np.append(np.cumsum(n[::-1])[::-1], 0)[first] for n in (c.positive, c.negative))
        predicted += tp + fp
        voxels += c.positives + c.negatives
        if not c.positives:
            continue
        cut = inside & (first > 0) & (c.index[first - 1] == above - 1)
        more_tp, more_fp = (np.where(cut, n[first - 1], 0) for n in (c.positive, c.negative))
        dice += 2 * tp / (tp + fp + c.positives) / volumes
        highest += 2 * (tp + more_tp) / (tp + more_tp + fp + c.positives) / volumes
        lowest += 2 * tp / (tp + fp + more_fp + c.positives) / volumes
    return dice, np.maximum(highest - dice, dice - lowest), 1 - predicted / voxels
