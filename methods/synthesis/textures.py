"""Textured anomalies of DRAEM (Zavrtanik et al. 2021): a Perlin mask filled with a texture blended with the image."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

TextureSource = Literal["perlin", "healthy"]
OPERATIONS_PER_TEXTURE = 3


@dataclass(eq=False)
class BlendedTextures:
    """Blend a texture into a Perlin mask: out = (1 − β)·texture + β·image inside the mask.

    Zavrtanik et al. 2021, §3.3, without a picture library: the texture is either the Perlin field that makes the mask
    (``perlin``, photometrically augmented) or another healthy slice whose intensity is scaled by 0.5 … 1.5
    (``healthy``).

    Attributes:
        size: side of the slices.
        generator: source of all randomness; its device does the work.
        octaves: largest binary logarithm of the number of Perlin cells per axis.
        threshold: Perlin value above which a pixel belongs to the mask.
        max_image_share: upper end of the uniform β.
        p_none: share of slices that stay as they are.
        other_slices: returns that many random healthy slices (uint8) and their regions of interest; for ``healthy``.
    """

    size: int
    generator: torch.Generator
    source: TextureSource = "perlin"
    octaves: int = 5
    threshold: float = 0.5
    max_image_share: float = 0.8
    p_none: float = 0.5
    other_slices: Callable[[int], Sequence[torch.Tensor]] | None = None

    def __post_init__(self) -> None:
        if self.source == "healthy" and self.other_slices is None:
            raise ValueError("texture source 'healthy' needs other_slices")

    def __call__(self, images: torch.Tensor, rois: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return uint8 images augmented, float32 in [0, 1], and masks inside ``rois``, bool; all (n, H, W)."""
        count = len(images)
        clean = images.float() / 255
        field = perlin_noise(count, self.size, self.generator, octaves=self.octaves)
        anomalous = self._uniform(count) >= self.p_none
        masks = (field > self.threshold) & rois & anomalous[:, None, None]
        share = self._uniform(count)[:, None, None] * self.max_image_share
        blended = (1 - share) * self._texture(field) + share * clean
        return torch.where(masks, blended, clean), masks

    def _texture(self, field: torch.Tensor) -> torch.Tensor:
        if self.source == "perlin" or self.other_slices is None:
            return augment(field.clamp(0, 1), self.generator)
        slices, rois = self.other_slices(len(field))
        texture = slices.float() / 255
        inside = (texture * rois).sum(dim=(1, 2), keepdim=True) / rois.sum(dim=(1, 2), keepdim=True).clamp(min=1)
        scale = 0.5 + self._uniform(len(field))[:, None, None]
        return (torch.where(rois, texture, inside) * scale).clamp(0, 1)

    def _uniform(self, count: int) -> torch.Tensor:
        return torch.rand(count, generator=self.generator, device=self.generator.device)


def augment(textures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Apply three different random operations to each texture, float32 (n, H, W) in [0, 1]."""
    device = textures.device
    order = torch.rand(len(textures), len(OPERATIONS), generator=generator, device=device).argsort(dim=1)
    apply = to_chosen if device.type == "cpu" else to_all
    out = textures
    for slot in range(OPERATIONS_PER_TEXTURE):
        out = apply(out, order[:, slot], generator)
    return out


def to_chosen(textures: torch.Tensor, numbers: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Apply operation ``numbers[i]`` to texture i; each operation to the textures that it is for."""
    out = textures.clone()
    for number, operation in enumerate(OPERATIONS):
        chosen = torch.nonzero(numbers == number)[:, 0]
        if len(chosen):
            out[chosen] = operation(out[chosen], generator).clamp(0, 1)
    return out


def to_all(textures: torch.Tensor, numbers: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Do the same without asking which textures an operation is for, which an accelerator would have to wait for."""
    ways = torch.stack([operation(textures, generator).clamp(0, 1) for operation in OPERATIONS])
    return ways[numbers, torch.arange(len(textures), device=textures.device)]


def _between(low: float, high: float, textures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    uniform = torch.rand(len(textures), generator=generator, device=textures.device)
    return (low + (high - low) * uniform)[:, None, None]


def _brightness(textures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    factor = _between(0.8, 1.2, textures, generator)
    return textures * factor + _between(-30 / 255, 30 / 255, textures, generator)


def _sharpness(textures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    smooth = avg_pool2d(textures[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    return smooth + (textures - smooth) * _between(0.5, 2.0, textures, generator)


def _solarise(textures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    cut = _between(32 / 255, 128 / 255, textures, generator)
    applied = _between(0, 1, textures, generator) < 0.5
    return torch.where((textures >= cut) & applied, 1 - textures, textures)


def _posterise(textures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    step = 2 ** (8 - _between(1, 9, textures, generator).floor())  # keeps 1 to 8 bits of a byte
    return ((textures * 255).round() / step).floor() * step / 255


def _autocontrast(textures: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    low, high = textures.amin((1, 2), keepdim=True), textures.amax((1, 2), keepdim=True)
    return (textures - low) / (high - low).clamp(min=1 / 255)


def _equalise(textures: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    levels = (textures * 255).long().view(len(textures), -1)
    histogram = torch.zeros(len(textures), 256, device=textures.device)
    histogram.scatter_add_(1, levels, torch.ones_like(levels, dtype=histogram.dtype))
    share = histogram.cumsum(1) / levels.shape[1]
    return share.gather(1, levels).view_as(textures)


OPERATIONS: tuple[Callable[[torch.Tensor, torch.Generator], torch.Tensor], ...] = (
    lambda textures, generator: textures ** _between(0.5, 2.0, textures, generator),
    _brightness,
    _sharpness,
    lambda textures, _: textures,  # changes of hue and saturation in the original leave grey images as they are
    _solarise,
    _posterise,
    lambda textures, _: 1 - textures,
    _autocontrast,
    _equalise,
    lambda textures, generator: rotate(textures, random_angles(len(textures), 45.0, generator)),
)


def perlin_noise(
    count: int, size: int, generator: torch.Generator, *, octaves: int = 5, max_angle: float = 90.0
) -> torch.Tensor:
    """Draw rotated Perlin noise, float32 (count, size, size), about −1 … 1, on the generator's device.

    Each axis of each sample has 2^k lattice cells with k uniform in 0 … ``octaves``; the sample is turned by a uniform
    angle up to ``max_angle`` degrees; what the turn brings in from outside the frame is 0. The noise is evaluated at
    the turned positions, so that nothing is interpolated twice.
    """
    device = generator.device
    cells = 2 ** torch.randint(0, octaves + 1, (count, 2), generator=generator, device=device)
    nodes = 2**octaves + 1
    angles = torch.rand(count, nodes * nodes, generator=generator, device=device) * (2 * math.pi)
    turns = _turns(random_angles(count, max_angle, generator))
    x, y = affine_grid(turns, [count, 1, size, size], align_corners=False).unbind(-1)  # −1 … 1 across the frame
    inside = (x.abs() <= 1) & (y.abs() <= 1)
    x = (x + 1) * 0.5 * cells[:, 0, None, None]
    y = (y + 1) * 0.5 * cells[:, 1, None, None]
    column, row = x.floor().clamp_(0, nodes - 2), y.floor().clamp_(0, nodes - 2)
    fx, fy = x - column, y - row
    first = (row * nodes + column).long().view(count, -1)
    cosines, sines = angles.cos(), angles.sin()

    def corner(dx: int, dy: int) -> torch.Tensor:
        at = first + (dy * nodes + dx)
        along_x = cosines.gather(1, at).view_as(fx) * (fx - dx)
        return along_x + sines.gather(1, at).view_as(fy) * (fy - dy)

    wx, wy = _fade(fx), _fade(fy)
    top = torch.lerp(corner(0, 0), corner(1, 0), wx)
    bottom = torch.lerp(corner(0, 1), corner(1, 1), wx)
    return math.sqrt(2) * torch.lerp(top, bottom, wy) * inside


def random_angles(count: int, max_angle: float, generator: torch.Generator) -> torch.Tensor:
    """Return ``count`` uniform angles between −``max_angle`` and ``max_angle`` degrees, in radians."""
    uniform = torch.rand(count, generator=generator, device=generator.device) * 2 - 1
    return uniform * math.radians(max_angle)


def rotate(images: torch.Tensor, angles: torch.Tensor, *, nearest: bool = False) -> torch.Tensor:
    """Turn float images (n, H, W) about their centre, zeros from outside; bilinear, or nearest for masks."""
    grid = affine_grid(_turns(angles), [len(images), 1, *images.shape[-2:]], align_corners=False)
    mode = "nearest" if nearest else "bilinear"
    return grid_sample(images[:, None], grid, mode=mode, padding_mode="zeros", align_corners=False)[:, 0]


def _turns(angles: torch.Tensor) -> torch.Tensor:
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    return torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)


def _fade(t: torch.Tensor) -> torch.Tensor:
    return t * t * t * (t * (t * 6 - 15) + 10)
