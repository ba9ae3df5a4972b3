"""Groups of feature maps that a decoder gives back: their targets, and Dinomaly's loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .backbone import cosine_distance

if TYPE_CHECKING:
    import torch


def recentred(tokens: torch.Tensor, prefix: int) -> torch.Tensor:
    """Return the LayerNorm (ε 10⁻⁸, no weights) of tokens (n, t, width) minus the first one, the class token.

    Args:
        prefix: tokens before those of the patches; 0 subtracts the mean of all instead.
    """
    from torch.nn.functional import layer_norm

    centre = tokens[:, :1] if prefix else tokens.mean(dim=1, keepdim=True)
    return layer_norm(tokens - centre, tokens.shape[-1:], eps=1e-8)


def group_loss(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], easy: float, factor: float) -> torch.Tensor:
    """Return the mean over groups and slices of 1 − cosine of the flattened maps.

    Args:
        pairs: encoded and decoded maps (n, c, h, w).
        easy: share of the positions of a batch, those with the least distance, whose gradient is multiplied by
            ``factor``; the value of the loss is the same.
    """
    from torch.nn.functional import cosine_similarity

    losses = []
    for encoded, decoded in pairs:
        distance = cosine_distance(encoded, decoded.detach())
        hardest = distance.flatten().topk(max(1, int(distance.numel() * (1 - easy)))).values[-1]
        scale = (distance < hardest).float() * (factor - 1) + 1
        same_value = decoded.detach() + (decoded - decoded.detach()) * scale[:, None]
        losses.append((1 - cosine_similarity(encoded.flatten(1), same_value.flatten(1))).mean())
    return sum(losses[1:], start=losses[0]) / len(losses)


def mean_of(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean of tensors of one shape."""
    import torch

    return torch.stack(list(tensors)).mean(dim=0)
