"""Distance of every voxel from the median of its in-plane neighbourhood."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ...datasets.case import Case
from ..card import MethodCard
from ..config import Config, ConfigError
from .parts.hu import Untrained, map_in_roi


@dataclass(frozen=True)
class LocalResidualConfig(Config):
    """Settings of :class:`LocalResidual`; ``size`` is the side of the square neighbourhood in pixels, odd.

    The median is read from 256 grey levels of ``window`` (HU).
    """

    size: int = field(default=15, metadata={"stage": "score"})
    window: tuple[float, float] = field(default=(-200.0, 250.0), metadata={"stage": "score"})

    anatomies: ClassVar = {"lung": {"window": (-1000.0, 100.0)}}

    def __post_init__(self) -> None:
        if self.size < 3 or self.size % 2 == 0:
            raise ConfigError(f"size={self.size}: choose an odd number of pixels, at least 3")


class LocalResidual(Untrained):
    """|HU − local median|, where the neighbourhood holds only voxels of the region of interest."""

    card = MethodCard(
        name="local-residual",
        title="Local median residual",
        year=2026,
        family="trivial",
        citation="Baseline of this benchmark",
        reference="docs/methods.md, trivial baselines",
        deterministic=True,
        trivial=True,
        notes="15 × 15 pixels in-plane on the native grid.",
    )
    Config = LocalResidualConfig

    def score(self, case: Case) -> np.ndarray:
        """Return the absolute residual in HU, float32 (z, y, x), 0 outside the region of interest."""
        return map_in_roi(case, self._residual)

    def _residual(self, image: np.ndarray, roi: np.ndarray) -> np.ndarray:
        from skimage.filters import rank

        low, high = self.config.window
        step = (high - low) / 255
        levels = np.rint(np.clip((image - low) / step, 0, 255)).astype(np.uint8)
        square = np.ones((self.config.size, self.config.size), np.uint8)
        local = np.stack([rank.median(a, square, mask=m) for a, m in zip(levels, roi, strict=True)])
        return np.abs(image - (local.astype(np.float32) * np.float32(step) + np.float32(low)))
