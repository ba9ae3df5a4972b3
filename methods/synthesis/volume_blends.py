"""Blends of a foreign volume into another under a soft mask, on the device of a training."""

from __future__ import annotations

from functools import cache

import torch


def blend_linear(own: torch.Tensor, foreign: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return own·(1 − m) + foreign·m, float32; all (z, y, x)."""
    return own + mask * (foreign - own)


def blend_gradients(own: torch.Tensor, foreign: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Blend by gradients under a soft mask: Poisson's equation in 3D (Pérez et al. 2003, mixed gradients).

    Between two voxels the gradient moves by their mean mask value from that of ``own`` to the larger in magnitude of
    the two. Voxels on the surface of the box keep their value.

    Args:
        own: float (z, y, x).
        foreign: same shape.
        mask: float in [0, 1], same shape; 0 where one of the two is not organ, so that no background enters.

    Returns:
        Same shape and dtype, clipped to [0, 1]; it also changes a little around the mask, without a seam.
    """
    inner = slice(1, -1)
    divergence = own.new_zeros([n - 2 for n in own.shape])
    for axis in range(3):
        steps = own.shape[axis] - 1
        first, second = mask.narrow(axis, 0, steps), mask.narrow(axis, 1, steps)
        weight = torch.where((first > 0) & (second > 0), (first + second) / 2, 0.0)
        here, there = own.diff(dim=axis), foreign.diff(dim=axis)
        excess = weight * torch.where(there.abs() > here.abs(), there - here, 0.0)
        divergence += excess.diff(dim=axis)[tuple(slice(None) if a == axis else inner for a in range(3))]
    out = own.clone()
    out[inner, inner, inner] += solve_poisson(divergence)
    return out.clamp_(0, 1)


def solve_poisson(divergence: torch.Tensor) -> torch.Tensor:
    """Solve Δu = ``divergence``, (z, y, x), with the Laplacian of nearest neighbours and u = 0 around the box.

    Sine transforms as products of matrices: of the sides here they take less time than fast ones, on a GPU too.
    """
    along = [_sines(n, divergence.dtype, divergence.device) for n in divergence.shape]
    eigenvalues = along[0][1][:, None, None] + along[1][1][:, None] + along[2][1]
    (z, _), (y, _), (x, _) = along

    def transformed(volume: torch.Tensor) -> torch.Tensor:
        return (y @ (z @ volume.flatten(1)).view(volume.shape)) @ x

    return transformed(transformed(divergence) / eigenvalues)


@cache
def _sines(n: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sine transform of length n, which is its own inverse, and the second difference's eigenvalues."""
    k = torch.arange(1, n + 1, dtype=torch.float64)
    matrix = (2 / (n + 1)) ** 0.5 * torch.sin(torch.pi / (n + 1) * (torch.outer(k, k) % (2 * (n + 1))))
    eigenvalues = 2 * torch.cos(torch.pi / (n + 1) * k) - 2
    return matrix.to(device, dtype), eigenvalues.to(device, dtype)


BLENDS = {"linear": blend_linear, "poisson": blend_gradients}
