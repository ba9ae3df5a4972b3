"""Where a patient is painted: HU on a grid finer than the slices, labels on the slices."""

import numpy as np

from .fields import smooth_field
from .shapes import Box, Point, Space, lay

SUB = 3  # samples per slice thickness; the middle one lies at the slice's centre and carries the labels


class Canvas:
    """Painter's algorithm with soft occupancies: what is painted later covers what was there.

    Attributes:
        hu: float32, samples (z, y, x).
        liver: float32, share of liver in every sample, including its vessels and tumours.
        labels: uint8, slices (z, y, x), BTCV organ numbers.
    """

    def __init__(self, space: Space, background: float) -> None:
        self.space = space
        self.hu = np.full(space.shape, background, np.float32)
        self.liver = np.zeros(space.shape, np.float32)
        slices, height, width = space.shape[0] // SUB, space.shape[1], space.shape[2]
        self.labels = np.zeros((slices, height, width), np.uint8)

    def paint(self, box: Box, share: np.ndarray, value: float | np.ndarray, label: int = 0) -> None:
        """Cover ``share`` of the samples in ``box`` with ``value`` HU, and label where a slice's centre is covered."""
        lay(self.hu[box], share, value)
        self.liver[box] *= 1 - share
        slices, middle = central(box)
        self.labels[slices][share[middle] >= 0.5] = label

    def paint_liver(self, box: Box, share: np.ndarray, value: float, label: int) -> None:
        self.paint(box, share, value, label)
        self.liver[box] += share


def central(box: Box) -> tuple[Box, slice]:
    """Return the slices whose centres lie inside a box of samples, and those samples within the box."""
    start = box[0].start or 0
    first = (SUB // 2 - start) % SUB
    z0, z1 = (start + first) // SUB, (box[0].stop - 1 - SUB // 2) // SUB + 1
    return (slice(z0, max(z0, z1)), box[1], box[2]), slice(first, None, SUB)


def mark(
    truth: np.ndarray, seen: np.ndarray, box: Box, share: np.ndarray, values: np.ndarray, spacing: Point
) -> tuple[float, int, float]:
    """Add what fills half a voxel of ``seen`` to ``truth``; return its mean of ``values``, new voxels and their ml.

    ``share`` and ``values`` are on the samples of ``box``, ``truth`` and ``seen`` bool on the slices.
    """
    slices, middle = central(box)
    mask = (share[middle] >= 0.5) & seen[slices]
    own = mask & ~truth[slices]
    truth[slices] |= mask
    mean = float(values[middle][mask].mean()) if mask.any() else 0.0
    return mean, int(own.sum()), float(own.sum() * np.prod(spacing) / 1000)


def deformed_space(rng: np.random.Generator, slices: int, pixels: int, spacing: tuple[float, float, float]) -> Space:
    """Return the samples of a scan, bent, turned and scaled differently for every patient.

    ``spacing`` of the voxels in mm, z, y, x; the samples are finer by ``SUB`` along z.
    """

    def centred(count: int, step: float) -> np.ndarray:
        return ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)

    z = centred(slices * SUB, spacing[0] / SUB) + np.float32(rng.uniform(-4, 4))
    plane = centred(pixels, spacing[2])
    axes = (z, plane, plane)
    scale = np.float32(1 / np.clip(1 + 0.04 * rng.standard_normal(), 0.92, 1.08))
    turn = np.float32(np.clip(0.04 * rng.standard_normal(), -0.08, 0.08))
    y, x = plane[:, None] * scale, plane[None] * scale
    turned = (z[:, None, None] * scale, (y - turn * x)[None], (x + turn * y)[None])
    warped = tuple(np.float32(5.0) * smooth_field(rng, axes, 55.0).clip(-2, 2) + base for base in turned)
    return Space(axes, (warped[0], warped[1], warped[2]), spacing[2])
