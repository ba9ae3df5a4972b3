"""Crops of healthy volumes for the methods that put lesions into 3D, and windows that slide over a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ....common.boxes import Box, bounding_box
from ....datasets.case import Spacing
from ...early_stopping import held_out_count, held_out_patients
from ...synthesis.volume_fields import random_voxels

if TYPE_CHECKING:
    import torch

    from ....datasets.views.volume_stack import SliceRun, VolumeStack

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Crop:
    """A crop of one volume.

    Attributes:
        image: float32 (z, y, x), 0 beyond the run or the grid.
        roi: bool, same shape.
        run: where it comes from.
        origin: int64 (3,), first voxel in the volume.
        spacing: voxel size in mm, order z, y, x.
    """

    image: np.ndarray
    roi: np.ndarray
    run: SliceRun
    origin: np.ndarray
    spacing: Spacing


class VolumeCrops:
    """Boxes from contiguous runs of slices (all of the stack's by default): none bridges a slice that was taken out."""

    def __init__(self, stack: VolumeStack, shape: Shape, runs: Sequence[SliceRun] | None = None) -> None:
        self.stack = stack
        self.shape = shape
        self.runs = tuple(stack.runs if runs is None else runs)
        self.cases = tuple(sorted({run.case for run in self.runs}))
        self._boxes: dict[SliceRun, Box] = {}

    def run_of(self, case: int, rng: np.random.Generator) -> SliceRun:
        """Draw one of a case's runs, each as likely as it is long; ``case`` counts through :attr:`cases`."""
        runs = [run for run in self.runs if run.case == self.cases[case]]
        ends = np.cumsum([len(run) for run in runs])
        return runs[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]

    def roi(self, run: SliceRun) -> np.ndarray:
        """Return the ROI of a run's slices, bool; z counts from the run's first slice."""
        return self.stack.roi(run.case)[run.start : run.stop]

    def box(self, run: SliceRun) -> Box:
        """Return the bounding box of :meth:`roi`."""
        if run not in self._boxes:
            self._boxes[run] = bounding_box(self.roi(run))
        return self._boxes[run]

    def centre(self, run: SliceRun, rng: np.random.Generator, *, inside: bool = True) -> np.ndarray:
        """Draw a voxel of :meth:`roi`, or one outside it in its bounding box where that has any; int64 (3,)."""
        box = self.box(run)
        organ = self.roi(run)[box]
        where = organ if inside or organ.all() else ~organ
        return random_voxels(where, rng.random(1))[0] + np.array([part.start for part in box])

    def around(self, run: SliceRun, centre: np.ndarray) -> Crop:
        """Copy the box whose middle is nearest to a voxel of :meth:`roi`, inside run and grid where it fits."""
        image, roi = self.stack.image(run.case), self.stack.roi(run.case)
        bounds = ((run.start, run.stop), (0, image.shape[1]), (0, image.shape[2]))
        wanted = zip(centre + np.array([run.start, 0, 0]), self.shape, bounds, strict=True)
        origin = np.array([max(low, min(int(c) - n // 2, high - n)) for c, n, (low, high) in wanted], np.int64)
        inside = self._cut(roi, origin, run)
        values = self._cut(image, origin, run, np.float32)
        values *= inside
        return Crop(values, inside, run, origin, self.stack.spacing(run.case))

    def cut(self, volume: np.ndarray, crop: Crop) -> np.ndarray:
        """Copy the box of a crop from another array (Z, H, W) of its case, 0 beyond the run or the grid."""
        return self._cut(volume, crop.origin, crop.run)

    def _cut(
        self, volume: np.ndarray, origin: np.ndarray, run: SliceRun, dtype: type[np.generic] | None = None
    ) -> np.ndarray:
        ends = (run.stop, *volume.shape[1:])
        part = tuple(slice(a, min(a + n, end)) for a, n, end in zip(origin, self.shape, ends, strict=True))
        out = np.zeros(self.shape, dtype or volume.dtype)
        out[tuple(slice(p.stop - p.start) for p in part)] = volume[part]
        return out


def held_out_runs(
    patients: Sequence[str], runs: Sequence[SliceRun], rng: np.random.Generator
) -> tuple[list[SliceRun], list[SliceRun]]:
    """Split runs into a training and a validation part.

    A fifth of the patients, given for each case, validates, at least one; with a single patient the last fifth of the
    runs does, or, of a single run, its last fifth of slices.
    """
    held = held_out_patients((patients[run.case] for run in runs), rng)
    if held:
        return [r for r in runs if patients[r.case] not in held], [r for r in runs if patients[r.case] in held]
    if len(runs) > 1:
        last = held_out_count(len(runs))
        return list(runs[:-last]), list(runs[-last:])
    run = runs[0]
    cut = run.stop - held_out_count(len(run))
    return [type(run)(run.case, run.start, cut)] if cut > run.start else [run], [type(run)(run.case, cut, run.stop)]


def slide(
    forward: Callable[[torch.Tensor], torch.Tensor],
    volume: np.ndarray,
    roi: np.ndarray,
    shape: Shape,
    *,
    overlap: float,
    device: str,
    weights: Literal["gaussian", "constant"] = "gaussian",
) -> np.ndarray:
    """Run a network over the box of a volume's ROI in overlapping windows and average them; 0 outside, float32.

    Args:
        forward: takes float32 (1, channels, z, y, x) on ``device`` and returns (1, 1, z, y, x).
        volume: (Z, Y, X), one channel, or (channels, Z, Y, X).
        shape: of the windows; a smaller box is padded with zeros.
        overlap: share of a window that the next one repeats.
        weights: of a window's voxels in the average, largest in its middle or the same everywhere.
    """
    import torch
    from monai.inferers.utils import sliding_window_inference

    out = np.zeros(roi.shape, np.float32)
    if not roi.any():
        return out
    box = bounding_box(roi)
    channels = np.ascontiguousarray(volume[(..., *box)], np.float32).reshape(-1, *out[box].shape)
    tensor = torch.from_numpy(channels)[None].to(device)
    with torch.inference_mode():
        map_ = sliding_window_inference(tensor, shape, 1, forward, overlap=overlap, mode=weights)
    assert isinstance(map_, torch.Tensor)
    out[box] = np.where(roi[box], map_[0, 0].float().cpu().numpy(), 0)
    return out
