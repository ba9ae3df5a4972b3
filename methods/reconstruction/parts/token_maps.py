"""The three maps of the VQ-VAE with a prior: healed residual, surprise of the codes, and mean over restorations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage

if TYPE_CHECKING:
    from ...nets.token_prior import CodedSlices, TokenPriors


def token_map(
    coder: CodedSlices,
    prior: TokenPriors,
    seen: torch.Tensor,
    organ: torch.Tensor,
    tokens: torch.Tensor,
    surprise: torch.Tensor,
    thresholds: np.ndarray,
    seeds: np.ndarray,
    c: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the map and what the squares were compared with, float32 (n, 1, side, side) both.

    Args:
        seen: squares (n, 1, side, side).
        organ: bool (n, cells); other codes are never replaced and count nowhere.
        tokens: int64 (n, cells).
        surprise: −log p (orders, n, cells).
        thresholds: of the surprise, (orders,).
        seeds: int64 (n,), of the samples.
        c: ``score``, ``samples`` and ``sharpness``.
    """
    unlikely = (surprise > torch.from_numpy(thresholds).to(surprise)[:, None, None]) & organ
    if c.score == "likelihood":
        return enlarged((surprise.mean(dim=0) * organ), seen), coder.decode(tokens)
    if c.score == "healed":
        images = [coder.decode(prior.healed(k, tokens, flags)) for k, flags in enumerate(unlikely)]
        changes = [(seen - image).abs() * enlarged(flags, seen) for image, flags in zip(images, unlikely, strict=True)]
        return torch.stack(changes).mean(dim=0), torch.stack(images).mean(dim=0)
    samples = []
    for j in range(c.samples):
        which = j % len(unlikely)
        noise = gumbel(seeds, j, (tokens.shape[1], prior.codes)).to(seen.device)
        samples.append(coder.decode(prior.healed(which, tokens, unlikely[which], noise)))
    images = torch.stack(samples)
    inside = enlarged(organ, seen)
    return weighted(images, seen, inside, c.sharpness), images.mean(dim=0)


def weighted(images: torch.Tensor, seen: torch.Tensor, inside: torch.Tensor, sharpness: float) -> torch.Tensor:
    """Return the weighted mean of |seen − image| over samples (j, n, 1, H, W), float32 (n, 1, H, W).

    A sample's weight is the softmax over samples of ``sharpness`` / its mean error inside (Naval Marimont and
    Tarroni 2021).
    """
    errors = (images - seen).abs()
    mean = (errors * inside).sum((2, 3, 4)) / inside.sum((1, 2, 3)).clamp(min=1)
    weights = torch.softmax(sharpness / mean.clamp(min=torch.finfo(mean.dtype).eps), dim=0)
    return (weights[:, :, None, None, None] * errors).sum(dim=0)


def enlarged(cells: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Give every pixel of images (n, 1, side, side) the value of its cell, from (n, cells); float32."""
    grid = round(cells.shape[1] ** 0.5)
    step = like.shape[-1] // grid
    return cells.float().view(-1, 1, grid, grid).repeat_interleave(step, 2).repeat_interleave(step, 3)


def gumbel(seeds: np.ndarray, sample: int, shape: tuple[int, int]) -> torch.Tensor:
    """Return Gumbel noise of one sample for each seed, float32 (n, *shape)."""
    drawn = [np.random.default_rng((int(seed), sample)).gumbel(size=shape) for seed in seeds]
    return torch.from_numpy(np.stack(drawn).astype(np.float32))


def smoothed(map_: np.ndarray) -> np.ndarray:
    """Take the least value of a cube of 3 voxels, then the mean over 3 × 7 × 7 (Naval Marimont and Tarroni 2021)."""
    map_ = ndimage.minimum_filter(map_, size=3)
    for axis, length in enumerate((3, 7, 7)):
        map_ = ndimage.uniform_filter1d(map_, length, axis=axis)
    return map_
