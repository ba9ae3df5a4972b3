"""Where a patient is painted: HU on a grid finer than the slices, labels on the slices."""

from __future__ import annotations

import numpy as np

from .shapes import Box, Space

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
        self.has_liver = False
        slices, height, width = space.shape[0] // SUB, space.shape[1], space.shape[2]
        self.labels = np.zeros((slices, height, width), np.uint8)

    def paint(self, box: Box, share: np.ndarray, value: float | np.ndarray, label: int = 0) -> None:
        """Cover ``share`` of the samples in ``box`` with ``value`` HU, and label where a slice's centre is covered."""
        target = self.hu[box]
        target += share * (value - target)
        if self.has_liver:
            self.liver[box] *= 1 - share
        slices, middle = central(box)
        self.labels[slices][share[middle] >= 0.5] = label

    def paint_liver(self, box: Box, share: np.ndarray, value: float, label: int) -> None:
        """Paint the liver itself and remember its occupancy."""
        self.paint(box, share, value, label)
        self.liver[box] += share
        self.has_liver = True


def central(box: Box) -> tuple[Box, slice]:
    """Return the slices whose centres lie inside a box of samples, and those samples within the box."""
    start = box[0].start or 0
    first = (SUB // 2 - start) % SUB
    z0, z1 = (start + first) // SUB, (box[0].stop - 1 - SUB // 2) // SUB + 1
    return (slice(z0, max(z0, z1)), box[1], box[2]), slice(first, None, SUB)
