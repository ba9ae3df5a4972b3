"""Random mirroring, turns, scales and grey values of training slices, as DISYRE draws them before it corrupts."""

import torch

from .corruption import smoothed
from .motion import Motion, moved

TURN, ZOOM, MOVED = 15.0, 0.25, 0.1
BRIGHTNESS, GAMMA, MOST_VARIANCE, BLUR, CHANGED = 0.1, (0.5, 2.0), 0.05, (0.5, 1.5), 0.15


def augmented(images: torch.Tensor, organ: torch.Tensor, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slices (n, 1, H, W) in [0, 1], 0 outside the organ, and their regions, float32, both moved alike.

    Turns of up to 15° and scales of 0.75 to 1.25 have odds of 0.1 each, mirroring along each axis of 0.5. Brightness
    by 0.9 to 1.1, a power of 0.5 to 2 (of the inverted image in half of the cases), noise of variance up to 0.05 and
    blur of 0.5 to 1.5 pixels have odds of 0.15 each (Naval Marimont et al. 2024, released code, without elastic
    deformation).
    """
    count, device = len(images), images.device
    matrices = Motion(TURN, 0, 0, MOVED).matrices(count, images.shape[-1], draws)
    scales = Motion(0, 0, ZOOM, MOVED).matrices(count, images.shape[-1], draws)
    matrices = torch.cat([matrices[:, :, :2] @ scales[:, :, :2], matrices[:, :, 2:]], dim=2)
    mirrored = 1.0 - 2.0 * torch.randint(2, (count, 1, 2), generator=draws, device=device)
    matrices = torch.cat([matrices[:, :, :2] * mirrored, matrices[:, :, 2:]], dim=2)
    images, organ = moved(images, matrices), moved(organ, matrices, nearest=True)

    def between(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=draws, device=device)

    def chosen(share: float = CHANGED) -> torch.Tensor:
        return torch.rand(count, 1, 1, 1, generator=draws, device=device) < share

    images = torch.where(chosen(), images * between(1 - BRIGHTNESS, 1 + BRIGHTNESS), images).clamp(0, 1)
    power, inverted = between(*GAMMA), chosen(0.5)
    bent = torch.where(inverted, 1 - (1 - images) ** power, images**power)
    images = torch.where(chosen(), bent, images)
    noise = torch.randn(images.shape, generator=draws, device=device) * between(0, MOST_VARIANCE).sqrt()
    images = torch.where(chosen(), images + noise, images)
    blurred = smoothed(images[:, 0], between(*BLUR).flatten())[:, None]
    images = torch.where(chosen(), blurred, images)
    return images.clamp(0, 1) * (organ > 0), organ
