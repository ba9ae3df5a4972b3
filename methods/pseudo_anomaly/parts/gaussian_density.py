"""A Gaussian of embeddings with a shrunken covariance."""

from __future__ import annotations

import numpy as np


def fit_gaussian(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and inverse covariance of embeddings.

    The covariance is drawn towards a multiple of the identity by the share that minimises the expected squared error
    (Ledoit and Wolf 2004), so that it can be inverted with fewer samples than dimensions.

    Args:
        embeddings: float (samples, dims), two samples or more.

    Returns:
        float32 (dims,) and float32 (dims, dims).
    """
    x = embeddings.astype(np.float64)
    mean = x.mean(axis=0)
    covariance = shrunken_covariance(x - mean)
    return mean.astype(np.float32), np.linalg.inv(covariance).astype(np.float32)


def shrunken_covariance(centred: np.ndarray) -> np.ndarray:
    """Return the covariance of ``centred`` (samples, dims) after Ledoit and Wolf 2004; float64 (dims, dims).

    Features that never vary get the smallest variance that keeps the matrix regular.
    """
    samples, dims = centred.shape
    empirical = centred.T @ centred / samples
    scale = np.trace(empirical) / dims
    squares = centred**2
    distance = ((empirical - scale * np.eye(dims)) ** 2).sum()
    spread = ((squares.T @ squares).sum() / samples - (empirical**2).sum()) / samples
    share = 0.0 if distance == 0 else min(spread, distance) / distance
    floor = max(scale, 1.0) * np.finfo(np.float32).eps
    return (1 - share) * empirical + (share * scale + floor) * np.eye(dims)


def negative_log_density(embeddings: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return −log of the density without its constant, ½ (x − μ)ᵀ Σ⁻¹ (x − μ); float32 (samples,)."""
    away = embeddings - mean
    return (0.5 * np.einsum("ij,ij->i", away @ precision, away)).astype(np.float32)
