"""Rectangles and thin scars cut from an image and pasted elsewhere in it: the anomalies of CutPaste."""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import grid_sample

Range = tuple[float, float]


@dataclass(eq=False)
class CutPastePatches:
    """Cut a rectangle at one pixel of the organ and paste it at another (Li et al. 2021, §2.2).

    Only tissue is moved, and only onto tissue: a piece of background inside an organ would be told at a glance.

    Attributes:
        generator: source of all randomness; its device does the work.
        area: range of a patch's area, as share of the image.
        aspect: range of a patch's height over width; half of the draws lie below 1.
        scar_width, scar_length: ranges of a scar's sides in pixels.
        scar_angle: largest turn of a scar in degrees.
        jitter: brightness and contrast of the pasted piece are multiplied by 1 ± jitter.
    """

    generator: torch.Generator
    area: Range = (0.02, 0.15)
    aspect: Range = (0.3, 3.3)
    scar_width: Range = (2.0, 16.0)
    scar_length: Range = (10.0, 25.0)
    scar_angle: float = 45.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.aspect[0] <= 1 <= self.aspect[1]:
            raise ValueError(f"aspect {self.aspect}: expected a range around 1")

    def patch(self, images: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Paste an upright rectangle into images, float32 (n, H, W) in [0, 1]; return them, and where it lies, bool."""
        count = len(images)
        area = self._between(count, *self.area) * images[0].numel()
        flat, tall = self._between(count, self.aspect[0], 1.0), self._between(count, 1.0, self.aspect[1])
        aspect = torch.where(self._between(count, 0, 1) < 0.5, flat, tall)
        angles = torch.zeros(count, device=images.device)
        return self._paste(images, rois, (area * aspect).sqrt(), (area / aspect).sqrt(), angles)

    def scar(self, images: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Paste a thin, turned rectangle into each image, as :meth:`patch` does."""
        count = len(images)
        width = self._between(count, *self.scar_width)
        length = self._between(count, *self.scar_length)
        angles = self._between(count, -self.scar_angle, self.scar_angle) * (math.pi / 180)
        return self._paste(images, rois, length, width, angles)

    def _paste(
        self, images: torch.Tensor, rois: torch.Tensor, height: torch.Tensor, width: torch.Tensor, angles: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fill turned rectangles with upright ones of the same sides."""
        rows, columns = (torch.arange(s, device=images.device, dtype=torch.float32) for s in images.shape[1:])
        cosine, sine = angles.cos()[:, None, None], angles.sin()[:, None, None]
        there, here = self._tissue_pixels(rois), self._tissue_pixels(rois)
        y, x = rows[None, :, None] - here[0], columns[None, None, :] - here[1]
        down, right = cosine * y + sine * x, cosine * x - sine * y
        # A rectangle thinner than a pixel still holds its centre.
        inside = (down.abs() <= height[:, None, None] / 2) & (right.abs() <= width[:, None, None] / 2)
        source = down + there[0], right + there[1]
        pasted = inside & rois & (_sample(rois.float(), *source, "nearest") > 0)
        # A turned piece lies between pixels: at the organ's edge it is the mean of those that are tissue.
        share = _sample(rois.float(), *source, "bilinear").clamp(min=1e-6)
        pieces = _sample(images * rois, *source, "bilinear") / share
        return torch.where(pasted, self._jittered(pieces, pasted), images), pasted

    def _jittered(self, pieces: torch.Tensor, pasted: torch.Tensor) -> torch.Tensor:
        count = len(pieces)
        brightness, contrast = (self._between(count, 1 - self.jitter, 1 + self.jitter) for _ in range(2))
        pieces = pieces * brightness[:, None, None]
        mean = (pieces * pasted).sum(dim=(1, 2), keepdim=True) / pasted.sum(dim=(1, 2), keepdim=True).clamp(min=1)
        return (mean + (pieces - mean) * contrast[:, None, None]).clamp(0, 1)

    def _tissue_pixels(self, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one pixel of each region, row and column as float (n, 1, 1)."""
        ranks = torch.rand(rois.shape, generator=self.generator, device=rois.device) * rois
        at = ranks.flatten(1).argmax(dim=1)
        width = rois.shape[2]
        return (at // width).float()[:, None, None], (at % width).float()[:, None, None]

    def _between(self, count: int, low: float, high: float) -> torch.Tensor:
        uniform = torch.rand(count, generator=self.generator, device=self.generator.device)
        return low + (high - low) * uniform


def _sample(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, mode: str) -> torch.Tensor:
    """Read images (n, H, W) at positions (n, H, W) in pixels, zeros from outside."""
    height, width = images.shape[1:]
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    return grid_sample(images[:, None], grid, mode=mode, padding_mode="zeros", align_corners=False)[:, 0]
