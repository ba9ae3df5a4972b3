"""Scans with their lesion masks: what a supervised top line learns from; nothing else that trains opens a truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..common.errors import DataError
from .case import Case
from .healthy import HealthySet, Part
from .storing.prepared import PreparedCase, TruthRef, load_truth
from .views.slice_view import View
from .views.volume_view import VolumeView


@dataclass(frozen=True, eq=False)
class LabelledPart:
    """A case and its lesion mask: pointers into the store, or both in memory (the mask bool, shape of the image)."""

    case: PreparedCase | Case
    truth: TruthRef | np.ndarray

    def lesion(self) -> np.ndarray:
        case = self.case
        shape = case.image.shape if isinstance(case, Case) else case.shape
        lesion = self.truth if isinstance(self.truth, np.ndarray) else load_truth(self.truth).lesion
        if lesion is None:
            raise DataError(f"case {case.id}: its truth has no voxels; train supervised methods on sets with masks")
        if lesion.shape != shape:
            raise DataError(f"case {case.id}: lesion mask has shape {lesion.shape}, the image {shape}")
        return lesion.astype(bool, copy=False)


class LesionStack:
    """Lesion masks of slices in the order of :meth:`HealthySet.array`, kept in memory with one bit per pixel.

    Attributes:
        positive: bool, shape (slices,), which slices show a lesion.
    """

    def __init__(self, masks: Iterable[np.ndarray], size: int) -> None:
        self._size = size
        self._bits = np.concatenate([np.packbits(mask, axis=-1) for mask in masks])
        self.positive = self._bits.any(axis=(1, 2))

    def __len__(self) -> int:
        return len(self._bits)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return masks in the given order, bool (n, height, width); fresh arrays that may be changed."""
        return np.unpackbits(self._bits[np.asarray(indices)], axis=-1, count=self._size).view(bool)


class LabelledSet:
    """Scans with lesion masks in a fixed order: ``len``, iteration over (case, lesion), masks on a view's grid."""

    def __init__(self, parts: Sequence[LabelledPart]) -> None:
        self.parts = tuple(parts)
        if not self.parts:
            raise DataError("there are no labelled scans to learn from; check the lesion sets and the excluded cases")

    @classmethod
    def from_cases(cls, cases: Iterable[tuple[Case, np.ndarray]]) -> LabelledSet:
        return cls([LabelledPart(case, lesion) for case, lesion in cases])

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Case, np.ndarray]]:
        return ((case, part.lesion()) for case, part in zip(self.cases, self.parts, strict=True))

    @cached_property
    def cases(self) -> HealthySet:
        """Images and regions of interest alone; despite its name the set holds whatever cases it is given."""
        return HealthySet([Part(part.case) for part in self.parts])

    @property
    def patients(self) -> tuple[str, ...]:
        return self.cases.patients

    def lesions(self, view: View) -> LesionStack:
        """Return the lesions on the slices of ``cases.array(view)``, each pixel read at its centre."""
        masks = (self.lesion_volume(i, view) for i in range(len(self)))
        return LesionStack(masks, view.size)

    def lesion_volume(self, i: int, view: View | VolumeView) -> np.ndarray:
        """Return the lesions of case ``i`` on a view's grid, each pixel or voxel read at its centre.

        Bool (Z, H, W), aligned with ``cases.volumes(view).image(i)``; for slices Z are the viewed slices.
        """
        viewed, _ = self.cases.parts[i].viewed(view)
        return viewed.geometry.mask_to_view(self.parts[i].lesion(), "nearest")
