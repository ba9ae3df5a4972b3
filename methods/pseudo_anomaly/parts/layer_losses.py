"""Losses of layer decomposition, in plain torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...losses import soft_dice

SMOOTH = 1e-5


def soft_dice_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return 1 − the soft Dice of a sigmoid, averaged over samples.

    Args:
        logits: (n, …), before the sigmoid.
        mask: float, same shape, 0 and 1.
    """
    return 1 - soft_dice(logits.float().sigmoid(), mask, SMOOTH, per_sample=True).mean()


def decomposition_losses(
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return Dice of the mask, mean absolute errors of both layers, and these once more inside the mask alone.

    All have weight 1 in their sum (Zhang et al. 2021).

    Args:
        outputs: normal layer, lesion layer and logits of the mask, (n, 1, Z, Y, X).
        batch: ``normal``, ``lesion`` and ``mask``, float32 of the same shape.
    """
    normal, lesion, logits = outputs
    mask = batch["mask"]
    inside = mask.sum().clamp(min=1)
    errors = {
        "normal": (normal.float() - batch["normal"]).abs(),
        "lesion": (lesion.float() - batch["lesion"]).abs(),
    }
    return {
        "dice": soft_dice_loss(logits, mask),
        **{name: error.mean() for name, error in errors.items()},
        **{f"{name} inside": (error * mask).sum() / inside for name, error in errors.items()},
    }
