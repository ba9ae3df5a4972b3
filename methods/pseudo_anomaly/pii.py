"""Poisson image interpolation: foreign patches blended by their gradients, without visible seams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..card import MethodCard
from .parts.foreign_patches import FIGURES, ForeignPatchConfig, ForeignPatchMethod

if TYPE_CHECKING:
    from ..synthesis.foreign_patch import Blend


@dataclass(frozen=True)
class PIIConfig(ForeignPatchConfig):
    """Settings of :class:`PII`: those of FPI, with a tolerance for what the solver changes everywhere."""

    tolerance: float = 1e-3


class PII(ForeignPatchMethod):
    """Predicts the factor with which the gradients of another scan entered the slice."""

    card = MethodCard(
        name="pii",
        title="Poisson image interpolation",
        year=2021,
        family="pseudo-anomaly",
        citation="Tan, Hou, Day, Simpson, Rueckert, Kainz: Detecting Outliers with Poisson Image Interpolation, "
        "MICCAI 2021",
        reference="arXiv:2107.02622",
        slice_score="mean",
        figures=FIGURES,
        notes="As fpi but for the blend. Poisson's equation is solved on the patch's rectangle by a fast sine "
        "transform; pixels outside either organ keep their gradients and values.",
    )
    Config = PIIConfig

    @property
    def blend(self) -> Blend:
        from ..synthesis.poisson_blend import poisson_blend

        return poisson_blend
