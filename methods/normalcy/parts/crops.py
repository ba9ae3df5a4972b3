"""Training crops of NormNet: where they lie, how full of lung they are, which border is erased, what they teach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .growing import Components, check_volumes
from .growing_kernels import mark_edges

if TYPE_CHECKING:
    from ....datasets.views.volume_stack import SliceRun, VolumeStack

EDGE = np.uint8(2)


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
        self.runs: tuple[SliceRun, ...] = tuple(whole) or stack.runs
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

    def _fullest(self, run: SliceRun) -> int:
        areas = np.count_nonzero(self.stack.roi(run.case)[run.start : run.stop], axis=(1, 2))
        sums = np.convolve(areas, np.ones(min(self.depth, len(areas)), int), mode="valid")
        return int(sums.max())


def target(clean: Any, blobs: Any, roi: Any, tau: float) -> Any:
    """Return the bright normal voxels of a crop (Yao et al. 2021, Eq. 1), bool, as array or tensor like the crop.

    A synthetic lesion excludes its whole blob, vessels inside it too; dark voxels are 0 whether normal or not.

    Args:
        clean: in [0, 1] without lesions, any shape.
        blobs: bool, same shape, all voxels of the synthetic lesions.
        roi: bool, same shape.
        tau: least value of a bright voxel.
    """
    return (clean >= tau) & roi & ~blobs


def fullness(rois: np.ndarray, most: int = 0) -> np.ndarray:
    """Return λ, the ROI voxels of each crop relative to the fullest crop (Yao et al. 2021, §III-C.1).

    Args:
        rois: bool (n, z, y, x).
        most: ROI voxels of the fullest crop of the training set; crops that are fuller still count as full.

    Returns:
        float32 (n,) in [0, 1]; 0 for crops without ROI.
    """
    voxels = np.count_nonzero(rois, axis=(1, 2, 3))
    return (voxels / max(most, int(voxels.max(initial=0)), 1)).astype(np.float32)


def remove_erroneous_edges(image: np.ndarray, roi: np.ndarray, *, tau: float, share: float = 0.5) -> np.ndarray:
    """Erase from an ROI the bright components that lie mostly on its border; for healthy training volumes only.

    Components are joined by faces, so that a rim, which runs diagonally in places, takes no vessel beside it along.
    The border is what an erosion by one voxel within the slice takes away; outside the image is outside the ROI. The
    paper asks for components with "most" voxels on the border, without a number.

    Args:
        image: float32 or float16 (z, y, x).
        roi: bool, same shape.
        tau: least value of a bright voxel.
        share: part of a component's voxels on the border above which it is erased.

    Returns:
        bool (z, y, x), the ROI without those components.

    Raises:
        ValueError: shapes differ.
    """
    check_volumes(image, roi)
    state = np.empty(image.shape, np.uint8)
    for z, out in enumerate(state):
        mark_edges(np.ascontiguousarray(image[z], np.float32), np.ascontiguousarray(roi[z]), np.float32(tau), out)
    bright = Components.of(state, EDGE)
    erased = bright.paint(bright.marked > share * bright.size, state)
    return roi & ~erased
