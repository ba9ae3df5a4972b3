"""Baselines without learning, which see the region of interest alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from scipy import ndimage

from ...common.boxes import bounding_box
from ...common.seeds import derive
from ...datasets.case import Case
from ..card import MethodCard
from ..config import SOFT_ORGANS, Config, ConfigError
from ..context import FitContext
from ..method import Method

if TYPE_CHECKING:
    from ...datasets.healthy import HealthySet

ORGANS = ("liver", "lung", "kidney", "pancreas", "colon")
"""A baseline assumes nothing of the organ."""


class Untrained(Method):
    """A method that needs no healthy scan."""

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Nothing to learn."""


@dataclass(frozen=True)
class HuDeviationConfig(Config):
    """Settings of :class:`HuDeviation`; ``sigma`` in pixels, 0 means no smoothing."""

    sigma: float = field(default=2.0, metadata={"stage": "score"})


class HuDeviation(Untrained):
    """|Gaussian-smoothed HU − median HU of the region of interest|, both computed inside the region alone.

    What a learned method has to beat on liver.
    """

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
        anatomy=ORGANS,
        notes="Reference of the paired tests on liver. In-plane smoothing on the native grid, sigma in pixels.",
    )
    Config = HuDeviationConfig

    def score(self, case: Case) -> np.ndarray:
        """Return the absolute deviation in HU, float32 (z, y, x), 0 outside the region of interest."""
        sigma = self.config.sigma
        return map_in_roi(
            case, lambda image, roi: np.abs(smooth_in_roi(image, roi, sigma) - np.float32(np.median(image[roi])))
        )


@dataclass(frozen=True)
class HuThresholdConfig(Config):
    """Settings of :class:`HuThreshold`.

    ``origin`` is the HU counted as zero: the ``median`` of the region of interest, which takes the contrast phase out
    of the liver's HU, or 0 (``absolute``), because a diseased lung shifts its own median.
    """

    sign: Literal["darker", "brighter"] = field(default="darker", metadata={"stage": "score"})
    origin: Literal["median", "absolute"] = field(default="median", metadata={"stage": "score"})

    anatomies: ClassVar = {"lung": {"sign": "brighter", "origin": "absolute"}}


class HuThreshold(Untrained):
    """Signed HU, unsmoothed: brighter is more anomalous in lung, darker in the other organs.

    The threshold protocols turn it into plain thresholding.
    """

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
        anatomy=ORGANS,
        notes="Lung: HU. Other organs: ROI median minus HU.",
    )
    Config = HuThresholdConfig

    def score(self, case: Case) -> np.ndarray:
        """Return the signed HU of the image as it is :meth:`seen`, float32 (z, y, x), 0 outside the region."""
        return map_in_roi(case, self._signed)

    def seen(self, image: np.ndarray, roi: np.ndarray) -> np.ndarray:
        """Return the image before the origin is taken off, float32, same shape."""
        return image

    def _signed(self, image: np.ndarray, roi: np.ndarray) -> np.ndarray:
        seen = self.seen(image, roi)
        values = seen - np.float32(np.median(seen[roi]) if self.config.origin == "median" else 0.0)
        return -values if self.config.sign == "darker" else values


@dataclass(frozen=True)
class HuOpenedConfig(HuThresholdConfig):
    """Settings of :class:`HuOpened`; ``radius`` in voxels, ``sigma`` in pixels, 0 switches either off.

    ``origin=median`` is the median of the region as it is after both.
    """

    radius: int = field(default=2, metadata={"stage": "score"})
    sigma: float = field(default=2.0, metadata={"stage": "score"})


class HuOpened(HuThreshold):
    """Signed smoothed HU after a three-dimensional grey opening, so that bright vessels score nothing.

    What a learned method has to beat on lung.
    """

    card = MethodCard(
        name="hu-opened",
        title="Smoothed HU after removal of vessels",
        year=2026,
        family="trivial",
        citation="Baseline of this benchmark; grey opening: Serra, Image Analysis and Mathematical Morphology, 1982",
        reference="docs/methods.md, trivial baselines",
        deterministic=True,
        trivial=True,
        anatomy=ORGANS,
        notes="Reference of the paired tests on lung. Ball of 2 voxels; brighter in lung, darker in other organs.",
    )
    Config = HuOpenedConfig

    def seen(self, image: np.ndarray, roi: np.ndarray) -> np.ndarray:
        """Return the image opened by a ball, then smoothed."""
        return smooth_in_roi(open_in_roi(image, roi, self.config.radius), roi, self.config.sigma)


@dataclass(frozen=True)
class LocalResidualConfig(Config):
    """Settings of :class:`LocalResidual`; ``size`` is the side of the square neighbourhood in pixels, odd.

    The median is read from 256 grey levels of ``window`` (HU).
    """

    size: int = field(default=15, metadata={"stage": "score"})
    window: tuple[float, float] = field(default=(-200.0, 250.0), metadata={"stage": "score"})

    anatomies: ClassVar = {"lung": {"window": (-1000.0, 100.0)}, **SOFT_ORGANS}

    def __post_init__(self) -> None:
        if self.size < 3 or self.size % 2 == 0:
            raise ConfigError(f"size={self.size}: choose an odd number of pixels, at least 3")


class LocalResidual(Untrained):
    """|HU − local median|, where the in-plane neighbourhood holds only voxels of the region of interest."""

    card = MethodCard(
        name="local-residual",
        title="Local median residual",
        year=2026,
        family="trivial",
        citation="Baseline of this benchmark",
        reference="docs/methods.md, trivial baselines",
        deterministic=True,
        trivial=True,
        anatomy=ORGANS,
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


class RandomMap(Method):
    """Uniform noise in every voxel, from the seed and the id of the case: the floor of every metric."""

    card = MethodCard(
        name="random",
        title="Random scores",
        year=2026,
        family="trivial",
        citation="Baseline of this benchmark",
        reference="docs/methods.md, trivial baselines",
        trivial=True,
        anatomy=ORGANS,
        notes="Chance level: AUROC 0.5, AP = prevalence.",
    )

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Remember the seed; there is nothing to learn."""
        self.seed = ctx.seed_for("random-map")

    def score(self, case: Case) -> np.ndarray:
        """Return uniform noise in [0, 1), float32 (z, y, x)."""
        return np.random.default_rng(derive(self.seed, case.id)).random(case.image.shape, dtype=np.float32)


class RoiArea(Untrained):
    """Every voxel of a slice carries the slice's area of the region of interest: the confound of slice-level numbers.

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
        anatomy=ORGANS,
        notes="A slice-level confound; its voxel metrics mean nothing.",
    )

    def score(self, case: Case) -> np.ndarray:
        """Return the area of each slice in mm² at its voxels, float32 (z, y, x), 0 outside the region of interest."""
        area = case.roi.sum(axis=(1, 2)) * (case.spacing[1] * case.spacing[2])
        return np.where(case.roi, area[:, None, None], 0).astype(np.float32)


def map_in_roi(case: Case, compute: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply ``compute(image, roi)`` to the bounding box of the region of interest.

    Returns:
        float32, shape of ``case.image``, 0 outside the region of interest.
    """
    result = np.zeros(case.image.shape, np.float32)
    if case.roi.any():
        box = bounding_box(case.roi)
        roi = case.roi[box]
        result[box] = np.where(roi, compute(case.image[box], roi), 0)
    return result


def smooth_in_roi(image: np.ndarray, roi: np.ndarray, sigma: float) -> np.ndarray:
    """Blur every axial slice with a Gaussian of ``sigma`` pixels, so that HU outside ``roi`` never leaks in.

    Normalised convolution: blurred (image · roi) divided by blurred roi. Returns float32, 0 outside ``roi``.
    """
    if sigma == 0:
        return np.where(roi, image, 0).astype(np.float32)
    widths = (0.0, sigma, sigma)
    weight = ndimage.gaussian_filter(roi.astype(np.float32), widths, mode="constant")
    centre = np.float32(np.median(image[roi]))
    total = ndimage.gaussian_filter(np.where(roi, image - centre, 0).astype(np.float32), widths, mode="constant")
    return np.where(roi, total / np.where(roi, weight, 1) + centre, 0).astype(np.float32)


def open_in_roi(image: np.ndarray, roi: np.ndarray, radius: int) -> np.ndarray:
    """Grey opening with a ball of ``radius`` voxels over the voxels of ``roi`` alone; removes thin bright structures.

    Returns float32; a voxel outside ``roi`` neither erodes its neighbours nor gets a value (0).
    """
    if radius == 0:
        return np.where(roi, image, 0).astype(np.float32)
    ball = ball_footprint(radius)
    low = ndimage.minimum_filter(np.where(roi, image, np.inf), footprint=ball, mode="constant", cval=np.inf)
    high = ndimage.maximum_filter(np.where(roi, low, -np.inf), footprint=ball, mode="constant", cval=-np.inf)
    return np.where(roi, high, 0).astype(np.float32)


def ball_footprint(radius: int) -> np.ndarray:
    """Return a bool ball, shape (2·radius + 1,)·3."""
    axis = np.arange(-radius, radius + 1) ** 2
    return axis[:, None, None] + axis[:, None] + axis <= radius**2
