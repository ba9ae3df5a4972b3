"""Post-processed maps as bins, so that smoothing and minimum size are tuned by look-up like the plain map."""

from collections.abc import Iterator, Sequence

import numpy as np

from ..scoring.bins import LOWEST, Bins, CaseCounts, count_scores
from ..scoring.cases import CaseReader, CroppedCase
from ..scoring.ranking_metrics import Curves
from ..scoring.smoothing import area_openings, least_voxels, smooth
from .tuning import MeanDice

# Neighbouring cuts of a post-processed map predict volumes that differ by this share at most.
STEP = 0.002


def variants(
    reader: CaseReader,
    chosen: Sequence[int],
    bins: Bins,
    counts: Sequence[CaseCounts],
    sigmas_mm: Sequence[float],
    sizes_mm3: Sequence[float],
    threads: int,
) -> dict[tuple[float, float], MeanDice]:
    """Return the objective of every (smoothing, minimum size) over some of the cases.

    A minimum size is an area opening of the map, so one opened map serves all thresholds. Only ``chosen`` cases are
    read; ``bins`` are those of the plain maps, with the ``counts`` of all cases. 0 is among the sigmas and the sizes.
    """
    patients = [reader.cases[i].patient for i in chosen]
    room = sum(4 * int(counts[i].negatives + counts[i].positives) for i in chosen) <= reader.budget
    out = {}
    for sigma in sigmas_mm:
        smoothed = _Smoothed(reader, chosen, sigma, keep=room)
        edges, plain = bins, [counts[i] for i in chosen]
        if sigma:
            edges, plain = count_scores(smoothed.pairs, threads)
        curves = Curves.of(edges, plain)
        # The group of every bin, ascending from 0, such that cuts between groups are STEP apart.
        level = np.floor(np.log1p((curves.tp + curves.fp)[1:]) / STEP).astype(np.int64)
        group = np.cumsum(np.concatenate([[False], np.diff(level) != 0]))
        place = np.zeros(len(edges), np.int64)
        place[np.searchsorted(edges.lower, curves.lower)] = group
        opened = [_opened_counts(case, map_, edges, place, sizes_mm3) for case, map_ in smoothed]
        for size, by_case in zip(sizes_mm3, zip(*opened, strict=True), strict=True):
            counted, lost = zip(*by_case, strict=True)
            out[sigma, size] = MeanDice(curves.merged(group), patients, counted, cut_all=not any(lost))
    return out


class _Smoothed:
    """Smoothed maps of some of a reader's cases, kept where there is room."""

    def __init__(self, reader: CaseReader, chosen: Sequence[int], sigma_mm: float, *, keep: bool) -> None:
        self.reader, self.chosen, self.sigma_mm, self.keep = reader, chosen, sigma_mm, keep
        self._values: dict[int, np.ndarray] = {}

    def __iter__(self) -> Iterator[tuple[CroppedCase, np.ndarray]]:
        for index in self.chosen:
            case = self.reader.read(index)
            if index in self._values:
                map_ = np.zeros(case.map.shape, np.float32)
                map_[case.roi] = self._values[index]
            else:
                map_ = smooth(case.map, case.roi, case.spacing, self.sigma_mm)
                if self.keep and self.sigma_mm:
                    self._values[index] = map_[case.roi]
            yield case, map_

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((map_[case.roi], case.labels) for case, map_ in self)


def _opened_counts(
    case: CroppedCase, map_: np.ndarray, bins: Bins, place: np.ndarray, sizes_mm3: Sequence[float]
) -> list[tuple[CaseCounts, bool]]:
    """Count a map in groups after each minimum size, and tell whether no threshold keeps some of its voxels.

    Those go to the lowest group.
    """
    leasts = [least_voxels(size, case.spacing) for size in sizes_mm3]
    needed = sorted({least for least in leasts if least > 1})
    openings = {1: map_[case.roi]}
    if needed:
        openings |= zip(needed, area_openings(map_, case.roi, needed), strict=True)
    counted = []
    for values in (openings[least] for least in leasts):
        both = np.bincount(2 * place[bins.find(values)] + case.labels, minlength=2 * (int(place.max()) + 1))
        counted.append((CaseCounts.of(both.reshape(-1, 2)), bool((values == LOWEST).any())))
    return counted
