"""Smoothed distance of the HU from the organ's median: what a learned method has to beat on liver."""

from dataclasses import dataclass, field

import numpy as np

from ...datasets.case import Case
from ..card import MethodCard
from ..config import Config
from .parts.hu import Untrained, map_in_roi, roi_median, smooth_in_roi


@dataclass(frozen=True)
class HuDeviationConfig(Config):
    """Settings of :class:`HuDeviation`; ``sigma`` in pixels, 0 means no smoothing."""

    sigma: float = field(default=2.0, metadata={"stage": "score"})


class HuDeviation(Untrained):
    """|Gaussian-smoothed HU − median HU of the region of interest|, both computed inside the region alone."""

    card = MethodCard(
        name="hu-deviation",
        title="Smoothed deviation from the organ's median HU",
        year=2026,
        family="trivial",
        citation="Baseline of this benchmark; cf. Meissen et al., Challenging Current Semi-Supervised Anomaly "
        "Segmentation Methods for Brain MRI, BrainLes 2021",
        reference="arXiv:2109.06023",
        deterministic=True,
        trivial=True,
        notes="Reference of the paired tests on liver. In-plane smoothing on the native grid, sigma in pixels.",
    )
    Config = HuDeviationConfig

    def score(self, case: Case) -> np.ndarray:
        """Return the absolute deviation in HU, float32 (z, y, x), 0 outside the region of interest."""
        sigma = self.config.sigma
        return map_in_roi(
            case, lambda image, roi: np.abs(smooth_in_roi(image, roi, sigma) - np.float32(roi_median(image, roi)))
        )
