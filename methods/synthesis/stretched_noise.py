"""Random-shape masks from stretched noise (Zhang et al. 2023, §3.1): the recipe, and the settings of its methods.

:mod:`.stretched_noise_cpu` draws it with compiled kernels, :mod:`.stretched_noise_torch` on an accelerator.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import numpy as np

from ..config import Config

GAUSSIAN_SD = 50.0
# On 64² slices an organ has a few hundred pixels, which the published masks seldom meet.
QUICK_SHAPES = {"threshold": 180, "rejection": True, "placement": "roi"}


@dataclass(frozen=True)
class StretchedNoise:
    """Noise → 8-bit blur → stretch to 0 … 255 → cut → open → close, on a square frame.

    The recipe of the released code (docs/methods/two-stage.md). The 8-bit blur leaves about eleven grey levels, so
    that the stretch is a coarse staircase and the cut keeps 3 % of the frame; real numbers would keep almost 6 %. The
    masks therefore are drawn on a frame of fixed size, equal to OpenCV's bit for bit, and sampled (nearest) to the size
    that is asked for.

    Attributes:
        frame: side of the frame in pixels.
        sigma: standard deviation of the blur in frame pixels.
        threshold: grey level that a stretched pixel must exceed.
        ellipse: diameter of the elliptical structuring element in frame pixels, odd.
        noise: ``uniform`` bytes (the released code) or ``gaussian`` bytes (the paper's text; mean 127.5, sd 50).
    """

    frame: int = 256
    sigma: float = 15.0
    threshold: int = 200
    ellipse: int = 9
    noise: Literal["uniform", "gaussian"] = "uniform"

    def __post_init__(self) -> None:
        if self.ellipse % 2 == 0 or not 1 <= self.ellipse <= 63:
            raise ValueError(f"ellipse {self.ellipse}: the diameter must be odd and between 1 and 63")
        if self.frame <= len(self.taps) // 2 + 1:
            raise ValueError(f"frame {self.frame}: too small for a blur of sigma {self.sigma}")

    @cached_property
    def taps(self) -> np.ndarray:
        """Integer blur kernel with sum 256: Gaussian, quantised from the ends inwards, each error carried on."""
        length = round(6 * self.sigma + 1) | 1
        radius = length // 2
        weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * self.sigma**2))
        weights *= 256 / weights.sum()
        taps = np.zeros(length, np.int64)
        # OpenCV filters bytes in fixed point: whole taps, whose rounding must not change the brightness. Carrying the
        # error from tap to tap keeps every partial sum right, and the middle tap takes what is left of 256.
        error = 0.0
        for i in range(radius):
            value = round(weights[i] + error)
            error += weights[i] - value
            taps[i] = taps[-1 - i] = value
        taps[radius] = 256 - taps.sum()
        return taps

    @cached_property
    def halves(self) -> np.ndarray:
        """Reach of each row of the structuring element to either side of its centre."""
        radius = self.ellipse // 2
        rows = np.arange(-radius, radius + 1)
        return np.round(np.sqrt(radius**2 - rows**2)).astype(np.int64)

    @cached_property
    def lut(self) -> np.ndarray:
        """Noise value of each uniform byte, uint8 (256,)."""
        if self.noise == "uniform":
            return np.arange(256, dtype=np.uint8)
        normal = NormalDist(127.5, GAUSSIAN_SD)
        values = [normal.inv_cdf((byte + 0.5) / 256) for byte in range(256)]
        return np.clip(np.round(values), 0, 255).astype(np.uint8)

    def positions(self, size: int) -> np.ndarray:
        """Return the frame pixel at the centre of each of ``size`` pixels, int64."""
        return (2 * np.arange(size) + 1) * self.frame // (2 * size)


@dataclass(frozen=True)
class ShapeConfig(Config):
    """Masks of stretched noise, and grey levels between a masked region and the tissue (Zhang et al. 2023, §3.1).

    Attributes:
        frame, sigma, threshold, ellipse, noise: recipe of the masks (:class:`StretchedNoise`).
        min_shift, max_shift: grey levels by which a region gets brighter or darker; 50 in an earlier version.
        rejection: redraw a mask until it meets tissue, a thousand times at most: only a slice with a few pixels of
            tissue stays clean. Off in the released code, so that most slices stay clean.
        p_anomaly: share of slices that get a mask at all.
        placement: ``frame`` leaves the mask where it was drawn; ``roi`` moves a random mask pixel onto a random tissue
            pixel.
    """

    frame: int = 256
    sigma: float = 15.0
    threshold: int = 200
    ellipse: int = 9
    noise: Literal["uniform", "gaussian"] = "uniform"
    min_shift: float = 60.0
    max_shift: float = 100.0
    rejection: bool = False
    p_anomaly: float = 1.0
    placement: Literal["frame", "roi"] = "frame"

    @property
    def recipe(self) -> StretchedNoise:
        """The masks before they meet a slice."""
        return StretchedNoise(self.frame, self.sigma, self.threshold, self.ellipse, self.noise)
