"""Settings of random-shape masks, of the liver paper's method and of the direct segmentation of its shapes."""

from dataclasses import dataclass
from typing import Literal

from ..config import Config
from .stretched_noise import StretchedNoise

# On 64² slices an organ has a few hundred pixels, which the published masks seldom meet.
QUICK_SHAPES = {"threshold": 180, "rejection": True, "placement": "roi"}


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
