"""The stretched-noise masks drawn on one core: exact fixed-point blur, level cut, bit-packed morphology.

The integer blur kernel is a staircase plus isolated ones, so that running sums which only look at the steps replace the
convolution. The cut field is packed into 64-bit words, word columns first, so that the morphology runs down the rows
with vector instructions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...common.jit import kernel
from .stretched_noise import StretchedNoise

PAIRS, LONE = 5, 4
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
            cut_bits(self.field, self.tops, level, self.bits)
            source, target = self.bits, self.other
            # Erode, dilate (open), dilate, erode (close): eroding is dilating the complement.
            for flip in (ALL_ONES, NO_ONES, NO_ONES, ALL_ONES):
                dilate(source, flip, recipe.halves, self.valid, self.spans, target)
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
        fill_noise(seed, self.words)
        drawn = self.words.view(np.uint8)[: n * n].reshape(n, n)
        self.noise[pad : pad + n] = drawn if recipe.noise == "uniform" else recipe.lut[drawn]
        # Mirrored about the outermost pixels, as OpenCV's reflect-101 border.
        self.noise[:pad] = self.noise[2 * pad : pad : -1]
        self.noise[pad + n :] = self.noise[pad + n - 2 : n - 2 : -1]
        moves = (steps.rises, steps.falls, steps.lone)
        column_sums(self.noise, steps.first, *moves, self.running, self.sums)
        return blur_rows(self.sums, *moves, self.padded, self.prefix, self.field, self.tops)


@kernel
def fill_noise(seed, words):
    """Fill ``words`` (uint64) with the SplitMix64 stream of ``seed``: eight uniform bytes each."""
    for i in range(words.size):
        z = seed + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words[i] = z ^ (z >> np.uint64(31))


@kernel
def column_sums(padded, first, rises, falls, lone, running, sums):
    """Convolve the columns of ``padded`` (n + 2·pad, n) with a staircase plus isolated ones, into ``sums`` (n, n).

    Args:
        first: int64, padded rows whose sum is the staircase part of row −1, repeats counted.
        rises, falls: int64, padded rows relative to the output row that enter and leave the running sum; equally many,
            a multiple of PAIRS.
        lone: int64, padded rows relative to the output row that count once more; a multiple of LONE.
        running: scratch (n,), in the dtype of ``sums``, which is wide enough for the result.
    """
    # Bytes times taps that add up to 256 stay below 2^16: unsigned 16 bits hold every sum, and wrap on the way there
    # without harm. Groups of fixed size let the compiler add whole rows with vector instructions.
    n = running.size
    running[:] = 0
    for line in first:
        for x in range(n):
            running[x] += padded[line, x]
    for y in range(n):
        for j in range(0, rises.size, PAIRS):
            a, b, c = padded[y + rises[j]], padded[y + rises[j + 1]], padded[y + rises[j + 2]]
            d, e = padded[y + rises[j + 3]], padded[y + rises[j + 4]]
            f, g, h = padded[y + falls[j]], padded[y + falls[j + 1]], padded[y + falls[j + 2]]
            i, k = padded[y + falls[j + 3]], padded[y + falls[j + 4]]
            for x in range(n):
                running[x] = running[x] + a[x] + b[x] + c[x] + d[x] + e[x] - f[x] - g[x] - h[x] - i[x] - k[x]
        out = sums[y]
        for x in range(n):
            out[x] = running[x]
        for j in range(0, lone.size, LONE):
            a, b = padded[y + lone[j]], padded[y + lone[j + 1]]
            c, d = padded[y + lone[j + 2]], padded[y + lone[j + 3]]
            for x in range(n):
                out[x] = out[x] + a[x] + b[x] + c[x] + d[x]


@kernel
def blur_rows(sums, rises, falls, lone, padded, prefix, field, tops):
    """Convolve the rows of ``sums`` (n, n), uint16, and divide by 65536, rounding halves up, into ``field``, uint8.

    Args:
        rises, falls, lone: as in :func:`column_sums`.
        padded: uint32 (n + 2·pad,), scratch for a row with its mirrored ends.
        prefix: uint32, one longer, scratch.
        tops: uint8 (n,), receives the maximum of each row.

    Returns:
        Lowest and highest value of the field.
    """
    n = sums.shape[0]
    pad = (padded.size - n) // 2
    wide = np.empty(n, np.uint32)
    low, high = np.uint8(255), np.uint8(0)
    prefix[0] = 0
    for y in range(n):
        for x in range(n):
            padded[pad + x] = sums[y, x]
        for i in range(1, pad + 1):
            padded[pad - i] = sums[y, i]
            padded[pad + n - 1 + i] = sums[y, n - 1 - i]
        # A step of the staircase adds or takes everything to its left: prefix sums give that at once. They may wrap at
        # 2^32, since only their differences count.
        total = np.uint32(0)
        for x in range(padded.size):
            total += padded[x]
            prefix[x + 1] = total
        for x in range(n):
            wide[x] = np.uint32(32768)  # half of 65536: rounds halves up in the shift below
        for j in range(0, rises.size, PAIRS):
            a, b, c = prefix[rises[j] + 1 :], prefix[rises[j + 1] + 1 :], prefix[rises[j + 2] + 1 :]
            d, e = prefix[rises[j + 3] + 1 :], prefix[rises[j + 4] + 1 :]
            f, g, h = prefix[falls[j] + 1 :], prefix[falls[j + 1] + 1 :], prefix[falls[j + 2] + 1 :]
            i, k = prefix[falls[j + 3] + 1 :], prefix[falls[j + 4] + 1 :]
            for x in range(n):
                wide[x] = wide[x] + a[x] + b[x] + c[x] + d[x] + e[x] - f[x] - g[x] - h[x] - i[x] - k[x]
        for j in range(0, lone.size, LONE):
            a, b, c, d = padded[lone[j] :], padded[lone[j + 1] :], padded[lone[j + 2] :], padded[lone[j + 3] :]
            for x in range(n):
                wide[x] = wide[x] + a[x] + b[x] + c[x] + d[x]
        for x in range(n):
            field[y, x] = np.uint8(wide[x] >> np.uint32(16))
        top = np.uint8(0)
        for x in range(n):
            low = min(low, field[y, x])
            top = max(top, field[y, x])
        tops[y] = top
        high = max(high, top)
    return low, high


@kernel
def cut_bits(field, tops, level, bits):
    """Pack ``field >= level`` into ``bits`` (words, n), uint64, least significant bit first."""
    n = field.shape[0]
    for word in range(bits.shape[0]):
        for y in range(n):
            packed = np.uint64(0)
            if tops[y] >= level:  # a row below the cut throughout needs no look at its pixels
                for x in range(64 * word, min(64 * word + 64, n)):
                    packed |= np.uint64(field[y, x] >= level) << np.uint64(x - 64 * word)
            bits[word, y] = packed


@kernel
def dilate(bits, flip, halves, valid, spans, out):
    """Dilate ``bits`` (words, n), or erode them where ``flip`` is all ones, into ``out``.

    Pixels outside the frame count as background for dilation and as foreground for erosion, as in OpenCV: eroding is
    dilating the complement.

    Args:
        halves: int64, reach of each row of the structuring element to either side of its centre.
        valid: uint64 (words,), bits of each word that lie in the frame.
        spans: uint64 (max(halves) + 1, words + 2, n + 2·(halves.size // 2)), zero where it reaches beyond the frame;
            scratch.
    """
    words, n = bits.shape
    radius = halves.size // 2
    for w in range(words):
        row = spans[0, w + 1]
        for y in range(n):
            row[radius + y] = (bits[w, y] ^ flip) & valid[w]
    # spans[h] is every row widened by h pixels to both sides; bits carry over from the words beside.
    for h in range(1, spans.shape[0]):
        near, far = np.uint64(h), np.uint64(64 - h)
        for w in range(1, words + 1):
            left, row, right = spans[0, w - 1], spans[0, w], spans[0, w + 1]
            before, wide = spans[h - 1, w], spans[h, w]
            for y in range(n + 2 * radius):
                wide[y] = before[y] | (row[y] << near) | (row[y] >> near) | (left[y] >> far) | (right[y] << far)
    # Each row of the element then adds the row of the image that it meets, widened by its own reach.
    for w in range(words):
        row = out[w]
        for y in range(n):
            row[y] = 0
        for k in range(halves.size):
            source = spans[halves[k], w + 1]
            for y in range(n):
                row[y] |= source[y + k]
        for y in range(n):
            row[y] = (row[y] ^ flip) & valid[w]
