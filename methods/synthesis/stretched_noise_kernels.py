"""Compiled kernels of the stretched-noise masks: exact fixed-point blur, level cut and bit-packed morphology.

The blur equals OpenCV's 8-bit Gaussian filter bit for bit. Its quantised kernel is a staircase, so a running sum that
only looks at the steps replaces the convolution. Rows of the cut field are packed into 64-bit words and empty rows are
skipped in the morphology, because the cut keeps about 3 % of the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

HALF = 1 << 15
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_ONE, _WORD = np.uint64(1), np.uint64(64)
_BLOCK = 32


def compiled(function: Callable[..., Any]) -> Any:
    """Compile with a disk cache, or without one where no cache folder can be written."""
    try:
        return numba.njit(function, cache=True, nogil=True)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return numba.njit(function, nogil=True)


@compiled
def fill_noise(seed, words):
    """Fill ``words`` (uint64) with the SplitMix64 stream of ``seed``: eight uniform bytes each."""
    for i in range(words.size):
        z = seed + np.uint64(i + 1) * _GOLDEN
        z = (z ^ (z >> _S30)) * _MIX1
        z = (z ^ (z >> _S27)) * _MIX2
        words[i] = z ^ (z >> _S31)


@compiled
def _mirror(i, n):
    period = 2 * (n - 1)
    i = abs(i) % period
    return period - i if i >= n else i


@compiled
def _mirror_rows(padded, radius):
    n = padded.shape[0] - 2 * radius
    for i in range(1, radius + 1):
        padded[radius - i] = padded[radius + _mirror(-i, n)]
        padded[radius + n - 1 + i] = padded[radius + _mirror(n - 1 + i, n)]


@compiled
def _first_sum(padded, taps, row):
    row[:] = 0
    for t in range(taps.size):
        if taps[t]:
            line = padded[t + 1]
            for x in range(row.size):
                row[x] += taps[t] * line[x]


@compiled
def _next_sum(padded, y, rises, falls, row):
    for j in range(0, rises.size, 6):
        a, b, c = padded[y + rises[j]], padded[y + rises[j + 1]], padded[y + rises[j + 2]]
        d, e, f = padded[y + rises[j + 3]], padded[y + rises[j + 4]], padded[y + rises[j + 5]]
        g, h, i = padded[y + falls[j]], padded[y + falls[j + 1]], padded[y + falls[j + 2]]
        k, m, o = padded[y + falls[j + 3]], padded[y + falls[j + 4]], padded[y + falls[j + 5]]
        for x in range(row.size):
            row[x] = row[x] + a[x] + b[x] + c[x] + d[x] + e[x] + f[x] - g[x] - h[x] - i[x] - k[x] - m[x] - o[x]


@compiled
def blur(noise, turned, taps, rises, falls, field, tops):
    """Blur square uint8 noise with integer ``taps`` (sum 256), reflect-101 borders, rounding once at the end.

    The result is the filter of the *transposed* noise: the caller hands the noise over transposed.

    Args:
        noise: uint8 (n + 2·pad, n) with pad = taps // 2 + 1 free rows at either end for the mirrored border.
        turned: uint16, same shape, scratch.
        taps: uint32, odd length.
        rises, falls: rows of ``noise``, relative to the output row, that enter and leave the running sum; equally many,
            a multiple of six.
        field: uint8 (n, n), receives the blurred field.
        tops: uint8 (n, n // 64 rounded up), receives the maximum of each block of 64 pixels.

    Returns:
        Lowest and highest value of the field.
    """
    n = noise.shape[1]
    pad = taps.size // 2 + 1
    _mirror_rows(noise, pad)
    rows = np.empty((_BLOCK, n), np.uint16)
    narrow = np.empty(n, np.uint16)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        for y in range(start, stop):
            if y == 0:
                _first_sum(noise, taps, narrow)
            else:
                _next_sum(noise, y, rises, falls, narrow)
            rows[y - start] = narrow
        for x in range(n):
            for y in range(start, stop):
                turned[pad + x, y] = rows[y - start, x]
    _mirror_rows(turned, pad)
    wide = np.empty(n, np.uint32)
    low, high = np.uint8(255), np.uint8(0)
    for y in range(n):
        if y == 0:
            _first_sum(turned, taps, wide)
        else:
            _next_sum(turned, y, rises, falls, wide)
        for x in range(n):
            field[y, x] = np.uint8((wide[x] + np.uint32(HALF)) >> np.uint32(16))
        for block in range(tops.shape[1]):
            top = np.uint8(0)
            for x in range(64 * block, min(64 * block + 64, n)):
                top = max(top, field[y, x])
                low = min(low, field[y, x])
            tops[y, block] = top
            high = max(high, top)
    return low, high


@compiled
def cut_bits(field, tops, level, bits):
    """Pack ``field >= level`` into ``bits`` (n, words), uint64, least significant bit first."""
    for y in range(field.shape[0]):
        for block in range(bits.shape[1]):
            word = np.uint64(0)
            if tops[y, block] >= level:
                for x in range(64 * block, min(64 * block + 64, field.shape[1])):
                    if field[y, x] >= level:
                        word |= _ONE << np.uint64(x - 64 * block)
            bits[y, block] = word


@compiled
def _widen(bits, y, flip, valid, spans):
    """Fill ``spans[y, h]`` with row ``y`` dilated by ``h`` pixels to either side, for every h; ``flip`` complements."""
    words = valid.size
    for w in range(words):
        spans[y, 0, w] = (bits[y, w] ^ flip) & valid[w]
    for h in range(1, spans.shape[1]):
        left, right = np.uint64(h), np.uint64(64 - h)
        for w in range(words):
            word = spans[y, h - 1, w] | (spans[y, 0, w] << left) | (spans[y, 0, w] >> left)
            if w > 0:
                word |= spans[y, 0, w - 1] >> right
            if w + 1 < words:
                word |= spans[y, 0, w + 1] << right
            spans[y, h, w] = word & valid[w]


@compiled
def _morph(bits, halves, valid, flip, spans, out):
    """Dilate (``flip`` 0) or erode (``flip`` all ones) by an element whose rows reach ``halves`` pixels to either side.

    Pixels outside the frame count as background for dilation and as foreground for erosion, as in OpenCV: eroding is
    dilating the complement. The element has no empty row, so that an empty row erodes its whole neighbourhood.
    """
    n, words = bits.shape
    radius = halves.size // 2
    filled = np.zeros(n, np.bool_)
    for y in range(n):
        for w in range(words):
            filled[y] |= bits[y, w] != 0
        if filled[y]:
            _widen(bits, y, flip, valid, spans)
    for y in range(n):
        first, last = max(0, y - radius), min(n, y + radius + 1)
        dilated, survives = False, True
        for near in range(first, last):
            dilated |= filled[near]
            survives &= filled[near]
        if survives if flip else dilated:
            for w in range(words):
                word = np.uint64(0)
                for near in range(first, last):
                    if filled[near]:
                        word |= spans[near, halves[near - y + radius], w]
                out[y, w] = (word ^ flip) & valid[w]
        else:
            for w in range(words):
                out[y, w] = np.uint64(0)


@compiled
def open_close(bits, halves):
    """Open, then close ``bits`` (n, words) in place."""
    n, words = bits.shape
    valid = np.full(words, ~np.uint64(0), np.uint64)
    if n % 64:
        valid[words - 1] = (_ONE << np.uint64(n % 64)) - _ONE
    spans = np.empty((n, halves.max() + 1, words), np.uint64)
    other = np.empty_like(bits)
    erode, dilate = ~np.uint64(0), np.uint64(0)
    _morph(bits, halves, valid, erode, spans, other)
    _morph(other, halves, valid, dilate, spans, bits)
    _morph(bits, halves, valid, dilate, spans, other)
    _morph(other, halves, valid, erode, spans, bits)


@compiled
def _unpack(bits, size, out):
    n = bits.shape[0]
    for y in range(size):
        row = bits[(2 * y + 1) * n // (2 * size)]
        for x in range(size):
            at = (2 * x + 1) * n // (2 * size)
            out[y, x] = (row[at >> 6] >> np.uint64(at & 63)) & _ONE


@compiled
def draw(seeds, n, lut, taps, rises, falls, threshold, halves, size, masks, fields):
    """Draw one mask per seed on an n × n frame, sampled to ``size``.

    Args:
        seeds: uint64 (count,).
        lut: uint8 (256,) turns a uniform byte into a noise value.
        masks: bool (count, size, size), receives the masks.
        fields: uint8 (count or 0, size, size), receives the stretched fields where not empty.
    """
    pad = taps.size // 2 + 1
    words = np.empty((n * n + 7) // 8, np.uint64)
    drawn = words.view(np.uint8)[: n * n].reshape(n, n)
    noise = np.empty((n + 2 * pad, n), np.uint8)
    turned = np.empty((n + 2 * pad, n), np.uint16)
    field = np.empty((n, n), np.uint8)
    tops = np.empty((n, (n + 63) // 64), np.uint8)
    bits = np.empty((n, (n + 63) // 64), np.uint64)
    plain = True
    for byte in range(256):
        plain &= lut[byte] == byte
    for i in range(seeds.size):
        fill_noise(seeds[i], words)
        if plain:
            noise[pad : pad + n] = drawn
        else:
            for y in range(n):
                for x in range(n):
                    noise[pad + y, x] = lut[drawn[y, x]]
        low, high = blur(noise, turned, taps, rises, falls, field, tops)
        span = np.int64(high) - np.int64(low)
        level = 256 if span == 0 else low + (np.int64(threshold + 1) * span + 254) // 255
        if level > high:
            masks[i] = False
        else:
            cut_bits(field, tops, level, bits)
            open_close(bits, halves)
            _unpack(bits, size, masks[i])
        if fields.shape[0]:
            for y in range(size):
                for x in range(size):
                    value = field[(2 * y + 1) * n // (2 * size), (2 * x + 1) * n // (2 * size)]
                    fields[i, y, x] = (np.int64(value) - low) * 255 // max(span, 1)
