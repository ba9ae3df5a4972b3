"""Ways to damage the bytes of a file, each made from its random numbers alone."""

import gzip
import io
import random
import struct
import zipfile
from collections.abc import Callable

import numpy as np

Damage = Callable[[random.Random, bytes], bytes]


def flip(rng: random.Random, data: bytes) -> bytes:
    """Change single bits, most of them near the front, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64)) if data else 0):
        top = len(data) if rng.random() < 0.3 else min(len(data), 400)
        changed[rng.randrange(top)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    """Cut the end off, or a piece out."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:a] if rng.random() < 0.5 else data[:a] + data[b:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    """Repeat a piece, or append zeros or noise."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:b] + data[a:], data + b"\0" * rng.randrange(1, 5000), data + rng.randbytes(300)))


def number(rng: random.Random, data: bytes) -> bytes:
    """Write a number that breaks sums over a place in the first 400 bytes."""
    odd = rng.choice((0.0, -1.0, 1e30, -1e30, 1e300, 2.0**31, 2.0**63, float("nan"), float("inf"), float("-inf")))
    whole = int(odd) if abs(odd) < 1e30 else rng.randrange(2**63)
    order = rng.choice("<>")
    text = rng.choice(
        (
            lambda: struct.pack(f"{order}f", np.float32(min(max(odd, -3e38), 3e38))),
            lambda: struct.pack(f"{order}d", odd),
            lambda: struct.pack(f"{order}h", (whole + 2**15) % 2**16 - 2**15),
            lambda: struct.pack(f"{order}q", (whole + 2**63) % 2**64 - 2**63),
        )
    )()
    place = 2 * rng.randrange(max(1, min(len(data), 400) // 2))
    return data[:place] + text + data[place + len(text) :]


def zipped(rng: random.Random, data: bytes) -> bytes:
    """Compress, also twice, in pieces, with junk behind or with damage inside."""
    once = gzip.compress(data, 1)
    return rng.choice((once, gzip.compress(once), once + b"junk", once + once, flip(rng, once), cut(rng, once)))


def sheet(rng: random.Random, data: bytes) -> bytes:
    """Pack a workbook again after a word of its sheet was changed, where no other damage keeps it from being read."""
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as before:
            parts = {name: before.read(name) for name in before.namelist()}
    except Exception:
        return data
    with zipfile.ZipFile(buffer, "w") as after:
        for name, part in parts.items():
            after.writestr(name, word(rng, part) if name.endswith("sheet1.xml") else part)
    return buffer.getvalue()


_WORDS = (
    "", " ", "0", "-1", "1.5", "nan", "inf", "-inf", "1e300", "1e-300", "²", "٣", "9" * 5000, "9" * 19, "x" * 20_000,
    "None", "True", "LIST", "LOCAL", "a.raw", "../a.raw", "/etc/passwd", "%d", "\0", "\x1b[31m", '"', "'", ",", ";",
    "=", ":", "\ufeff", "\u00a0", "\r", "\n", "\t", "1 1", "1 1 1 1", "1000", "1000000", "[", "{", "]", "}", "&a", "*a",
    "!!python/object/apply:os.getpid []", "<<: *a", "- ", "? ", "| ", "[" * 3000, "=HYPERLINK(1)",
)  # fmt: skip


def word(rng: random.Random, data: bytes) -> bytes:
    """Replace, insert or delete a word, a number or a sign between them."""
    parts = _split(data)
    at = rng.randrange(len(parts)) if parts else 0
    odd = rng.choice(_WORDS).encode()
    parts[at : at + rng.choice((0, 1, 1, 1))] = [odd] if rng.random() < 0.9 else []
    return b"".join(parts)


def line(rng: random.Random, data: bytes) -> bytes:
    """Delete, repeat, swap or lengthen lines."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.randrange(4)
    if way == 0:
        del lines[a]
    elif way == 1:
        lines.insert(a, lines[b])
    elif way == 2:
        lines[a], lines[b] = lines[b], lines[a]
    else:
        lines[a] = lines[a].rstrip() + b"," * rng.choice((1, 400)) + b"\n"
    return b"".join(lines)


def encoding(rng: random.Random, data: bytes) -> bytes:
    """Write the text in another encoding."""
    text = data.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32", "cp037")), "replace")


def _split(data: bytes) -> list[bytes]:
    parts, last = [], None
    for sign in data:
        kind = chr(sign).isalnum() or sign in b"._-+"
        if kind and last:
            parts[-1] += bytes([sign])
        else:
            parts.append(bytes([sign]))
        last = kind
    return parts


BYTES: tuple[Damage, ...] = (flip, cut, repeat, number)
TEXT: tuple[Damage, ...] = (word, word, word, line, flip, cut, encoding)
