"""Foreign patch interpolation: finds patches of other scans that were mixed into a slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..card import MethodCard
from .parts.foreign_patches import FIGURES, ForeignPatchMethod

if TYPE_CHECKING:
    from ..synthesis.foreign_patch import Blend


class FPI(ForeignPatchMethod):
    """Predicts the factor with which a patch of another scan was interpolated into the slice."""

    card = MethodCard(
        name="fpi",
        title="Foreign patch interpolation",
        year=2022,
        family="pseudo-anomaly",
        citation="Tan, Hou, Batten, Qiu, Kainz: Detecting Outliers with Foreign Patch Interpolation, MELBA 2022",
        reference="arXiv:2011.04197",
        slice_score="mean",
        figures=FIGURES,
        undertrained=("lung",),
        notes="Axial slices alone. The organ's bounding box stands for the image; the same place is the same relative "
        "height of the organ and the same relative position in its bounding box. No CT figures on LiTS or COVID-19 "
        "sets are published. On the lung the quick profile marks vessels, which a mixture doubles, as opacities.",
    )

    @property
    def blend(self) -> Blend:
        from ..synthesis.foreign_patch import interpolate

        return interpolate
