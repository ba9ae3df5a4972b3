"""The corruptions of DISYRE (Naval Marimont et al. 2024): foreign texture and shifted grey classes in a shape."""

import math
from dataclasses import dataclass

import torch

HARMONICS = 4
LEAST_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Corruption:
    """Corrupt slices inside a soft random shape by a degree from 0, which changes nothing, to 1.

    First a foreign patch, whose least and largest value become those of the tissue that it covers, is blended in with
    a weight uniform in 0 … 1; then a bias of at most a second such number is added to or taken from randomly chosen
    grey classes. The degree is the larger of the weight and of the largest change by the bias.

    Attributes:
        classes: float32 (k,), grey values in [0, 1]; a pixel belongs to the nearest.
        sides: least and largest side of a shape in pixels.
        turn: largest turn of a shape in degrees.
        blur: largest standard deviation of the smoothing of a shape, in pixels.
        blur_share: share of shapes that are smoothed.
        bias_blur: standard deviation of the smoothing of the bias.
    """

    classes: torch.Tensor
    sides: tuple[float, float] = (10.0, 44.0)
    turn: float = 15.0
    blur: float = 5.0
    blur_share: float = 0.7
    bias_blur: float = 1.0

    def __call__(
        self,
        clean: torch.Tensor,
        organ: torch.Tensor,
        foreign: torch.Tensor,
        foreign_organ: torch.Tensor,
        draws: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return corrupted slices (n, H, W) in [0, 1] and their degrees (n,); all arguments are of this shape too.

        ``organ`` and ``foreign_organ`` are bool; pixels outside either stay as they are. A degree is 0 where no pixel
        changes.
        """
        weight, bias = torch.rand(2, len(clean), generator=draws, device=clean.device)
        masks, centres = self.shapes(organ, draws)
        there, there_organ = moved_onto(foreign, foreign_organ, centres, draws)
        return self.corrupted(clean, masks * organ, there, there_organ, weight, bias, draws)

    def corrupted(
        self,
        clean: torch.Tensor,
        masks: torch.Tensor,
        foreign: torch.Tensor,
        foreign_organ: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        draws: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Corrupt slices in soft masks (n, H, W) by a foreign texture of this weight and a bias of this size, (n,)."""
        usable = masks * foreign_organ
        share = usable * weight[:, None, None]
        textured = clean * (1 - share) + matched(foreign, clean, usable > 0) * share
        shift = self.shift_of_classes(clean, bias, draws) * masks
        changed = (textured + shift).clamp(0, 1)
        from_bias = (changed - textured.clamp(0, 1)).abs().amax((1, 2))
        from_texture = weight * (share > 0).any(2).any(1)
        degree = torch.maximum(from_texture, from_bias)
        return changed, torch.where((changed != clean).any(2).any(1), degree, torch.zeros_like(degree))

    def shift_of_classes(self, clean: torch.Tensor, bias: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """Return ±bias on the pixels of randomly chosen grey classes, smoothed, (n, H, W)."""
        count, device = len(clean), clean.device
        sign = 2.0 * torch.randint(2, (count,), generator=draws, device=device) - 1
        chosen = torch.rand(count, len(self.classes), generator=draws, device=device) < 0.5
        nearest = (clean[..., None] - self.classes).abs().argmin(-1)
        inside = chosen.gather(1, nearest.flatten(1)).view_as(clean).float()
        sigma = torch.full((count,), self.bias_blur, device=device)
        return smoothed(inside * (sign * bias)[:, None, None], sigma)

    def shapes(self, organ: torch.Tensor, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw soft shapes (n, H, W) and their centres (n, 2) on random pixels of the organ.

        Rectangles, ellipses and smooth random outlines have equal odds; the outline is an ellipse whose radius is
        changed by a few harmonics of the angle.
        """
        count, size, device = len(organ), organ.shape[-1], organ.device
        centres = random_pixels(organ, draws)
        uniform = torch.rand(count, 6, generator=draws, device=device)
        low, high = (side / 2 for side in self.sides)
        half = low + (high - low) * uniform[:, :2]
        angle = (2 * uniform[:, 2] - 1) * math.radians(self.turn)
        axis = torch.arange(size, device=device)
        dy = axis[None, :, None] - centres[:, 0, None, None]
        dx = axis[None, None, :] - centres[:, 1, None, None]
        cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
        v = (cosine * dy + sine * dx) / half[:, 0, None, None]
        u = (cosine * dx - sine * dy) / half[:, 1, None, None]
        radius, theta = (u**2 + v**2).sqrt(), torch.atan2(v, u)
        outline = torch.ones_like(radius)
        waves = torch.rand(count, HARMONICS, 2, generator=draws, device=device)
        for k in range(HARMONICS):
            size_of, phase = waves[:, k, 0, None, None] / (2 * HARMONICS), 2 * math.pi * waves[:, k, 1, None, None]
            outline = outline + size_of * torch.cos((k + 2) * theta + phase)
        kind = (3 * uniform[:, 3]).long()[:, None, None]
        rectangle = torch.maximum(u.abs(), v.abs()) < 1
        hard = torch.where(kind == 0, rectangle, radius < torch.where(kind == 1, torch.ones_like(outline), outline))
        sigma = self.blur * uniform[:, 4] * (uniform[:, 5] < self.blur_share)
        soft = smoothed(hard.float(), sigma)
        return torch.where(soft < LEAST_SHARE, 0.0, soft), centres


def random_pixels(inside: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Return one random pixel (y, x) of each mask (n, H, W), int64 (n, 2); any pixel where a mask is empty."""
    drawn = torch.rand(inside.shape, generator=draws, device=inside.device)
    best = (drawn + inside).flatten(1).argmax(dim=1)
    return torch.stack([best // inside.shape[-1], best % inside.shape[-1]], dim=1)


def moved_onto(
    images: torch.Tensor, organ: torch.Tensor, centres: torch.Tensor, draws: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift images (n, H, W) so that a random pixel of their organ lies on ``centres``; beyond the frame is none."""
    size, offset = images.shape[-1], random_pixels(organ, draws) - centres
    axis = torch.arange(size, device=images.device)
    rows, columns = axis + offset[:, :1], axis + offset[:, 1:]
    inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None]
    at = (rows.clamp(0, size - 1)[:, :, None] * size + columns.clamp(0, size - 1)[:, None]).flatten(1)
    return images.flatten(1).gather(1, at).view_as(images), organ.flatten(1).gather(1, at).view_as(organ) & inside


def matched(images: torch.Tensor, to: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Map the least and largest value of images inside masks linearly to those of ``to``, all (n, H, W)."""
    low, span = _range(images, inside)
    low_to, span_to = _range(to, inside)
    return (images - low) / span.clamp(min=1e-6) * span_to + low_to


def _range(images: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    low = torch.where(inside, images, 1.0).amin((1, 2), keepdim=True)
    high = torch.where(inside, images, 0.0).amax((1, 2), keepdim=True)
    return low, (high - low).clamp(min=0)


def smoothed(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Smooth images (n, H, W) by a Gaussian of a standard deviation of their own (n,), zeros around; 0 leaves them."""
    axis = torch.arange(images.shape[-1], device=images.device)
    distance = (axis[:, None] - axis).abs()[None] / sigma.clamp(min=1e-3)[:, None, None]
    kernel = torch.exp(-(distance**2) / 2)
    kernel = kernel / kernel[:, len(axis) // 2].sum(-1)[:, None, None]
    with torch.autocast(images.device.type, enabled=False):
        return kernel @ images @ kernel.transpose(1, 2)
