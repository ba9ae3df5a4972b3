"""Smoothed HU after a grey opening that removes vessels: what a learned method has to beat on lung."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from ...datasets.case import Case
from ..card import MethodCard
from ..config import Config
from .parts.hu import Sign, Untrained, map_in_roi, open_in_roi, roi_median, signed, smooth_in_roi


@dataclass(frozen=True)
class HuOpenedConfig(Config):
    """Settings of :class:`HuOpened`; ``radius`` in voxels, ``sigma`` in pixels, 0 switches either off.

    ``origin`` as in ``hu-threshold``: the median of the (opened, smoothed) region or plain HU.
    """

    radius: int = field(default=2, metadata={"stage": "score"})
    sigma: float = field(default=2.0, metadata={"stage": "score"})
    sign: Sign = field(default="darker", metadata={"stage": "score"})
    origin: Literal["median", "absolute"] = field(default="median", metadata={"stage": "score"})

    anatomies: ClassVar = {"lung": {"sign": "brighter", "origin": "absolute"}}


class HuOpened(Untrained):
    """Signed smoothed HU after a three-dimensional grey opening, so that bright vessels score nothing."""

    card = MethodCard(
        name="hu-opened",
        title="Smoothed HU after removal of vessels",
        year=2026,
        family="trivial",
        citation="Baseline of this benchmark; grey opening: Serra, Image Analysis and Mathematical Morphology, 1982",
        reference="docs/methods.md, trivial baselines",
        deterministic=True,
        trivial=True,
        notes="Reference of the paired tests on lung. Ball of 2 voxels; darker in liver, brighter in lung.",
    )
    Config = HuOpenedConfig

    def score(self, case: Case) -> np.ndarray:
        """Return the signed HU of the opened, smoothed image, float32 (z, y, x), 0 outside the region of interest."""
        return map_in_roi(case, self._signed)

    def _signed(self, image: np.ndarray, roi: np.ndarray) -> np.ndarray:
        seen = smooth_in_roi(open_in_roi(image, roi, self.config.radius), roi, self.config.sigma)
        origin = roi_median(seen, roi) if self.config.origin == "median" else 0.0
        return signed(seen - np.float32(origin), self.config.sign)
