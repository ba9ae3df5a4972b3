"""Random changes to the bytes of a file: of a binary header, of a text, of anything."""

import gzip
import random
import struct
from collections.abc import Callable

from .damages import DAMAGES

HEADER = 352
NUMBERS = (0, 1, -1, 2, 3, 7, 255, 32767, -32768, 2**31 - 1, -(2**31))
REALS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e30, 1e-30, 3e9, 2.0**63)
WORDS = ("", "0", "-1", "²", "1e300", "nan", "inf", "9" * 5000, "../x", "a b", "None", "[]", "{")
SIGNS = ("\x00", "\ufeff", '"', ",", "=", ":", "\r", "\t")

Mutator = Callable[[bytes, random.Random], bytes]


def any_bytes(content: bytes, rng: random.Random) -> bytes:
    """One of the damages of a disk."""
    return DAMAGES[rng.choice([*DAMAGES])](content, rng)


def header(content: bytes, rng: random.Random) -> bytes:
    """Numbers in the binary header replaced by odd ones, one to three of them."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        code = rng.choice("hif")
        value = rng.choice(REALS) if code == "f" else rng.choice(NUMBERS)
        value = max(-32768, min(32767, value)) if code == "h" else value
        packed = struct.pack(f"<{code}", value)
        place = rng.randrange(0, max(1, min(HEADER, len(content)) - 4), 2)
        changed[place : place + len(packed)] = packed
    return bytes(changed)


def text(content: bytes, rng: random.Random) -> bytes:
    """Lines dropped, doubled or swapped, or a word replaced by an odd one."""
    lines = content.decode("utf-8", errors="replace").split("\n")
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(lines))
        change = rng.choice(("drop", "double", "word", "word", "word", "insert"))
        if change == "drop" and len(lines) > 1:
            del lines[place]
        elif change == "double":
            lines.insert(place, lines[place])
        elif change == "insert":
            at = rng.randrange(len(lines[place]) + 1)
            lines[place] = lines[place][:at] + rng.choice(SIGNS) + lines[place][at:]
        else:
            separator = next((s for s in (",", " ", ":", "=") if s in lines[place]), " ")
            words = lines[place].split(separator)
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            lines[place] = separator.join(words)
    return "\n".join(lines).encode("utf-8", errors="surrogatepass")


def zipped(mutator: Mutator) -> Mutator:
    """Change what a gzip file holds, or now and then the gzip file."""

    def mutate(content: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return any_bytes(content, rng)
        return gzip.compress(mutator(gzip.decompress(content), rng), 1)

    return mutate


def mixed(mutator: Mutator) -> Mutator:
    """Mostly a change of its own kind, else any damage."""
    return lambda content, rng: (mutator if rng.random() < 0.7 else any_bytes)(content, rng)
