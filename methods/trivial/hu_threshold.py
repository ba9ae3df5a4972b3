"""The HU itself as anomaly score: the threshold protocols turn it into plain thresholding."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from ...datasets.case import Case
from ..card import MethodCard
from ..config import Config
from .parts.hu import Sign, Untrained, map_in_roi, roi_median, signed


@dataclass(frozen=True)
class HuThresholdConfig(Config):
    """Settings of :class:`HuThreshold`.

    ``origin`` is the HU counted as zero: the ``median`` of the region of interest, which takes the contrast phase out
    of the liver's HU, or 0 (``absolute``), because a diseased lung shifts its own median.
    """

    sign: Sign = field(default="darker", metadata={"stage": "score"})
    origin: Literal["median", "absolute"] = field(default="median", metadata={"stage": "score"})

    anatomies: ClassVar = {"lung": {"sign": "brighter", "origin": "absolute"}}


class HuThreshold(Untrained):
    """Signed HU, unsmoothed: darker is more anomalous in liver, brighter in lung."""

    card = MethodCard(
        name="hu-threshold",
        title="Plain HU threshold",
        year=2021,
        family="trivial",
        citation="Meissen et al., Challenging Current Semi-Supervised Anomaly Segmentation Methods for Brain MRI, "
        "BrainLes 2021 (thresholding as a baseline)",
        reference="arXiv:2109.06023",
        deterministic=True,
        trivial=True,
        notes="Liver: ROI median minus HU. Lung: HU.",
    )
    Config = HuThresholdConfig

    def score(self, case: Case) -> np.ndarray:
        """Return the signed HU, float32 (z, y, x), 0 outside the region of interest."""
        return map_in_roi(case, self._signed)

    def _signed(self, image: np.ndarray, roi: np.ndarray) -> np.ndarray:
        origin = roi_median(image, roi) if self.config.origin == "median" else 0.0
        return signed(image - np.float32(origin), self.config.sign)
