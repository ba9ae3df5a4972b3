"""What can happen to a file."""

import json
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLIPPED = 8
DEEPER = 100_000
UNPICKLED = 99


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))] if content else content


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(FLIPPED if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _other_json(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(rng.choice(([], {}, None, 0, "text", [1, 2], {"schema": 1}))).encode()


def _no_text(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + b"\xff\xfe\x80" + content[place:]


class _Leaves:
    """What whoever unpickles it leaves with a status that nothing else has."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (UNPICKLED,)


def _pickled(content: bytes, rng: random.Random) -> bytes:
    return pickle.dumps(_Leaves())


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda content, rng: b"",
    "truncated": _truncated,
    "bits flipped": _flipped,
    "other JSON": _other_json,
    "not UTF-8": _no_text,
    "a pickle that acts": _pickled,
    "brackets without end": lambda content, rng: b"[" * DEEPER,
}


def damage(path: Path, kind: str, rng: random.Random) -> None:
    """Replace a file by a damaged one, as another file of that name."""
    content = DAMAGES[kind](path.read_bytes(), rng)
    path.unlink()
    path.write_bytes(content)
