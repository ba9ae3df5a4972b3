"""Simplex noise in space (Perlin 2001), summed over octaves and scaled to unit variance: the noise of AnoDDPM."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch

from ...common.jit import kernel

PERIOD = 256
MASK = 0xFFFFFFFF
Number = TypeVar("Number", int, torch.Tensor)
# Two lattice points per unit volume each add (1/2 − r²)⁴ g·r, and the twelve gradients g have the mean outer product
# 2/3: the variance is 2 ∫ (1/2 − r²)⁸ (2/3) r² over the ball of radius √(1/2), a beta function.
VARIANCE = (16 * math.pi / 3) * 0.5**11.5 * math.gamma(2.5) * math.gamma(9) / math.gamma(11.5)


@dataclass(frozen=True)
class SimplexNoise:
    """Sum of octaves of simplex noise with mean 0 and variance 1 over draws at every point (Wyatt et al. 2022, §3.2).

    Octave i has ``persistence``^i of the amplitude and 2^i times the cells of the first. Each octave of each draw has
    gradients and an offset of its own: without the offset all octaves would be 0 at the origin of every draw.
    The values of one octave lie within about ±5, those of six within about ±4.

    Attributes:
        octaves: number of octaves.
        persistence: amplitude of an octave relative to the one before.
        frequency: edge of the lattice of the first octave in pixels (the paper's word for it).
    """

    octaves: int = 6
    persistence: float = 0.8
    frequency: float = 64.0

    def images(self, seeds: torch.Tensor, size: int) -> torch.Tensor:
        """Return one planar cut per seed, float32 (n, 1, size, size), on the device of the seeds.

        Args:
            seeds: int64 (n,), non-negative and below 2^32; an image depends on its own seed alone.
        """
        axis = torch.arange(size, dtype=torch.float64, device=seeds.device)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        points = torch.stack([torch.zeros_like(x), y, x], dim=-1).view(-1, 3)
        return self._sum(seeds, points).view(-1, 1, size, size)

    def at(self, points: np.ndarray, seed: int) -> np.ndarray:
        """Return the noise of one seed at points (n, 3) in the unit of ``frequency``, float32 (n,)."""
        where, out = np.ascontiguousarray(points, dtype=np.float64), np.zeros(len(points))
        for i, amplitude in enumerate(self.amplitudes):
            # Plain numbers: as tensors of one element these would take longer than the noise.
            gradients, *offset = (_hash(seed & MASK, (i, part)) for part in range(4))
            add_octave(gradients, np.array(offset) * (PERIOD / 2**32), 2**i / self.frequency, amplitude, where, out)
        return out.astype(np.float32)

    @cached_property
    def amplitudes(self) -> tuple[float, ...]:
        """Factor of each octave of the raw noise; the variances sum to 1."""
        relative = [self.persistence**i for i in range(self.octaves)]
        norm = math.sqrt(VARIANCE * sum(a * a for a in relative))
        return tuple(a / norm for a in relative)

    def _sum(self, seeds: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        out = torch.zeros((len(seeds), len(points)), dtype=torch.float64, device=seeds.device)
        for i, amplitude in enumerate(self.amplitudes):
            octave_seeds, offsets = _octave(seeds, i)
            scale = 2**i / self.frequency
            if seeds.device.type == "cpu":
                where = points.numpy()
                for seed, offset, row in zip(octave_seeds.tolist(), offsets.numpy(), out.numpy(), strict=True):
                    add_octave(seed, offset, scale, amplitude, where, row)
            else:
                out += amplitude * simplex(octave_seeds, scale * points + offsets[:, None])
        return out.float()


def simplex(seeds: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return one octave of raw noise at points, float64 (n, p, 3), as tensor code; float64 (n, p).

    It equals the compiled kernel; seeds are int64 (n,), below 2^32. Its variance is :data:`VARIANCE`.
    """
    cell = torch.floor(points + points.sum(-1, keepdim=True) / 3)
    inside = points - cell + cell.sum(-1, keepdim=True) / 6
    order = torch.argsort(torch.argsort(-inside, dim=-1, stable=True), dim=-1)
    total = torch.zeros(points.shape[:-1], dtype=points.dtype, device=points.device)
    for corner in range(4):
        step = order < corner
        moved = inside - step.to(points.dtype) + corner / 6
        falloff = (0.5 - (moved * moved).sum(-1)).clamp(min=0) ** 4
        edge = _hash(seeds[:, None], (cell.long() + step).unbind(-1)) % 12
        zero = edge // 4
        a = moved.gather(-1, ((zero + 1) % 3)[..., None])[..., 0]
        b = moved.gather(-1, ((zero + 2) % 3)[..., None])[..., 0]
        total += falloff * (torch.where(edge & 1 == 1, a, -a) + torch.where(edge & 2 == 2, b, -b))
    return total


def _octave(seeds: torch.Tensor, octave: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients' seed (n,) and the offset (n, 3) in lattice units of one octave of each draw."""
    parts = [_hash(seeds, (torch.full_like(seeds, octave), torch.full_like(seeds, part))) for part in range(4)]
    offsets = torch.stack(parts[1:], dim=-1).double() * (PERIOD / 2**32)
    return parts[0], offsets


def _hash(seeds: Number, numbers: tuple[Number, ...]) -> Number:
    """Mix whole numbers into 32 well-distributed bits, int64; products wrap, of which the low half is kept."""
    h = seeds
    for number in numbers:
        h = ((h ^ (number & MASK)) * 0x9E3779B1) & MASK
        h = h ^ (h >> 15)
    h = (h * 0x85EBCA6B) & MASK
    h = h ^ (h >> 13)
    h = (h * 0xC2B2AE35) & MASK
    return h ^ (h >> 16)


@kernel
def add_octave(seed, offset, scale, amplitude, points, out):
    """Add ``amplitude`` times the simplex noise at ``scale · points + offset`` to ``out``.

    Args:
        seed: whole number below 2^32 that decides the gradients.
        offset: float64 (3,).
        points: float64 (n, 3).
        out: float64 (n,).
    """
    # 64-bit arithmetic of which the low 32 bits are kept: the same hash as in the tensor code.
    mask = np.uint64(0xFFFFFFFF)
    cell = np.empty(3, np.int64)
    inside = np.empty(3, np.float64)
    steps = np.zeros((4, 3), np.int64)  # from the cell to the corners of the simplex that holds the point
    steps[3] = 1
    moved = np.empty(3, np.float64)
    for p in range(points.shape[0]):
        x, y, z = scale * points[p, 0] + offset[0], scale * points[p, 1] + offset[1], scale * points[p, 2] + offset[2]
        skew = (x + y + z) / 3
        cell[0], cell[1], cell[2] = np.floor(x + skew), np.floor(y + skew), np.floor(z + skew)
        unskew = (cell[0] + cell[1] + cell[2]) / 6
        inside[0], inside[1], inside[2] = x - cell[0] + unskew, y - cell[1] + unskew, z - cell[2] + unskew
        largest, smallest = 0, 0
        for axis in range(1, 3):
            if inside[axis] > inside[largest]:
                largest = axis
            if inside[axis] <= inside[smallest]:
                smallest = axis
        for axis in range(3):
            steps[1, axis] = axis == largest
            steps[2, axis] = axis != smallest
        total = 0.0
        for corner in range(4):
            falloff = 0.5
            h = np.uint64(seed)
            for axis in range(3):
                step = steps[corner, axis]
                moved[axis] = inside[axis] - step + corner / 6
                falloff -= moved[axis] * moved[axis]
                h = ((h ^ (np.uint64(cell[axis] + step) & mask)) * np.uint64(0x9E3779B1)) & mask
                h ^= h >> np.uint64(15)
            if falloff <= 0:
                continue
            h = (h * np.uint64(0x85EBCA6B)) & mask
            h ^= h >> np.uint64(13)
            h = (h * np.uint64(0xC2B2AE35)) & mask
            h ^= h >> np.uint64(16)
            edge = np.int64(h % np.uint64(12))
            zero = edge // 4
            a, b = moved[(zero + 1) % 3], moved[(zero + 2) % 3]
            slope = (a if edge & 1 else -a) + (b if edge & 2 else -b)
            falloff *= falloff
            total += falloff * falloff * slope
        out[p] += amplitude * total
