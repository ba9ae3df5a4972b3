"""Random-shape masks from stretched noise: the generator of the liver paper (Zhang et al. 2023, §3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import stretched_noise_kernels as kernels
from .stretched_noise_kernels import LONE, PAIRS

if TYPE_CHECKING:
    import torch

GAUSSIAN_SD = 50.0
ALL_ONES, NO_ONES = np.uint64(2**64 - 1), np.uint64(0)


@dataclass(frozen=True)
class StretchedNoise:
    """Noise → 8-bit blur → stretch to 0 … 255 → cut → open → close, on a square frame.

    The recipe of the released code (docs/methods.md, two-stage). The 8-bit blur leaves about eleven grey levels, so
    that the stretch is a coarse staircase and the cut keeps 3 % of the frame; real numbers would keep almost 6 %. The
    masks therefore are drawn on a frame of fixed size, equal to OpenCV's bit for bit, and sampled (nearest) to the size
    that is asked for.

    Attributes:
        frame: side of the frame in pixels.
        sigma: standard deviation of the blur in frame pixels.
        threshold: grey level that a stretched pixel must exceed.
        ellipse: diameter of the elliptical structuring element in frame pixels, odd.
        noise: ``uniform`` bytes (the released code) or ``gaussian`` bytes (the paper's text; mean 127.5, sd 50).
    """

    frame: int = 256
    sigma: float = 15.0
    threshold: int = 200
    ellipse: int = 9
    noise: Literal["uniform", "gaussian"] = "uniform"

    def __post_init__(self) -> None:
        if self.ellipse % 2 == 0 or not 1 <= self.ellipse <= 63:
            raise ValueError(f"ellipse {self.ellipse}: the diameter must be odd and between 1 and 63")
        if self.frame <= len(self.taps) // 2 + 1:
            raise ValueError(f"frame {self.frame}: too small for a blur of sigma {self.sigma}")

    def masks(self, count: int, rng: np.random.Generator, size: int | None = None) -> np.ndarray:
        """Return masks, bool (count, size, size); compiled, one core."""
        return self._draw(count, rng, size or self.frame, fields=False)[0]

    def masks_and_fields(
        self, count: int, rng: np.random.Generator, size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return masks and the stretched noise behind them, bool and uint8 (count, size, size)."""
        return self._draw(count, rng, size or self.frame, fields=True)

    def masks_on(
        self, count: int, generator: torch.Generator, size: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return masks and fields on the generator's device, as :meth:`masks_and_fields` in batched tensor code."""
        from .stretched_noise_torch import draw

        return draw(self, count, generator, size or self.frame)

    def _draw(self, count: int, rng: np.random.Generator, size: int, *, fields: bool) -> tuple[np.ndarray, np.ndarray]:
        masks = np.zeros((count, size, size), np.bool_)
        stretched = np.empty((count if fields else 0, size, size), np.uint8)
        at = sample_positions(self.frame, size)
        bench = _Bench(self)
        for i, seed in enumerate(rng.integers(0, 2**64, count, dtype=np.uint64)):
            bench.draw(seed, at, masks[i], stretched[i] if fields else None)
        return masks, stretched

    @cached_property
    def taps(self) -> np.ndarray:
        """Integer blur kernel with sum 256: Gaussian, quantised from the ends inwards, each error carried on."""
        length = round(6 * self.sigma + 1) | 1
        radius = length // 2
        weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * self.sigma**2))
        weights *= 256 / weights.sum()
        taps = np.zeros(length, np.int64)
        error = 0.0
        for i in range(radius):
            value = round(weights[i] + error)
            error += weights[i] - value
            taps[i] = taps[-1 - i] = value
        taps[radius] = 256 - taps.sum()
        return taps

    @cached_property
    def halves(self) -> np.ndarray:
        """Reach of each row of the structuring element to either side of its centre."""
        radius = self.ellipse // 2
        rows = np.arange(-radius, radius + 1)
        return np.round(np.sqrt(radius**2 - rows**2)).astype(np.int64)

    @cached_property
    def lut(self) -> np.ndarray:
        """Noise value of each uniform byte, uint8 (256,)."""
        if self.noise == "uniform":
            return np.arange(256, dtype=np.uint8)
        normal = NormalDist(127.5, GAUSSIAN_SD)
        values = [normal.inv_cdf((byte + 0.5) / 256) for byte in range(256)]
        return np.clip(np.round(values), 0, 255).astype(np.uint8)

    @cached_property
    def steps(self) -> Steps:
        """The blur kernel as steps of a running sum."""
        return Steps.of(self.taps)


@dataclass(frozen=True)
class Steps:
    """A kernel of whole numbers as a staircase plus isolated ones, in rows of a frame padded by ``pad``."""

    pad: int
    first: np.ndarray
    rises: np.ndarray
    falls: np.ndarray
    lone: np.ndarray

    @classmethod
    def of(cls, taps: np.ndarray) -> Steps:
        """Split ``taps``; a lone one costs one row per pixel, a step up and down two."""
        stairs = taps.copy()
        lone = [t for t in range(1, len(taps) - 1) if taps[t] == taps[t - 1] + 1 == taps[t + 1] + 1]
        lone = lone[: len(lone) // LONE * LONE]
        stairs[lone] -= 1
        change = -np.diff(np.concatenate([[0], stairs, [0]]))
        rises = np.repeat(np.arange(len(change)), np.maximum(change, 0))
        falls = np.repeat(np.arange(len(change)), np.maximum(-change, 0))
        spare = np.zeros(-len(rises) % PAIRS, np.int64)
        return cls(
            pad=len(taps) // 2 + 1,
            first=np.repeat(np.arange(len(taps)), stairs),
            rises=np.concatenate([rises, spare]),
            falls=np.concatenate([falls, spare]),
            lone=np.array(lone, np.int64) + 1,
        )


class _Bench:
    """The buffers of one batch of draws."""

    def __init__(self, recipe: StretchedNoise) -> None:
        n, pad = recipe.frame, recipe.steps.pad
        words = (n + 63) // 64
        self.recipe = recipe
        self.words = np.empty((n * n + 7) // 8, np.uint64)
        self.noise = np.empty((n + 2 * pad, n), np.uint8)
        self.sums = np.empty((n, n), np.uint16)
        self.running = np.empty(n, np.uint16)
        self.padded = np.empty(n + 2 * pad, np.uint32)
        self.prefix = np.empty(n + 2 * pad + 1, np.uint32)
        self.field = np.empty((n, n), np.uint8)
        self.tops = np.empty(n, np.uint8)
        self.bits = np.empty((words, n), np.uint64)
        self.other = np.empty((words, n), np.uint64)
        self.spans = np.zeros((recipe.halves.max() + 1, words + 2, n + 2 * (recipe.ellipse // 2)), np.uint64)
        self.valid = np.full(words, ALL_ONES)
        if n % 64:
            self.valid[-1] = np.uint64((1 << n % 64) - 1)

    def draw(self, seed: np.uint64, at: np.ndarray, mask: np.ndarray, stretched: np.ndarray | None) -> None:
        """Draw one mask, and the stretched field where wanted, sampled at the frame pixels ``at``."""
        recipe = self.recipe
        low, high = self.blurred(seed)
        span = int(high) - int(low)
        level = int(low) + -(-(recipe.threshold + 1) * span // 255)
        if span > 0 and level <= high:
            kernels.cut_bits(self.field, self.tops, level, self.bits)
            source, target = self.bits, self.other
            for flip in (ALL_ONES, NO_ONES, NO_ONES, ALL_ONES):
                kernels.dilate(source, flip, recipe.halves, self.valid, self.spans, target)
                source, target = target, source
            pixels = np.unpackbits(np.ascontiguousarray(source.T, "<u8").view(np.uint8), axis=1, bitorder="little")
            mask[:] = pixels[at][:, at] if len(at) < recipe.frame else pixels[:, : recipe.frame]
        if stretched is not None:
            field = self.field[at][:, at].astype(np.int64)
            stretched[:] = (field - int(low)) * 255 // max(span, 1)

    def blurred(self, seed: np.uint64) -> tuple[np.uint8, np.uint8]:
        """Fill the blurred field; return its lowest and highest value."""
        recipe, steps = self.recipe, self.recipe.steps
        n, pad = recipe.frame, recipe.steps.pad
        kernels.fill_noise(seed, self.words)
        drawn = self.words.view(np.uint8)[: n * n].reshape(n, n)
        self.noise[pad : pad + n] = drawn if recipe.noise == "uniform" else recipe.lut[drawn]
        self.noise[:pad] = self.noise[2 * pad : pad : -1]
        self.noise[pad + n :] = self.noise[pad + n - 2 : n - 2 : -1]
        steps_ = (steps.rises, steps.falls, steps.lone)
        kernels.column_sums(self.noise, steps.first, *steps_, self.running, self.sums)
        return kernels.blur_rows(self.sums, *steps_, self.padded, self.prefix, self.field, self.tops)


def sample_positions(frame: int, size: int) -> np.ndarray:
    """Frame pixel at the centre of each of ``size`` pixels, int64."""
    return (2 * np.arange(size) + 1) * frame // (2 * size)
