"""Patches from the same place of another patient's scan, interpolated (FPI) or blended by their gradients (PII)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from scipy.fft import dstn, idstn

from ...common.boxes import bounds
from ...common.errors import DataError

if TYPE_CHECKING:
    from ...datasets.healthy import HealthySet, SliceStack

MAX_DRAWS = 20
# own, foreign, common, alpha -> blended patch; the arrays have a ring of one pixel around the patch.
Blend = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]


def interpolate(own: np.ndarray, foreign: np.ndarray, common: np.ndarray, alpha: float) -> np.ndarray:
    """Return (1 − α)·own + α·foreign on the patch without its ring (Tan et al. 2020, FPI)."""
    inside = own[1:-1, 1:-1]
    return inside + alpha * (foreign[1:-1, 1:-1] - inside)


class SamePlace:
    """Find for a slice the slice of another patient at the same relative height of the organ.

    Livers and lungs of two scans are not aligned: the height of a slice is counted from the lowest (0) to the highest
    (1) slice of its scan that shows the region of interest.

    Args:
        patients: patient of each slice.
        cases: case of each slice.
        z: int (slices,), position of each slice in its case.

    Raises:
        DataError: all slices are of one patient.
    """

    def __init__(self, patients: list[str], cases: list[str], z: np.ndarray) -> None:
        names, self._patient_of = np.unique(np.asarray(patients), return_inverse=True)
        if len(names) < 2:
            raise DataError(
                f"foreign patches need healthy scans of two patients or more, found {len(names)} ({', '.join(names)}); "
                "add scans to the training set, or set donors=slices to take other slices of the same scan"
            )
        self._height = np.full(len(z), 0.5)
        for case in np.unique(np.asarray(cases)):
            of_case = np.flatnonzero(np.asarray(cases) == case)
            low, high = z[of_case].min(), z[of_case].max()
            if high > low:
                self._height[of_case] = (z[of_case] - low) / (high - low)
        self._sorted = []
        for patient in range(len(names)):
            slices = np.flatnonzero(self._patient_of == patient)
            self._sorted.append(slices[np.argsort(self._height[slices], kind="stable")])

    @classmethod
    def of(cls, healthy: HealthySet, stack: SliceStack) -> SamePlace:
        """Return the finder for the slices of a healthy set."""
        cases = [part.case for part in healthy.parts]
        return cls([cases[i].patient for i in stack.case_of], [cases[i].id for i in stack.case_of], stack.z_of)

    def donors(self, slices: np.ndarray, rng: Generator) -> np.ndarray:
        """Return for each slice one of another, random patient, int64 (n,)."""
        shift = rng.integers(1, len(self._sorted), len(slices))
        patients = (self._patient_of[slices] + shift) % len(self._sorted)
        return np.array(
            [self._nearest(p, float(self._height[s])) for p, s in zip(patients, slices, strict=True)], np.int64
        )

    def _nearest(self, patient: int, height: float) -> int:
        slices = self._sorted[patient]
        heights = self._height[slices]
        at = int(np.searchsorted(heights, height))
        near = [k for k in (at - 1, at) if 0 <= k < len(slices)]
        return int(slices[min(near, key=lambda k: abs(heights[k] - height))])


class AnySlice:
    """Find for a slice any other slice, of whatever patient: for a training set of one patient.

    Args:
        count: number of slices.

    Raises:
        DataError: there is one slice alone.
    """

    def __init__(self, count: int) -> None:
        if count < 2:
            raise DataError(f"foreign patches need two healthy slices or more, found {count}; add scans")
        self._count = count

    def donors(self, slices: np.ndarray, rng: Generator) -> np.ndarray:
        """Return for each slice another, random one, int64 (n,)."""
        return (slices + rng.integers(1, self._count, len(slices))) % self._count


@dataclass(frozen=True)
class ForeignPatches:
    """Blend a square of a foreign slice into each slice; the target is α where pixels really changed.

    Tan et al. 2020, §3: α, size and place are uniform. Sizes and places count in the bounding box of the region of
    interest, which stands for their whole image. "Same place" in the plane is the same relative position in the two
    bounding boxes, moved by whole pixels and never stretched. Only pixels that lie in both regions of interest change.

    Attributes:
        blend: :func:`interpolate` or :func:`poisson_blend`.
        alpha: range of α.
        half_width: range of half the patch's side, as share of the mean side of the bounding box.
        centre_share: share of the bounding box, about its centre, in which the patch has its centre.
        tolerance: change in grey value that a pixel of the target must exceed.
    """

    blend: Blend
    alpha: tuple[float, float] = (0.05, 0.95)
    half_width: tuple[float, float] = (0.05, 0.2)
    centre_share: float = 0.8
    tolerance: float = 0.0

    def __call__(
        self, images: np.ndarray, rois: np.ndarray, foreign: np.ndarray, foreign_rois: np.ndarray, rng: Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return slices with one patch each and their targets, float32 in [0, 1]; all arrays (n, H, W).

        A slice keeps target 0 where no pixel changes: the organs of some pairs hardly overlap, then ``MAX_DRAWS``
        patches are tried.
        """
        images = images.astype(np.float32)
        targets = np.zeros_like(images)
        for pair in zip(images, targets, rois, foreign, foreign_rois, strict=True):
            if pair[2].any() and pair[4].any():
                self._paste(*pair, rng)
        return images, targets

    def _paste(
        self,
        image: np.ndarray,
        target: np.ndarray,
        roi: np.ndarray,
        there: np.ndarray,
        there_roi: np.ndarray,
        rng: Generator,
    ) -> None:
        alpha = rng.uniform(*self.alpha)
        for _ in range(MAX_DRAWS):
            centre, half = self.draw_patch(roi, rng)
            other = same_position(centre, np.array(bounds(roi)), np.array(bounds(there_roi)))
            common = window(roi, centre, half) & window(there_roi, other, half)
            if common[1:-1, 1:-1].any():
                break
        else:
            return
        blended = np.clip(self.blend(window(image, centre, half), window(there, other, half), common, alpha), 0, 1)
        rows, columns = (slice(max(c - h, 0), c + h + 1) for c, h in zip(centre, half, strict=True))
        inner = tuple(slice(max(h - c, 0), None) for c, h in zip(centre, half, strict=True))
        here, new, allowed = image[rows, columns], blended[inner], common[1:-1, 1:-1][inner]
        height, width = here.shape
        new, allowed = new[:height, :width], allowed[:height, :width]
        changed = allowed & (np.abs(new - here) > self.tolerance)
        target[rows, columns][changed] = alpha
        here[changed] = new[changed]

    def draw_patch(self, roi: np.ndarray, rng: Generator) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return centre and half side of a patch in pixels, (y, x) each; it is 2·half + 1 pixels long.

        The centre is a pixel of the region of interest, in the middle of its bounding box where it has pixels there.
        """
        box = np.array(bounds(roi))
        sides = box[:, 1] - box[:, 0]
        half = max(1, round(rng.uniform(*self.half_width) * sides.mean()))
        pixels = np.argwhere(roi)
        away = np.abs(pixels + 0.5 - box.mean(axis=1)) / sides
        middle = pixels[(away <= self.centre_share / 2).all(axis=1)]
        chosen = middle if len(middle) else pixels
        y, x = chosen[rng.integers(len(chosen))]
        return (int(y), int(x)), (half, half)


def same_position(centre: tuple[int, int], box: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Return the pixel that lies in box ``other`` where ``centre`` lies in ``box``."""
    relative = (np.array(centre) + 0.5 - box[:, 0]) / (box[:, 1] - box[:, 0])
    y, x = np.floor(other[:, 0] + relative * (other[:, 1] - other[:, 0])).astype(int)
    return int(y), int(x)


def window(array: np.ndarray, centre: tuple[int, int], half: tuple[int, int]) -> np.ndarray:
    """Cut a patch with a ring of one pixel, (2·half + 3) long; zeros beyond the frame."""
    out = np.zeros([2 * h + 3 for h in half], array.dtype)
    source, target = [], []
    for c, h, length in zip(centre, half, array.shape, strict=True):
        first, last = max(c - h - 1, 0), min(c + h + 2, length)
        source.append(slice(first, last))
        target.append(slice(first - (c - h - 1), last - (c - h - 1)))
    out[tuple(target)] = array[tuple(source)]
    return out


def poisson_blend(own: np.ndarray, foreign: np.ndarray, common: np.ndarray, alpha: float) -> np.ndarray:
    """Blend ``foreign`` into ``own`` by mixed gradients (Pérez et al. 2003; Tan et al. 2021, PII).

    Between two neighbours the guidance is the larger in magnitude of (1 − α)·∇own and α·∇foreign; the pixels of the
    outer ring keep their value. Where one of two neighbours is not ``common``, the guidance is ∇own, so that neither
    image's background enters.

    Args:
        own: float (h + 2, w + 2), the patch with a ring of one pixel around it.
        foreign: same shape.
        common: bool, same shape; pixels that belong to the region of interest of both images.
        alpha: share of the foreign gradients, 0 to 1.

    Returns:
        float64 (h, w), the patch without its ring, neither clipped nor limited to ``common``.
    """
    own, foreign = own.astype(np.float64), foreign.astype(np.float64)
    down = _excess(np.diff(own, axis=0), np.diff(foreign, axis=0), common[1:] & common[:-1], alpha)
    right = _excess(np.diff(own, axis=1), np.diff(foreign, axis=1), common[:, 1:] & common[:, :-1], alpha)
    divergence = np.diff(down, axis=0)[:, 1:-1] + np.diff(right, axis=1)[1:-1]
    return own[1:-1, 1:-1] + solve_poisson(divergence)


def solve_poisson(divergence: np.ndarray) -> np.ndarray:
    """Solve Δu = ``divergence`` with the Laplacian of nearest neighbours and u = 0 around the rectangle or box.

    Both are float64, (h, w) or (d, h, w).
    """
    eigenvalues = reduce(np.add.outer, map(_eigenvalues, divergence.shape))
    return np.asarray(idstn(dstn(divergence, type=1) / eigenvalues, type=1))


def _excess(own: np.ndarray, foreign: np.ndarray, common: np.ndarray, alpha: float) -> np.ndarray:
    """Return the mixed guidance less the own gradient, 0 where a neighbour is not common."""
    weak, strong = (1 - alpha) * own, alpha * foreign
    mixed = np.where(np.abs(strong) > np.abs(weak), strong, weak)
    return np.where(common, mixed - own, 0.0)


@lru_cache(maxsize=1024)
def _eigenvalues(length: int) -> np.ndarray:
    """Eigenvalues of the second difference with zero ends."""
    return 2 * np.cos(np.pi * np.arange(1, length + 1) / (length + 1)) - 2


BLENDS: dict[str, Blend] = {"interpolation": interpolate, "poisson": poisson_blend}
