"""The ascent of vae-restoration: move a slice towards what a generative model finds likely (You et al. 2019)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ...training import as_input
from .input_gradient import pixel_gradient

Bound = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Ascent:
    """How far to go.

    Attributes:
        steps: updates of the slice.
        rates: step size of the first ``early`` steps and of the others, in grey values of [0, 1] per unit of gradient.
        early: number of steps at the first rate.
        clip: largest gradient of a pixel.
    """

    steps: int
    rates: tuple[float, float]
    early: int
    clip: float


def total_variation(images: torch.Tensor) -> torch.Tensor:
    """Return the sum of absolute differences of neighbouring pixels, (n, 1, H, W) to (n,)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().sum((1, 2, 3))
    return down + (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().sum((1, 2, 3))


def restore(x: torch.Tensor, roi: torch.Tensor, bound: Bound, weight: float, ascent: Ascent) -> torch.Tensor:
    """Climb ``bound(y) − weight · TV(x − y)`` from y = x, inside ``roi`` only, with clipped gradients.

    The penalty is on what has been taken from the slice, not on the difference to a reconstruction: a restoration is a
    piecewise constant change of the input (You et al. 2019, PMLR 102).

    Args:
        x: float32 (n, 1, H, W).
        roi: bool (n, 1, H, W).
        bound: lower bound of the log likelihood, (n, 1, H, W) to (n,); its networks in evaluation mode.
        weight: of the total variation.
        ascent: number and size of the steps.

    Returns:
        float32, shape of ``x``; slices do not influence each other.
    """
    restored = x
    for i in range(ascent.steps):
        rate = ascent.rates[0] if i < ascent.early else ascent.rates[1]
        gradient = pixel_gradient(lambda y: bound(y) - weight * total_variation(x - y), restored)
        restored = restored + rate * gradient.clamp(-ascent.clip, ascent.clip) * roi
    return restored


def restored_slices(
    array: np.ndarray, roi: np.ndarray, bound: Bound, weight: float, ascent: Ascent, *, batch: int, device: str
) -> np.ndarray:
    """Return :func:`restore` of many slices (slices, H, W), float32, same shape; uint8 is divided by 255."""
    out = np.empty(array.shape, np.float32)
    for start in range(0, len(array), batch):
        part = slice(start, start + batch)
        x, inside = as_input(array[part], device), as_input(roi[part], device) > 0
        out[part] = restore(x, inside, bound, weight, ascent)[:, 0].cpu().numpy()
    return out


def healthy_weight(changes: dict[float, float]) -> float:
    """Return the weight whose restoration changes healthy slices least, the smaller one of equals.

    Args:
        changes: mean |x − restored| of healthy slices by weight of the total variation.
    """
    return min(changes, key=lambda weight: (changes[weight], weight))
