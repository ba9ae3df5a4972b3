"""What a report knows of its figures: where they lie, and what it says about them."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ...common.atomic import write_text
from ..headline import Headline
from ..writers import csv_text


@dataclass(frozen=True)
class Spot:
    """A point of a figure that the report answers for: ``left`` and ``top`` as shares of width and height."""

    left: float
    top: float
    method: str
    told: str


@dataclass(frozen=True)
class Picture:
    """A figure that lies on disk, with what the report says about it; those not ``shown`` there are files only.

    ``group`` is one of ``GROUPS``; ``data`` holds the numbers that are drawn, as CSV; ``spots`` are told on hover.
    """

    group: str
    dataset: str
    train: str
    title: str
    path: Path
    caption: str = ""
    method: str = ""
    shown: bool = True
    data: Path | None = None
    spots: tuple[Spot, ...] = ()


@dataclass
class Pictures:
    """All figures of a run, and notes on those that could not be drawn."""

    found: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """Every figure and what is behind it."""
        return [path for one in self.found for path in (one.path, one.data) if path is not None]

    def of(self, group: str, headline: Headline) -> list[Picture]:
        """Return the shown figures of a group for one (dataset, train) pair, methods in the order of the table."""
        wanted = (group, headline.dataset, headline.train)
        order = {row.method: i for i, row in enumerate(headline.rows)}
        chosen = [p for p in self.found if p.shown and (p.group, p.dataset, p.train) == wanted]
        return sorted(chosen, key=lambda p: order.get(p.method, 0))


def write_data(figure: Path, frame: pd.DataFrame) -> Path:
    """Write what a figure draws beside it."""
    return write_text(figure.with_suffix(".csv"), csv_text(frame))
