"""A square crop around the region of interest of every slice, and the way back: for methods of several families."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class SquareCrops:
    """One square per slice, resized to ``patch`` pixels; it may reach beyond the slice, where values are 0.

    Attributes:
        top, left, side: float32 (n,), in pixels of the slice.
        size: side of the slices.
        patch: side of the crops.
    """

    top: torch.Tensor
    left: torch.Tensor
    side: torch.Tensor
    size: int
    patch: int

    @classmethod
    def around(cls, roi: torch.Tensor, patch: int) -> SquareCrops:
        """Centre a square on the bounding box of each region; it is as long as the longer side of the box.

        It is never smaller than ``patch``, so that small regions are not enlarged; without a region it is the middle.

        Args:
            roi: bool (n, size, size).
        """
        first_row, last_row = _extent(roi.any(dim=2))
        first_column, last_column = _extent(roi.any(dim=1))
        longer = torch.maximum(last_row - first_row, last_column - first_column)
        side = longer.clamp(min=min(patch, roi.shape[-1])).float()
        top = (first_row + last_row).float() / 2 - side / 2
        left = (first_column + last_column).float() / 2 - side / 2
        return cls(top, left, side, roi.shape[-1], patch)

    def take(self, images: torch.Tensor) -> torch.Tensor:
        """Crop slices (n, 1, size, size) to (n, 1, patch, patch): pixels are means over the area they cover."""
        rows, columns = self._covered(self.top), self._covered(self.left)
        with torch.autocast(images.device.type, enabled=False):  # grey values, and NumPy, which has no bfloat16
            return (rows @ images[:, 0] @ columns.transpose(1, 2))[:, None]

    def put_back(self, maps: torch.Tensor) -> torch.Tensor:
        """Bring maps (n, patch, patch) to the slices' grid (n, size, size), bilinearly, 0 outside the squares."""
        rows, columns = self._read(self.top), self._read(self.left)
        with torch.autocast(maps.device.type, enabled=False):
            return rows @ maps @ columns.transpose(1, 2)

    def _covered(self, start: torch.Tensor) -> torch.Tensor:
        """Return how much of each patch pixel each slice pixel covers, (n, patch, size); 1 in all inside the slice."""
        step = (self.side / self.patch)[:, None, None]
        low = start[:, None, None] + step * torch.arange(self.patch, device=start.device)[None, :, None]
        pixel = torch.arange(self.size, device=start.device)[None, None]
        return (torch.minimum(low + step, pixel + 1) - torch.maximum(low, pixel)).clamp(min=0) / step

    def _read(self, start: torch.Tensor) -> torch.Tensor:
        """Return the bilinear weights with which each slice pixel reads the patch, (n, size, patch)."""
        centre = torch.arange(self.size, device=start.device)[None] + 0.5
        at = (centre - start[:, None]) * (self.patch / self.side)[:, None] - 0.5
        inside = (at >= -0.5) & (at <= self.patch - 0.5)
        distance = at.clamp(0, self.patch - 1)[..., None] - torch.arange(self.patch, device=start.device)
        return (1 - distance.abs()).clamp(min=0) * inside[..., None]


def _extent(lines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first and one past the last True of each row, int64 (n,); the whole row where there is none."""
    length = lines.shape[1]
    found = lines.to(torch.uint8)
    first = found.argmax(dim=1)
    last = length - found.flip(1).argmax(dim=1)
    return first, torch.where(lines.any(dim=1), last, length)
