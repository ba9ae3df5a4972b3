"""Post-processed maps as bins, so that smoothing and minimum size are tuned by look-up like the plain map."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from ..scoring.bins import LOWEST, Bins, CaseCounts, count_scores
from ..scoring.cases import CaseReader, CroppedCase
from ..scoring.ranking_metrics import Curves
from ..scoring.smoothing import area_openings, least_voxels, smooth
from .objective import MeanDice, PatientCase

# Neighbouring cuts of a post-processed map predict volumes that differ by this share at most.
STEP = 0.002


def variants(
    reader: CaseReader,
    chosen: Sequence[int],
    bins: Bins,
    counts: Sequence[CaseCounts],
    *,
    sigmas_mm: Sequence[float],
    sizes_mm3: Sequence[float],
    threads: int = 1,
) -> dict[tuple[float, float], MeanDice]:
    """Return the objective of every (smoothing, minimum size) over some of the cases.

    A minimum size is an area opening of the map, so one opened map serves all thresholds. Only ``chosen`` cases are
    read; ``bins`` are those of the plain maps, with the ``counts`` of all cases. 0 is among the sigmas and the sizes.
    """
    patients = [reader.cases[i].patient for i in chosen]
    room = sum(4 * int(counts[i].negatives + counts[i].positives) for i in chosen) <= reader.budget
    out = {}
    for sigma in sigmas_mm:
        smoothed = _Smoothed(reader, sigma, keep=room)
        edges, plain = bins, [counts[i] for i in chosen]
        if sigma:
            edges, plain = count_scores(partial(_pairs, smoothed, chosen), threads)
        curves = Curves.of(edges, plain)
        group = _groups(curves)
        axis, place = curves.merged(group), np.zeros(len(edges), np.int64)
        place[np.searchsorted(edges.lower, curves.lower)] = group
        opened = [_opened_counts(*smoothed.map(i), edges, place, sizes_mm3) for i in chosen]
        for k, size in enumerate(sizes_mm3):
            cases = [PatientCase(p, counted[k]) for p, (counted, _) in zip(patients, opened, strict=True)]
            out[sigma, size] = MeanDice(axis, cases, cut_all=not any(lost[k] for _, lost in opened))
    return out


class _Smoothed:
    """Smoothed maps of a reader's cases, kept where there is room."""

    def __init__(self, reader: CaseReader, sigma_mm: float, *, keep: bool) -> None:
        self.reader, self.sigma_mm, self.keep = reader, sigma_mm, keep
        self._values: dict[int, np.ndarray] = {}

    def map(self, index: int) -> tuple[CroppedCase, np.ndarray]:
        case = self.reader.read(index)
        if index in self._values:
            map_ = np.zeros(case.map.shape, np.float32)
            map_[case.roi] = self._values[index]
            return case, map_
        map_ = smooth(case.map, case.roi, case.spacing, self.sigma_mm)
        if self.keep and self.sigma_mm:
            self._values[index] = map_[case.roi]
        return case, map_


def _pairs(smoothed: _Smoothed, chosen: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for i in chosen:
        case, map_ = smoothed.map(i)
        yield map_[case.roi], case.labels


def _groups(curves: Curves) -> np.ndarray:
    """Return the group of every bin, ascending from 0, such that cuts between groups are ``STEP`` apart."""
    level = np.floor(np.log1p((curves.tp + curves.fp)[1:]) / STEP).astype(np.int64)
    return np.cumsum(np.concatenate([[False], np.diff(level) != 0]))


def _opened_counts(
    case: CroppedCase, map_: np.ndarray, bins: Bins, place: np.ndarray, sizes_mm3: Sequence[float]
) -> tuple[list[CaseCounts], list[bool]]:
    """Count a map in groups after each minimum size; voxels that no threshold keeps go to the lowest group."""
    leasts = [least_voxels(size, case.spacing) for size in sizes_mm3]
    needed = sorted({least for least in leasts if least > 1})
    openings = dict(zip(needed, area_openings(map_, case.roi, needed), strict=True)) if needed else {}
    groups = int(place.max()) + 1
    counted, lost = [], []
    for least in leasts:
        values = openings[least] if least > 1 else map_[case.roi]
        both = np.bincount(2 * place[bins.find(values)] + case.labels, minlength=2 * groups).reshape(-1, 2)
        counted.append(CaseCounts.of(both))
        lost.append(bool((values == LOWEST).any()))
    return counted, lost
