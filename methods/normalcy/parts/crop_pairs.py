"""What Screener's descriptors learn from: two overlapping crops of a scan, changed on their own, and their voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from ....common.boxes import Box, bounding_box
from ....datasets.views.volume_stack import VolumeStack
from ...pseudo_anomaly.parts.volume_crops import Crop, Shape, VolumeCrops

TILES, CLIP_LIMIT = 8, 0.01


@dataclass(frozen=True)
class Jitter:
    """Random changes of grey values in [0, 1], each with the same odds; ``strength`` 0 changes nothing.

    Attributes:
        strength: scales the ranges: exponents of 2^±0.7, factors of 1 ± 0.2, shifts of ± 0.1, noise of up to 0.05 and
            Gaussian filters of up to 1 voxel.
        probability: of each change.
    """

    strength: float = 1.0
    probability: float = 0.5

    def __call__(self, image: np.ndarray, roi: np.ndarray, rng: Generator) -> np.ndarray:
        """Return the changed crop, float32 in [0, 1] and 0 outside the organ."""
        chosen, drawn = rng.random(5) < self.probability, rng.uniform(-1, 1, 5) * self.strength
        if chosen[0]:
            image = image ** np.float32(2 ** (0.7 * drawn[0]))
        if chosen[1]:
            image = image * np.float32(1 + 0.2 * drawn[1])
        if chosen[2]:
            image = image + np.float32(0.1 * drawn[2])
        if chosen[3]:
            image = image + np.float32(0.05 * abs(drawn[3])) * rng.standard_normal(image.shape, np.float32)
        if chosen[4]:
            image = ndimage.gaussian_filter(image, abs(drawn[4]))
        return (np.clip(image, 0, 1) * roi).astype(np.float32)


def block_mask(shape: Shape, sides: tuple[int, int], share: tuple[float, float], rng: Generator) -> np.ndarray:
    """Return a mask of random cubes that cover at least a share drawn from a range; bool, of the given shape."""
    wanted = rng.uniform(*share) * np.prod(shape)
    mask = np.zeros(shape, bool)
    while np.count_nonzero(mask) < wanted:
        side = int(rng.integers(sides[0], sides[1] + 1))
        corner = [int(rng.integers(n - side + 1)) for n in shape]
        mask[tuple(slice(a, a + side) for a in corner)] = True
    return mask


def equalised(image: np.ndarray, roi: np.ndarray) -> np.ndarray:
    """Equalise the contrast of every slice in tiles of an eighth of its side (CLAHE); float32, 0 outside the organ.

    Args:
        image: in [0, 1], (z, y, x).
        roi: bool, same shape; slices without it are 0.
    """
    from skimage.exposure import equalize_adapthist

    out = np.zeros(image.shape, np.float32)
    kernel = max(2, image.shape[1] // TILES)
    for z in np.flatnonzero(roi.any(axis=(1, 2))):
        masked = np.multiply(image[z], roi[z], dtype=np.float32)
        out[z] = equalize_adapthist(masked, kernel, clip_limit=CLIP_LIMIT) * roi[z]
    return out


def places(box: Box, origin: np.ndarray, shape: Shape) -> np.ndarray:
    """Return where the voxels of a crop lie in an organ's box, 0 at its first and 1 past its last voxel; (3, z, y, x).

    Args:
        origin: int (3,), first voxel of the crop.
    """
    axes = [
        (np.arange(n) + 0.5 + o - part.start) / max(part.stop - part.start, 1)
        for n, o, part in zip(shape, origin, box, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


class CropPairs:
    """Crops of the healthy volumes and pairs of them; equalised volumes are kept, cut to the organ's box.

    Args:
        shape: of the crops.
        equalise: see :func:`equalised`.
    """

    def __init__(self, stack: VolumeStack, shape: Shape, *, equalise: bool) -> None:
        self.crops = VolumeCrops(stack, shape)
        self.equalise = equalise
        self._boxes: dict[int, Box] = {}
        self._equalised: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.crops.cases)

    def box(self, case: int) -> Box:
        """Return the bounding box of a case's organ; ``case`` counts through the stack."""
        if case not in self._boxes:
            self._boxes[case] = bounding_box(self.crops.stack.roi(case))
        return self._boxes[case]

    def one(self, case: int, rng: Generator) -> tuple[np.ndarray, Crop]:
        """Draw a crop around a voxel of the organ: its image, float32, and where it comes from."""
        run = self.crops.run_of(case, rng)
        crop = self.crops.around(run, self.crops.centre(run, rng))
        return self.seen(crop), crop

    def pair(self, case: int, rng: Generator) -> tuple[tuple[np.ndarray, Crop], tuple[np.ndarray, Crop]]:
        """Draw two crops that share a voxel of the organ: their images, float32, and where they come from."""
        run = self.crops.run_of(case, rng)
        centre = self.crops.centre(run, rng)
        far = np.maximum(np.array(self.crops.shape) // 2 - 1, 0)
        both = [self.crops.around(run, centre + rng.integers(-far, far + 1)) for _ in range(2)]
        return (self.seen(both[0]), both[0]), (self.seen(both[1]), both[1])

    def seen(self, crop: Crop) -> np.ndarray:
        """Return the image of a crop, equalised where that is wanted; float32, 0 outside the organ."""
        if not self.equalise:
            return crop.image
        case, box = crop.run.case, self.box(crop.run.case)
        if case not in self._equalised:
            stack = self.crops.stack
            self._equalised[case] = equalised(stack.image(case), stack.roi(case))[box].astype(np.float16)
        out = np.zeros(crop.image.shape, np.float32)
        ends = crop.origin + out.shape
        shown = [(max(o, b.start), min(e, b.stop)) for o, e, b in zip(crop.origin, ends, box, strict=True)]
        to = tuple(slice(a - o, e - o) for (a, e), o in zip(shown, crop.origin, strict=True))
        of = tuple(slice(a - b.start, e - b.start) for (a, e), b in zip(shown, box, strict=True))
        out[to] = self._equalised[case][of]
        return out * crop.roi


def common_voxels(one: Crop, other: Crop, count: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw voxels of the organ that two crops of a scan share; flat indices into either, int64 (count,) both."""
    shape = one.roi.shape
    low = np.maximum(one.origin, other.origin)
    high = np.minimum(one.origin, other.origin) + shape
    part, same = (
        tuple(slice(a, b) for a, b in zip(low - crop.origin, high - crop.origin, strict=True)) for crop in (one, other)
    )
    found = np.argwhere(one.roi[part] & other.roi[same])
    drawn = found[rng.choice(len(found), count, replace=len(found) < count)] + low
    first, second = (np.ravel_multi_index(tuple((drawn - crop.origin).T), shape) for crop in (one, other))
    return np.asarray(first, np.int64), np.asarray(second, np.int64)
