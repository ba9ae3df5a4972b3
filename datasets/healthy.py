"""The healthy scans that a method may learn from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import DataError
from .case import Case
from .views.slice_view import View
from .views.volume_geometry import ViewedCase, VolumeGeometry
from .views.volume_stack import VolumeStack
from .views.volume_view import AnyView, VolumeView, apply_view

if TYPE_CHECKING:
    from .storing.prepared import PreparedCase


@dataclass(frozen=True, eq=False)
class Part:
    """A healthy case, or the slices ``z[0]`` to ``z[1]`` (exclusive) of one."""

    case: PreparedCase | Case
    z: tuple[int, int] | None = None

    def load(self) -> Case:
        case = self.case if isinstance(self.case, Case) else self.case.case()
        return case if self.z is None else case.crop_z(*self.z)

    def viewed(self, view: AnyView) -> tuple[ViewedCase, np.ndarray]:
        """Return the whole case through a view, and which of the viewed slices belong to the part (int64 indices)."""
        viewed = apply_view(self.case, view) if isinstance(self.case, Case) else self.case.viewed(view)
        z = np.asarray(viewed.geometry.slices, np.int64)
        start, stop = self.z or (0, viewed.geometry.native_shape[0])
        if isinstance(viewed.geometry, VolumeGeometry):
            native = np.arange(viewed.geometry.native_shape[0])
            return viewed, np.flatnonzero(viewed.geometry.complete((native >= start) & (native < stop)))
        return viewed, np.flatnonzero((z >= start) & (z < stop))

    def viewed_slices(self, view: AnyView) -> tuple[ViewedCase, np.ndarray]:
        """Return the whole case through a view, and which viewed slices with a region belong to the part (int64)."""
        if isinstance(view, View):
            return self.viewed(view)
        viewed, slices = self.viewed_volume(view)
        assert isinstance(viewed.geometry, VolumeGeometry)
        return viewed, np.flatnonzero(viewed.geometry.complete(slices))

    def viewed_volume(self, view: VolumeView) -> tuple[ViewedCase, np.ndarray]:
        """Return the whole case as a volume, and which native slices of the part have a region of interest (bool)."""
        viewed, _ = self.viewed(view)
        slices = np.zeros(viewed.geometry.native_shape[0], bool)
        case = self.case
        slices[np.flatnonzero(case.roi.any(axis=(1, 2))) if isinstance(case, Case) else list(case.roi_slices())] = True
        if self.z is not None:
            slices[: self.z[0]] = slices[self.z[1] :] = False
        return viewed, slices


class SliceStack:
    """Slices of many cases as one array that is read in batches.

    Attributes:
        shape: (slices, height, width).
        case_of: int64, shape (slices,), position of the slice's case in the healthy set.
        z_of: int64, shape (slices,), native z of the slice in its whole case; several slices of a volume may share one.
    """

    def __init__(self, parts: Iterable[tuple[ViewedCase, np.ndarray]], view: AnyView) -> None:
        self._viewed: list[ViewedCase] = []
        case_of, index_of, z_of = [], [], []
        for position, (viewed, indices) in enumerate(parts):
            self._viewed.append(viewed)
            case_of.append(np.full(len(indices), position, np.int64))
            index_of.append(np.asarray(indices, np.int64))
            z_of.append(np.asarray(viewed.geometry.slices, np.int64)[indices])
        self.case_of = np.concatenate(case_of)
        self.z_of = np.concatenate(z_of)
        self._index_of = np.concatenate(index_of)
        self.dtype = np.dtype(view.dtype)
        self.shape = (len(self.case_of), view.size, view.size)
        if len(self) == 0:
            raise DataError(
                "the slices to learn from show no region of interest; check the label files of the training set"
            )

    def __len__(self) -> int:
        return len(self.case_of)

    def extent(self, case: int) -> np.ndarray:
        """Return where any slice of case number ``case`` shows its region of interest, bool (height, width)."""
        return np.any(self._viewed[case].roi, axis=0)

    def take(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read slices in the given order.

        Args:
            indices: integers of any order, repeats allowed; negative ones count from the end.

        Returns:
            images (n, height, width) in the view's dtype and regions of interest (n, height, width) bool; both are
            fresh arrays that may be changed.
        """
        wanted = np.asarray(indices)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise IndexError(f"take needs a list of slice numbers, got {wanted.dtype} of shape {wanted.shape}")
        wanted = wanted.astype(np.int64)
        images = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        rois = np.empty(images.shape, bool)
        for k, (case, index) in enumerate(zip(self.case_of[wanted], self._index_of[wanted], strict=True)):
            viewed = self._viewed[case]
            images[k] = viewed.image[index]
            rois[k] = viewed.roi[index]
        return images, rois


class HealthySet:
    """Healthy cases in a fixed order: ``len``, iteration over :class:`Case`, and slices through a view."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        if not self.parts:
            raise DataError("there are no healthy scans to learn from; check the training set and the excluded cases")

    @classmethod
    def from_cases(cls, cases: Iterable[Case]) -> HealthySet:
        return cls([Part(case) for case in cases])

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Case]:
        return (part.load() for part in self.parts)

    @property
    def patients(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.case.patient for part in self.parts))

    def array(self, view: AnyView) -> SliceStack:
        """Return all slices with a region of interest through a view; prepared cases are memory-mapped.

        Of a volume they are the slices computed from native slices of the part alone that have a region.
        """
        return SliceStack((part.viewed_slices(view) for part in self.parts), view)

    def volumes(self, view: VolumeView) -> VolumeStack:
        """Return the cases as volumes of one voxel size; prepared cases are memory-mapped."""
        return VolumeStack(part.viewed_volume(view) for part in self.parts)
