"""Gradients with respect to the pixels, and what turns them into a map: for kl-grad, context-vae, vae-restoration."""

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage

from ...training import as_input


def pixel_gradient(objective: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Differentiate ``objective``, one number per slice, with respect to the slices.

    The numbers are summed, never averaged, so that the gradient of a slice does not depend on the others of its batch;
    the networks behind ``objective``, (n, 1, H, W) to (n,), must be in evaluation mode. Float32, also inside autocast
    or inference mode, and detached; gradients of parameters are not touched.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        leaf = x.detach().float().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective(leaf).sum(), leaf)
    return gradient


def gradient_maps(
    objective: Callable[[torch.Tensor], torch.Tensor], array: np.ndarray, *, batch: int, device: str
) -> np.ndarray:
    """Return :func:`pixel_gradient` of many slices (slices, H, W), float32, same shape; uint8 is divided by 255."""
    out = np.empty(array.shape, np.float32)
    for start in range(0, len(array), batch):
        chunk = as_input(array[start : start + batch], device)
        out[start : start + batch] = pixel_gradient(objective, chunk)[:, 0].cpu().numpy()
    return out


def smoothed(map_: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """Convolve every slice with a normalised Gaussian of ``size`` × ``size`` pixels, zeros beyond the border."""
    half = size // 2
    return ndimage.gaussian_filter(map_, (0, sigma, sigma), mode="constant", radius=(0, half, half))


def min_max(map_: np.ndarray, roi: np.ndarray) -> np.ndarray:
    """Scale every slice so that its values inside ``roi`` span [0, 1]; 0 outside and where all values are equal."""
    low = np.min(map_, axis=(1, 2), keepdims=True, where=roi, initial=np.inf)
    span = np.max(map_, axis=(1, 2), keepdims=True, where=roi, initial=-np.inf) - low
    known = roi & (span > 0)
    return np.divide(map_ - np.where(np.isfinite(low), low, 0), span, out=np.zeros_like(map_), where=known)
