"""Seeded damage to the files that people hand over, and what may come of it: a refusal in few words, or a reading.

``fuzz(Batch(target, seed, count))`` can run in a reader process (:class:`uasbench.datasets.readers.Readers`), so that
also a crash is found; each number of a batch makes the same damage on every machine. The folder of this file has to be
on ``sys.path`` there.
"""

import random
import tempfile
import unicodedata
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fuzz_targets import TARGETS, Target
from uasbench.common.errors import UasbenchError
from uasbench.datasets.readers import printed

LONGEST = 600
"""Characters of a message beside the paths in it."""


@dataclass(frozen=True)
class Batch:
    """Damages number ``first`` to ``first + count - 1`` of a target."""

    target: str
    first: int = 0
    count: int = 100


@dataclass
class Tally:
    """What came of a batch: how often what, and by number of the damage what must not be."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[int, str] = field(default_factory=dict)


def fuzz(batch: Batch) -> Tally:
    """Damage the files of a target, read them, and judge what comes out."""
    tally = Tally()
    for number in range(batch.first, batch.first + batch.count):
        with tempfile.TemporaryDirectory() as folder:
            damage(batch.target, number, Path(folder))
            outcome, fault = _judged(TARGETS[batch.target], Path(folder))
        tally.outcomes[outcome] += 1
        if fault:
            tally.faults[number] = fault
    return tally


def damage(target: str, number: int, folder: Path) -> None:
    """Write the files of a target with damage number ``number``."""
    chosen = TARGETS[target]
    rng = random.Random(f"{target} {number}")
    files = dict(chosen.files())
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        name = rng.choice(chosen.damaged)
        files[name] = rng.choice(chosen.damage)(rng, files[name])
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _judged(target: Target, folder: Path) -> tuple[str, str | None]:
    printed()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = target.read(folder)
            messages = [text for text in found if isinstance(text, str)] if isinstance(found, list) else []
            outcome = "refused" if messages else "read"
        except UasbenchError as error:
            messages, outcome = [str(error)], "refused"
        except Exception as error:
            return "foreign", f"{type(error).__name__}: {str(error)[:300]}"
    for message in messages:
        rest = message.replace(str(folder), "")
        if rest == message:
            return outcome, f"names no file: {message[:300]}"
        if len(rest) > LONGEST or any(unicodedata.category(sign) == "Cc" for sign in rest.replace("\n", "")):
            return outcome, f"{len(rest)} characters: {rest[:300]!r}"
    said = [str(one.message) for one in caught if not issubclass(one.category, DeprecationWarning)]
    if outcome == "read":  # a library that complains and goes on has read something else than what was meant
        said += [line for line in printed().splitlines() if line.strip()]
    return outcome, f"said: {said[0][:300]}" if said else None
