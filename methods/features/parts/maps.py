"""From maps of distances to pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def upsample(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Enlarge maps (n, h, w) bilinearly to (n, size, size)."""
    from torch.nn import functional

    return functional.interpolate(maps[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def smooth(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth maps (n, H, W) with a Gaussian of ``sigma`` pixels, cut at 4 σ, mirrored at the border; 0 is off."""
    import torch
    from torch.nn import functional

    if sigma == 0:
        return maps
    radius = min(int(4 * sigma + 0.5), min(maps.shape[1:]) - 1)
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32, device=maps.device)
    kernel = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    with torch.autocast(maps.device.type, enabled=False):
        padded = functional.pad(maps.float()[:, None], (radius,) * 4, mode="reflect")
        rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
        return functional.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]


def cosine_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return 1 − the cosine of feature maps (n, c, h, w) at every position, float32 (n, h, w)."""
    from torch.nn import functional

    return 1 - functional.cosine_similarity(a.float(), b.float(), dim=1)
