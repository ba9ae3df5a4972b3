"""What pretrained weights may have seen of a data set before a run began: pre-training overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..common.errors import printable

Level = Literal["none", "web", "pictures", "volumes", "masks"]
LEVELS: tuple[Level, ...] = get_args(Level)
NAMING: tuple[Level, ...] = ("pictures", "volumes", "masks")
"""Levels at which data sets have been seen, so that they are named."""


@dataclass(frozen=True)
class Pretraining:
    """What the weights that a method starts from were made of.

    Attributes:
        level: ``none`` (no weights, or no medical CT in what they were made from), ``web`` (pictures of the web, which
            nobody can search for CT), ``pictures`` (figures that show scans of ``sets``), ``volumes`` (the scans
            themselves) or ``masks`` (with masks drawn in them).
        sets: the data sets that were seen, by the names of ``bench list datasets`` or any other.
        corpus: what the weights were made from, in a few words.

    Raises:
        ValueError: an unknown level, a level that names data sets without any, or the other way round.
    """

    level: Level = "none"
    sets: tuple[str, ...] = ()
    corpus: str = ""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"pretraining level {self.level!r:.60}: expected {' or '.join(LEVELS)}")
        if not isinstance(self.sets, tuple) or not all(isinstance(name, str) and name.strip() for name in self.sets):
            raise ValueError(f"pretraining sets {self.sets!r:.60}: expected a tuple of names of data sets")
        if (self.level in NAMING) != bool(self.sets):
            fix = "name the data sets that were seen" if self.level in NAMING else f"a level of {', '.join(NAMING)}"
            raise ValueError(f"pretraining level {self.level!r} with sets {self.sets!r:.60}: give {fix}")
        for text in (self.corpus, *self.sets):
            if not isinstance(text, str) or printable(text) != text:
                raise ValueError(f"pretraining {text!r:.60}: expected text without control characters")

    def __str__(self) -> str:
        seen = f": {', '.join(self.sets)}" if self.sets else ""
        return f"{self.level}{seen}" + (f" ({self.corpus})" if self.corpus else "")


NONE = Pretraining()
