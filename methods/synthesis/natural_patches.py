"""Patches of another slice, resized, moved and cloned in without seams, with targets that say how much changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from scipy import ndimage
from scipy.special import expit

from ...common.boxes import bounds
from .foreign_patch import solve_poisson, window

MAX_TRIES = 200
Range = tuple[float, float]


@dataclass(frozen=True)
class NaturalPatches:
    """Clone patches of a foreign slice into each slice (Schlüter et al. 2022, released code, chest X-ray settings).

    Sizes and places count in the bounding box of the region of interest, which stands for the whole image. Only
    tissue is moved, and only onto tissue.

    Attributes:
        hu: width of the window in HU, what grey values of [0, 1] stand for.
        patches: most patches; the first is always tried, every other one with probability ½.
        least, gamma, limits: half a patch's side per axis is ``least`` plus a gamma variate of (shape, scale), cut to
            ``limits``; as shares of the box's side.
        scale_std, scale: standard deviation of the normal variate about 1 that the patch is resized by, and its cuts.
        overlap: least share of tissue in the patch, and of that tissue that must fall on tissue.
        min_pixels: fewest pixels that a patch may replace.
        tolerance: change in HU from which a pixel counts as changed.
        mask_median: side of the square median on what is changed.
        label: ``logistic`` weighs changed pixels by how much they changed, ``binary`` does not.
        midpoint, steepness: HU of a change whose target is ½, and slope per HU of the logistic function.
        disk: radius in pixels of the median on the change before the logistic function.
    """

    hu: float
    patches: int = 3
    least: float = 0.05
    gamma: Range = (2.0, 0.03)
    limits: Range = (0.03, 0.4)
    scale_std: float = 0.5
    scale: Range = (0.7, 1.3)
    overlap: float = 0.7
    min_pixels: int = 50
    tolerance: float = 2.0
    mask_median: int = 5
    label: Literal["logistic", "binary"] = "logistic"
    midpoint: float = 18.0
    steepness: float = 1 / 9
    disk: int = 5

    def __call__(
        self, images: np.ndarray, rois: np.ndarray, foreign: np.ndarray, foreign_rois: np.ndarray, rng: Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return slices with patches and their targets, float32 in [0, 1]; all arrays (n, H, W).

        A patch for which ``MAX_TRIES`` draws find no place is left out; a slice without any has target 0.
        """
        changed = images.astype(np.float32)
        targets = np.zeros_like(changed)
        for k in np.flatnonzero(rois.any(axis=(1, 2)) & foreign_rois.any(axis=(1, 2))):
            own = changed[k].copy()
            for _ in range(1 + rng.binomial(self.patches - 1, 0.5)):
                self._paste(changed[k], rois[k], foreign[k], foreign_rois[k], rng)
            targets[k] = self.target(own, changed[k]) * rois[k]
        return changed, targets

    def target(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return how anomalous each pixel of a changed slice (H, W) is, float32 in [0, 1]."""
        change = np.abs(after - before) * np.float32(self.hu)
        out = np.zeros_like(change)
        if not change.any():
            return out
        margin = max(self.disk, self.mask_median)
        rows, columns = (slice(max(a - margin, 0), b + margin) for a, b in bounds(change > 0))
        part = change[rows, columns]
        mask = ndimage.median_filter((part > self.tolerance).view(np.uint8), size=self.mask_median, mode="constant") > 0
        if self.label == "logistic":
            at = np.arange(-self.disk, self.disk + 1)
            disk = at[:, None] ** 2 + at**2 <= self.disk**2
            smooth = ndimage.median_filter(part, footprint=disk, mode="constant")
            out[rows, columns] = expit((smooth - self.midpoint) * self.steepness) * mask
        else:
            out[rows, columns] = mask
        return out

    def _paste(
        self, image: np.ndarray, roi: np.ndarray, there: np.ndarray, there_roi: np.ndarray, rng: Generator
    ) -> None:
        own_box, box = (np.array(bounds(region)) for region in (roi, there_roi))
        for _ in range(MAX_TRIES):
            half = self.draw_half(box, rng)
            centre = uniform_pixel(box, rng)
            tissue = window(there_roi, centre, half)
            if tissue[1:-1, 1:-1].mean() < self.overlap:
                continue
            factor = np.clip(rng.normal(1, self.scale_std), *self.scale)
            new_half = (max(1, round(half[0] * factor)), max(1, round(half[1] * factor)))
            patch, tissue = resized(window(there, centre, half), tissue, (2 * new_half[0] + 3, 2 * new_half[1] + 3))
            to = uniform_pixel(own_box, rng)
            common = tissue & window(roi, to, new_half)
            inner = common[1:-1, 1:-1]
            if inner.sum() >= max(self.overlap * tissue[1:-1, 1:-1].sum(), self.min_pixels):
                break
        else:
            return
        cloned = np.clip(seamless_clone(window(image, to, new_half), patch, common), 0, 1)
        at = np.argwhere(inner)
        image[tuple((at + np.array(to) - np.array(new_half)).T)] = cloned[inner]

    def draw_half(self, box: np.ndarray, rng: Generator) -> tuple[int, int]:
        """Return half a patch's height and width in pixels; it is 2·half + 1 pixels long."""
        shares = np.clip(self.least + rng.gamma(*self.gamma, 2), *self.limits)
        height, width = (max(1, round(share * side)) for share, side in zip(shares, np.diff(box)[:, 0], strict=True))
        return height, width


def uniform_pixel(box: np.ndarray, rng: Generator) -> tuple[int, int]:
    """Return a pixel of a box ((first row, end), (first column, end))."""
    y, x = rng.integers(box[:, 0], box[:, 1])
    return int(y), int(x)


def seamless_clone(own: np.ndarray, foreign: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Put the gradients of ``foreign`` into ``own`` (Pérez et al. 2003, seamless cloning).

    The pixels of the outer ring keep their value. Where one of two neighbours is not ``common`` the gradient is that
    of ``own``, so that neither image's background enters.

    Args:
        own: float (h + 2, w + 2), the patch with a ring of one pixel around it.
        foreign: same shape.
        common: bool, same shape; pixels that belong to the region of interest of both images.

    Returns:
        float64 (h, w), the patch without its ring, neither clipped nor limited to ``common``.
    """
    other = foreign.astype(np.float64) - own
    down = np.where(common[1:] & common[:-1], np.diff(other, axis=0), 0.0)
    right = np.where(common[:, 1:] & common[:, :-1], np.diff(other, axis=1), 0.0)
    return own[1:-1, 1:-1] + solve_poisson(np.diff(down, axis=0)[:, 1:-1] + np.diff(right, axis=1)[1:-1])


def read_tissue(
    image: np.ndarray, roi: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Read a slice (H, W) bilinearly at positions in pixels, from its region of interest alone.

    Returns:
        float32 values, 0 outside; bool, where at least half of what is read is tissue.
    """
    at = np.broadcast_arrays(rows, columns)
    share = ndimage.map_coordinates(roi.astype(np.float32), at, order=1)
    values = ndimage.map_coordinates(np.where(roi, image, 0).astype(np.float32), at, order=1)
    inside = share >= 0.5
    return np.divide(values, share, out=np.zeros_like(values), where=inside), inside


def resized(image: np.ndarray, roi: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Resize a patch (H, W) and its region of interest; see :func:`read_tissue`."""
    rows, columns = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(shape, image.shape, strict=True))
    rows, columns = (p.clip(0, m - 1) for p, m in zip((rows, columns), image.shape, strict=True))
    return read_tissue(image, roi, rows[:, None], columns[None])


def jittered(
    images: np.ndarray, rois: np.ndarray, degrees: float, pixels: float, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Turn slices (n, H, W) about their middle by up to ±``degrees`` and move them by up to ±``pixels`` per axis."""
    middle = (np.array(images.shape[1:]) - 1) / 2
    rows, columns = np.arange(images.shape[1])[:, None], np.arange(images.shape[2])[None]
    out, inside = np.empty(images.shape, np.float32), np.empty(rois.shape, bool)
    for i, (image, roi) in enumerate(zip(images, rois, strict=True)):
        angle = np.deg2rad(rng.uniform(-degrees, degrees))
        y, x = rng.uniform(-pixels, pixels, 2)
        down, right = rows - middle[0] - y, columns - middle[1] - x
        cosine, sine = np.cos(angle), np.sin(angle)
        turned = cosine * down - sine * right + middle[0], sine * down + cosine * right + middle[1]
        out[i], inside[i] = read_tissue(image, roi, *turned)
    return out, inside
