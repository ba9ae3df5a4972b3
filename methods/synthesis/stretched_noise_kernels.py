"""Compiled kernels of the stretched-noise masks: exact fixed-point blur, level cut, bit-packed morphology.

The integer blur kernel is a staircase plus isolated ones, so that running sums which only look at the steps replace the
convolution. The cut field is packed into 64-bit words, word columns first, so that the morphology runs down the rows
with vector instructions.
"""

import numpy as np

from ...common.jit import kernel

PAIRS, LONE = 5, 4


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
