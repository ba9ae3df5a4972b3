"""What is measured: maps and truths, from files or from memory, cropped and held one case at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...common.boxes import bounding_box
from ...common.errors import DataError
from ...datasets.case import Case, Region, Spacing, Truth, counted
from ...datasets.storing.prepared import PreparedCase, TruthRef, load_truth
from ..runs.map_store import read_map, read_mask
from ..runs.records import Threshold
from .smoothing import drop_small, least_voxels, smooth

if TYPE_CHECKING:
    from ...datasets.views.volume_geometry import AnyGeometry

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class ScoredCase(ABC):
    """One test case with its map and truth; every call may read from disk. Arrays are (z, y, x), spacing in mm.

    Attributes:
        region: where the map is measured; what the others call region of interest, ROI, is this region.
    """

    scan: PreparedCase | Case
    region: Region = field(default="roi", kw_only=True)

    @property
    def id(self) -> str:
        return self.scan.id

    @property
    def patient(self) -> str:
        return self.scan.patient

    @property
    def spacing(self) -> Spacing:
        return self.scan.spacing

    def roi(self) -> np.ndarray:
        """Return the region that is measured (bool)."""
        return counted(_roi(self.scan), self.region)

    def organ(self) -> np.ndarray:
        """Return the scan's own region of interest (bool), wherever the map is measured."""
        return _roi(self.scan)

    def image(self) -> np.ndarray:
        """Return the scan in HU; contrasts, the bright-voxel read-out and pictures use it."""
        return (self.scan if isinstance(self.scan, Case) else self.scan.case()).image

    def native_map(self) -> np.ndarray:
        """Return the map on the native grid (float32)."""
        map_, geometry = self.made()
        return map_ if geometry is None else geometry.to_native(map_)

    @abstractmethod
    def made(self) -> tuple[np.ndarray, AnyGeometry | None]:
        """Return the map on the grid that it was made on, and how that lies on the native one, None if it is that."""

    @abstractmethod
    def native_mask(self) -> np.ndarray | None:
        """Return the method's own mask on the native grid, where it made one."""

    def restored(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield what the method made of the scan on the way to its map: title, and float32 on the native grid."""
        yield from ()

    @abstractmethod
    def load_truth(self) -> Truth:
        """Return the truth."""


@dataclass(frozen=True, eq=False)
class MeasureCase(ScoredCase):
    """A test case in the store with the files of its map and, where there are any, of the method's mask and steps."""

    scan: PreparedCase
    map_path: Path
    truth: TruthRef
    mask_path: Path | None = None
    restored_paths: Mapping[str, Path] = field(default_factory=dict)

    def made(self) -> tuple[np.ndarray, AnyGeometry | None]:
        stored = read_map(self.map_path)
        return stored.view_map(), stored.geometry

    def native_mask(self) -> np.ndarray | None:
        return None if self.mask_path is None else read_mask(self.mask_path)

    def restored(self) -> Iterator[tuple[str, np.ndarray]]:
        for title, path in self.restored_paths.items():
            yield title, read_map(path).native()

    def load_truth(self) -> Truth:
        return load_truth(self.truth)


@dataclass(frozen=True, eq=False)
class ArrayCase(ScoredCase):
    """A test case in memory; the map, float32 (z, y, x), is on the view's grid where ``geometry`` is given."""

    scan: Case
    map: np.ndarray
    truth: Truth
    mask: np.ndarray | None = None
    geometry: AnyGeometry | None = None

    def made(self) -> tuple[np.ndarray, AnyGeometry | None]:
        return self.map, self.geometry

    def native_mask(self) -> np.ndarray | None:
        return self.mask

    def load_truth(self) -> Truth:
        return self.truth


@dataclass(frozen=True)
class HealthyMap:
    """A held-out healthy case and its map (a file, or an array on the native grid); with ``z`` only these slices."""

    scan: PreparedCase | Case
    map: Path | np.ndarray
    z: tuple[int, int] | None = None
    region: Region = "roi"

    def open(self) -> CroppedCase:
        """Read map and ROI of the slices that calibrate."""
        map_ = read_map(self.map).native() if isinstance(self.map, Path) else self.map
        part = slice(*self.z) if self.z else slice(None)
        return CroppedCase.of(self.scan.id, map_[part], counted(_roi(self.scan), self.region)[part], self.scan.spacing)


def _roi(scan: PreparedCase | Case) -> np.ndarray:
    return scan.roi if isinstance(scan, Case) else scan.roi()


@dataclass(frozen=True, eq=False)
class CroppedCase:
    """A map, cropped to the box of the ROI.

    The lesion is limited to the ROI, None without a voxel truth; ``slice_labels`` are those of the native grid, whose
    slices have so many ``pixels`` each.
    """

    box: Box
    map: np.ndarray
    roi: np.ndarray
    spacing: Spacing
    lesion: np.ndarray | None
    pixels: int
    slice_labels: np.ndarray | None = None

    @classmethod
    def of(
        cls, id_: str, map_: np.ndarray, roi: np.ndarray, spacing: Spacing, truth: Truth | None = None
    ) -> CroppedCase:
        """Crop the arrays of a case.

        Raises:
            DataError: map, ROI and truth have different shapes.
        """
        lesion, labels = (None, None) if truth is None else (truth.lesion, truth.slice_labels)
        for name, array in (("map", map_), ("truth", lesion)):
            if array is not None and array.shape != roi.shape:
                raise DataError(f"case {id_}: {name} has shape {array.shape}, the region of interest {roi.shape}")
        if lesion is not None:
            labels = np.any(lesion & roi, axis=(1, 2))
        if labels is not None and labels.shape != roi.shape[:1]:
            raise DataError(f"case {id_}: {len(labels)} slice labels for {len(roi)} slices")
        box = bounding_box(roi)
        return cls(
            box,
            np.ascontiguousarray(map_[box], np.float32),
            np.ascontiguousarray(roi[box], bool),
            spacing,
            None if lesion is None else np.asarray(lesion[box] & roi[box], bool),
            int(np.prod(roi.shape[1:])),
            None if labels is None else np.asarray(labels, bool),
        )

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores of the ROI voxels, float32 (n,)."""
        return self.map[self.roi]

    @cached_property
    def labels(self) -> np.ndarray:
        """Lesion labels of the ROI voxels, bool (n,); all False without a voxel truth."""
        return np.zeros(len(self.scores), bool) if self.lesion is None else self.lesion[self.roi]

    @cached_property
    def outside(self) -> int:
        """Pixels outside the ROI of the slices that show it, up to the edges of the scan."""
        return int(np.count_nonzero(self.roi.any(axis=(1, 2)))) * self.pixels - len(self.scores)

    def smoothed(self, threshold: Threshold) -> np.ndarray:
        """Return the map with the smoothing of a threshold."""
        return smooth(self.map, self.roi, self.spacing, threshold.smoothing_mm)

    def binarise(self, threshold: Threshold) -> np.ndarray:
        """Return the mask: ``map > threshold`` (strictly) in the ROI, after smoothing and before the minimum size.

        Raises:
            ValueError: the threshold has no value.
        """
        return self.cut(self.smoothed(threshold), threshold)

    def cut(self, map_: np.ndarray, threshold: Threshold) -> np.ndarray:
        """Return the mask of a map that is smoothed already, as :meth:`binarise` does."""
        if threshold.threshold is None:
            raise ValueError(f"{threshold.protocol} has no threshold: {threshold.reason}")
        mask = (map_ > np.float32(threshold.threshold)) & self.roi
        return drop_small(mask, least_voxels(threshold.min_size_mm3, self.spacing))


@dataclass
class CaseReader:
    """Reads cases; keeps as many in memory as a budget of bytes allows, so that small sets are read once."""

    cases: Sequence[ScoredCase]
    budget: int
    _kept: dict[int, CroppedCase] = field(default_factory=dict)
    _used: int = 0

    @cached_property
    def voxel_truth(self) -> bool:
        """Whether the set has voxel labels; without, it has slice labels."""
        return self.cases[0].load_truth().lesion is not None

    @property
    def patients(self) -> list[str]:
        """All patients, each once, in the order of their first case."""
        return list(dict.fromkeys(case.patient for case in self.cases))

    def read(self, index: int) -> CroppedCase:
        """Return a case.

        Raises:
            DataError: map, ROI and truth have different shapes, or the truth is of another kind than the set's.
        """
        if index in self._kept:
            return self._kept[index]
        case = self.cases[index]
        truth = case.load_truth()
        if (truth.lesion is not None) != self.voxel_truth or (truth.lesion is None and truth.slice_labels is None):
            kind = "voxel" if self.voxel_truth else "slice"
            raise DataError(f"case {case.id} has no {kind} labels, but its set has; exclude it or add them")
        cropped = CroppedCase.of(case.id, case.native_map(), case.roi(), case.spacing, truth)
        # What the look-ups of scores and labels take is reckoned in.
        size = cropped.map.nbytes + 2 * cropped.roi.nbytes + 5 * int(np.count_nonzero(cropped.roi))
        if self._used + size <= self.budget:
            self._kept[index] = cropped
            self._used += size
        return cropped
