"""The area of the organ in a slice: the confound of every slice-level number."""

import numpy as np

from ...datasets.case import Case
from ..card import MethodCard
from .parts.hu import Untrained


class RoiArea(Untrained):
    """Every voxel of a slice carries the slice's area of the region of interest.

    Slices through the middle of an organ are larger and hold more lesions, so a slice AUROC above 0.5 needs no image at
    all. Voxel metrics of this map mean nothing.
    """

    card = MethodCard(
        name="roi-area",
        title="Area of the region of interest",
        year=2026,
        family="trivial",
        citation="Baseline of this benchmark",
        reference="docs/methods.md, trivial baselines",
        deterministic=True,
        trivial=True,
        notes="A slice-level confound; its voxel metrics mean nothing.",
    )

    def score(self, case: Case) -> np.ndarray:
        """Return the area of each slice in mm² at its voxels, float32 (z, y, x), 0 outside the region of interest."""
        area = case.roi.sum(axis=(1, 2)) * (case.spacing[1] * case.spacing[2])
        return np.where(case.roi, area[:, None, None], 0).astype(np.float32)
