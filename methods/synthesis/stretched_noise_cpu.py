"""The stretched-noise masks drawn with compiled kernels, on one core."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from . import stretched_noise_kernels as kernels
from .stretched_noise import StretchedNoise
from .stretched_noise_kernels import LONE, PAIRS

ALL_ONES, NO_ONES = np.uint64(2**64 - 1), np.uint64(0)


def draw(
    recipe: StretchedNoise, count: int, rng: np.random.Generator, size: int | None = None, *, fields: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return masks and the stretched noise behind them, bool and uint8 (count, size, size).

    Args:
        size: side of the masks, the frame's by default.
        fields: off leaves the second array empty, which saves its time.
    """
    size = size or recipe.frame
    masks = np.zeros((count, size, size), np.bool_)
    stretched = np.empty((count if fields else 0, size, size), np.uint8)
    at, buffers = recipe.positions(size), Buffers(recipe)
    for i, seed in enumerate(rng.integers(0, 2**64, count, dtype=np.uint64)):
        buffers.draw(seed, at, masks[i], stretched[i] if fields else None)
    return masks, stretched


@dataclass(frozen=True)
class Steps:
    """A kernel of whole numbers as a staircase plus isolated ones, in rows of a frame padded by ``pad``.

    A sum that runs over the image changes only where the staircase steps: the published blur of 91 taps takes 28
    additions per pixel and axis.
    """

    pad: int
    first: np.ndarray
    rises: np.ndarray
    falls: np.ndarray
    lone: np.ndarray

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, recipe: StretchedNoise) -> Steps:
        """Split the taps of a recipe; a lone one costs one row per pixel, a step up and down two."""
        taps, stairs = recipe.taps, recipe.taps.copy()
        lone = [t for t in range(1, len(taps) - 1) if taps[t] == taps[t - 1] + 1 == taps[t + 1] + 1]
        # The kernels take lone ones and steps in groups of fixed size, which compilers turn into vector code: lone ones
        # beyond whole groups stay in the staircase, and steps are filled up with pairs that cancel (up and down at 0).
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


class Buffers:
    """The buffers of one batch of draws."""

    def __init__(self, recipe: StretchedNoise) -> None:
        self.recipe, self.steps = recipe, Steps.of(recipe)
        n, pad = recipe.frame, self.steps.pad
        words = (n + 63) // 64
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
        # floor((v - low) * 255 / span) > threshold, solved for v: the cut needs no stretched field.
        level = int(low) + -(-(recipe.threshold + 1) * span // 255)
        if span > 0 and level <= high:
            kernels.cut_bits(self.field, self.tops, level, self.bits)
            source, target = self.bits, self.other
            # Erode, dilate (open), dilate, erode (close): eroding is dilating the complement.
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
        recipe, steps = self.recipe, self.steps
        n, pad = recipe.frame, steps.pad
        kernels.fill_noise(seed, self.words)
        drawn = self.words.view(np.uint8)[: n * n].reshape(n, n)
        self.noise[pad : pad + n] = drawn if recipe.noise == "uniform" else recipe.lut[drawn]
        # Mirrored about the outermost pixels, as OpenCV's reflect-101 border.
        self.noise[:pad] = self.noise[2 * pad : pad : -1]
        self.noise[pad + n :] = self.noise[pad + n - 2 : n - 2 : -1]
        moves = (steps.rises, steps.falls, steps.lone)
        kernels.column_sums(self.noise, steps.first, *moves, self.running, self.sums)
        return kernels.blur_rows(self.sums, *moves, self.padded, self.prefix, self.field, self.tops)
