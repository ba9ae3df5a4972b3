"""Healthy crops for NormNet: where they may lie, how full of lung they are, and the border that is erased from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .distance_targets import fullness
from .edges import remove_erroneous_edges

if TYPE_CHECKING:
    from ....datasets.views.volume_stack import Run, VolumeStack


class HealthyCrops:
    """Random crops of whole slices from contiguous runs of healthy volumes (Yao et al. 2021, §III-A, §IV-A).

    Args:
        stack: the healthy volumes.
        depth: slices per crop.
        tau: least value of a bright voxel, for the erroneous edges.
        edge_share: share of border voxels above which a bright component is erased; 1 erases nothing.
    """

    def __init__(self, stack: VolumeStack, depth: int, tau: float, edge_share: float) -> None:
        self.stack = stack
        self.depth = depth
        self.tau = tau
        self.edge_share = edge_share
        whole = [run for run in stack.runs if len(run) >= depth]
        self.runs: tuple[Run, ...] = tuple(whole) or stack.runs
        self._positions = np.cumsum([max(1, len(run) - depth + 1) for run in self.runs])
        self._erased: dict[int, np.ndarray] = {}
        self.most = max(self._fullest(run) for run in self.runs)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return crops at uniformly drawn positions.

        Returns:
            images float32 (count, depth, H, W), 0 outside the region; regions bool, same shape; fullness λ (count,).
        """
        taken = [self._take(int(p)) for p in rng.integers(0, self._positions[-1], count)]
        images, rois = (np.stack(arrays) for arrays in zip(*taken, strict=True))
        return images, rois, fullness(rois, self.most)

    def _take(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        which = int(np.searchsorted(self._positions, position, side="right"))
        run = self.runs[which]
        start = run.start + position - (int(self._positions[which - 1]) if which else 0)
        image, roi = self.stack.crop(run, start, self.depth)
        roi &= ~self._edges(run.case, start, min(start + self.depth, run.stop))
        return np.where(roi, image, 0).astype(np.float32), roi

    def _edges(self, case: int, start: int, stop: int) -> np.ndarray:
        """Return the erased voxels of a crop; kept as indices: the masks of hundreds of scans would fill the memory."""
        shape = self.stack.roi(case).shape
        if case not in self._erased:
            roi = np.asarray(self.stack.roi(case))
            kept = remove_erroneous_edges(self.stack.image(case), roi, tau=self.tau, share=self.edge_share)
            self._erased[case] = np.flatnonzero(roi & ~kept)
        plane = shape[1] * shape[2]
        low, high = np.searchsorted(self._erased[case], [start * plane, stop * plane])
        out = np.zeros((self.depth, *shape[1:]), bool)
        out.reshape(-1)[self._erased[case][low:high] - start * plane] = True
        return out

    def _fullest(self, run: Run) -> int:
        areas = np.count_nonzero(self.stack.roi(run.case)[run.start : run.stop], axis=(1, 2))
        sums = np.convolve(areas, np.ones(min(self.depth, len(areas)), int), mode="valid")
        return int(sums.max())
