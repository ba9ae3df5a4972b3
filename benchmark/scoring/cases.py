"""What is measured: maps and truths, from files or from memory, opened one case at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ...common.boxes import bounding_box
from ...common.errors import DataError
from ...datasets.case import Case, Spacing, Truth

if TYPE_CHECKING:
    from ...datasets.storing.prepared import PreparedCase, TruthRef
    from ...datasets.views.volume_geometry import AnyGeometry

Box = tuple[slice, slice, slice]
OnView = tuple[np.ndarray, "AnyGeometry"]


class Source(Protocol):
    """One case with its map and truth; every call may read from disk."""

    @property
    def id(self) -> str:
        """Name of the case."""
        ...

    @property
    def patient(self) -> str:
        """Patient of the case."""
        ...

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm, order z, y, x."""
        ...

    def roi(self) -> np.ndarray:
        """Return the region of interest, bool (z, y, x)."""
        ...

    def image(self) -> np.ndarray:
        """Return the scan in HU (z, y, x); the bright-voxel read-out and pictures use it."""
        ...

    def native_map(self) -> np.ndarray:
        """Return the map on the native grid, float32 (z, y, x)."""
        ...

    def view_map(self) -> OnView | None:
        """Return the map on the view that it was made on, or None where that is the native grid."""
        ...

    def native_mask(self) -> np.ndarray | None:
        """Return the method's own mask on the native grid, where it made one."""
        ...

    def load_truth(self) -> Truth:
        """Return the truth."""
        ...


@dataclass(frozen=True)
class MeasureCase:
    """A test case in the store, its stored map and its truth.

    Attributes:
        map_path: file of the map; ``mask_path`` that of the method's own mask, where it has one.
    """

    prepared: PreparedCase
    map_path: Path
    truth: TruthRef
    mask_path: Path | None = None

    @property
    def id(self) -> str:
        """Name of the case."""
        return self.prepared.id

    @property
    def patient(self) -> str:
        """Patient of the case."""
        return self.prepared.patient

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm."""
        return self.prepared.spacing

    def roi(self) -> np.ndarray:
        """Read the region of interest."""
        return self.prepared.roi()

    def image(self) -> np.ndarray:
        """Read the scan."""
        return self.prepared.case().image

    def native_map(self) -> np.ndarray:
        """Return the map on the native grid."""
        from ..runs.map_store import read_map

        return read_map(self.map_path).native()

    def view_map(self) -> OnView | None:
        """Return the map on its own grid, where that is a view."""
        from ..runs.map_store import read_map

        stored = read_map(self.map_path)
        return None if stored.geometry is None else (stored.view_map(), stored.geometry)

    def native_mask(self) -> np.ndarray | None:
        """Return the method's own mask."""
        from ..runs.map_store import read_mask

        return None if self.mask_path is None else read_mask(self.mask_path)

    def load_truth(self) -> Truth:
        """Read the truth."""
        from ...datasets.storing.prepared import load_truth

        return load_truth(self.truth)


@dataclass(frozen=True, eq=False)
class ArrayCase:
    """A test case in memory.

    Attributes:
        map: float32 (z, y, x); on the view's grid where ``geometry`` is given.
    """

    scan: Case
    map: np.ndarray
    truth: Truth
    mask: np.ndarray | None = None
    geometry: AnyGeometry | None = None

    @property
    def id(self) -> str:
        """Name of the case."""
        return self.scan.id

    @property
    def patient(self) -> str:
        """Patient of the case."""
        return self.scan.patient

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm."""
        return self.scan.spacing

    def roi(self) -> np.ndarray:
        """Return the region of interest."""
        return self.scan.roi

    def image(self) -> np.ndarray:
        """Return the scan."""
        return self.scan.image

    def native_map(self) -> np.ndarray:
        """Return the map on the native grid."""
        return self.map if self.geometry is None else self.geometry.to_native(self.map)

    def view_map(self) -> OnView | None:
        """Return the map on its own grid, where that is a view."""
        return None if self.geometry is None else (self.map, self.geometry)

    def native_mask(self) -> np.ndarray | None:
        """Return the method's own mask."""
        return self.mask

    def load_truth(self) -> Truth:
        """Return the truth."""
        return self.truth


@dataclass(frozen=True)
class HealthyMap:
    """A held-out healthy case and its map; with ``z`` only these slices calibrate.

    Attributes:
        prepared: the case in the store, or in memory.
        map: file of the map, or the map on the native grid.
    """

    prepared: PreparedCase | Case
    map: Path | np.ndarray
    z: tuple[int, int] | None = None

    def open(self) -> Opened:
        """Read map and ROI of the slices that calibrate."""
        roi = self.prepared.roi if isinstance(self.prepared, Case) else self.prepared.roi()
        if isinstance(self.map, Path):
            from ..runs.map_store import read_map

            map_ = read_map(self.map).native()
        else:
            map_ = self.map
        part = slice(*self.z) if self.z else slice(None)
        return _opened(self.prepared.id, map_[part], roi[part], self.prepared.spacing, None)


@dataclass(frozen=True, eq=False)
class Opened:
    """A map, cropped to the box of the ROI.

    Attributes:
        box: where the crop lies on the native grid.
        lesion: bool, limited to the ROI; None without a voxel truth.
        slice_labels: bool (slices of the native grid,), None without a truth.
    """

    box: Box
    map: np.ndarray
    roi: np.ndarray
    spacing: Spacing
    lesion: np.ndarray | None
    slice_labels: np.ndarray | None = None

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores of the ROI voxels, float32 (n,)."""
        return self.map[self.roi]

    @cached_property
    def labels(self) -> np.ndarray:
        """Lesion labels of the ROI voxels, bool (n,); all False without a voxel truth."""
        return np.zeros(len(self.scores), bool) if self.lesion is None else self.lesion[self.roi]

    @property
    def nbytes(self) -> int:
        """Bytes that this holds, look-ups included."""
        return self.map.nbytes + 2 * self.roi.nbytes + 5 * int(np.count_nonzero(self.roi))


@dataclass
class Reader:
    """Opens cases; keeps as many in memory as a budget allows, so that small sets are read once.

    Attributes:
        budget: bytes kept; a case beyond it is read again whenever it is needed.
    """

    sources: Sequence[Source]
    budget: int
    _kept: dict[int, Opened] = field(default_factory=dict)
    _used: int = 0

    @cached_property
    def voxel_truth(self) -> bool:
        """Whether the set has voxel labels; without, it has slice labels."""
        return self.sources[0].load_truth().lesion is not None

    def open(self, index: int) -> Opened:
        """Open a case.

        Raises:
            DataError: map, ROI and truth have different shapes, or the truth is of another kind than the set's.
        """
        if index in self._kept:
            return self._kept[index]
        source = self.sources[index]
        truth = source.load_truth()
        if (truth.lesion is not None) != self.voxel_truth or (truth.lesion is None and truth.slice_labels is None):
            kind = "voxel" if self.voxel_truth else "slice"
            raise DataError(f"case {source.id} has no {kind} labels, but its set has; exclude it or add them")
        opened = _opened(source.id, source.native_map(), source.roi(), source.spacing, truth)
        if self._used + opened.nbytes <= self.budget:
            self._kept[index] = opened
            self._used += opened.nbytes
        return opened

    def __len__(self) -> int:
        return len(self.sources)


def _opened(id_: str, map_: np.ndarray, roi: np.ndarray, spacing: Spacing, truth: Truth | None) -> Opened:
    lesion = None if truth is None else truth.lesion
    for name, array in (("map", map_), ("truth", lesion)):
        if array is not None and array.shape != roi.shape:
            raise DataError(f"case {id_}: {name} has shape {array.shape}, the region of interest {roi.shape}")
    labels: np.ndarray | None = None if truth is None else truth.slice_labels
    if lesion is not None:
        labels = np.any(lesion & roi, axis=(1, 2))
    if labels is not None and labels.shape != roi.shape[:1]:
        raise DataError(f"case {id_}: {len(labels)} slice labels for {len(roi)} slices")
    box = bounding_box(roi)
    inside = None if lesion is None else np.asarray(lesion[box] & roi[box], bool)
    return Opened(
        box,
        np.ascontiguousarray(map_[box], np.float32),
        np.ascontiguousarray(roi[box], bool),
        spacing,
        inside,
        None if labels is None else np.asarray(labels, bool),
    )
