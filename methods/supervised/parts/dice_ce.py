"""Dice plus cross-entropy inside the region of interest, in plain torch."""

from __future__ import annotations

import torch
from torch.nn import functional

from ...losses import soft_dice

SMOOTH = 1e-5


def dice_and_cross_entropy(
    logits: torch.Tensor, lesion: torch.Tensor, roi: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 1 − the soft Dice of the lesion over the whole batch, and the mean cross-entropy; both inside the ROI.

    The batch is one sum, so that slices without a lesion do not turn their whole Dice on a single pixel.

    Args:
        logits: (n, 2, …), before the softmax.
        lesion: bool (n, …).
        roi: bool (n, …); other pixels count nowhere.
    """
    inside = roi.float()
    truth = lesion.float() * inside
    chance = torch.softmax(logits.float(), dim=1)[:, 1] * inside
    entropy = functional.cross_entropy(logits.float(), lesion.long(), reduction="none")
    return 1 - soft_dice(chance, truth, SMOOTH), (entropy * inside).sum() / inside.sum().clamp(min=1)
