"""What methods cost by profile, in core- and GPU-seconds, from ``rates.yaml``: for ``bench list methods``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ...common.errors import UasbenchError
from ...methods.config import Profile

if TYPE_CHECKING:
    from ..runs.records import Record

FILE = Path(__file__).with_name("rates.yaml")
SHOWN = ("quick", "standard", "paper")


class RatesError(UasbenchError):
    """The file of rates is wrong; it says in which line."""


class Rate(BaseModel):
    """What one cell (a method, a test set, a seed) costs: seconds of a core or of a GPU.

    ``fit_s`` is for all its trainings (members, folds), ``slice_s`` for a slice that is scored, of which the test set
    of the ``source`` has ``slices``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    profile: Profile
    anatomy: str
    device: Literal["cpu", "gpu"]
    fit_s: float
    slice_s: float
    slices: int
    source: str

    @property
    def hours(self) -> float:
        return (self.fit_s + self.slice_s * self.slices) / 3600

    def line(self) -> str:
        """Return the rate as a line of the file."""
        values = (self.method, self.profile, self.anatomy, self.device, f"{self.fit_s:.3g}", f"{self.slice_s:.2g}")
        return f"  - [{', '.join(values)}, {self.slices}, {self.source}]"


@dataclass(frozen=True)
class Rates:
    """All rates, and what their sources say: hardware, date, data."""

    sources: Mapping[str, str]
    rows: tuple[Rate, ...]

    def hours(self, method: str, device: str) -> tuple[float | None, ...]:
        """Return the hours of a cell at the profiles ``SHOWN``, on the organ that takes longest; None is unknown."""
        return tuple(
            max(
                (r.hours for r in self.rows if (r.method, r.profile, r.device) == (method, profile, device)),
                default=None,
            )
            for profile in SHOWN
        )


@cache
def rates() -> Rates:
    """Return the rates that ship with the benchmark."""
    return read(FILE)


def read(path: Path) -> Rates:
    """Read and check a file of rates.

    Raises:
        RatesError: a line of the wrong length, a wrong value, an unknown source, or a rate that stands twice.
    """
    root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    parts = {key.value: node for key, node in root.value}
    sources = {key.value: node.value for key, node in parts["sources"].value}
    rows: dict[tuple[str, ...], Rate] = {}
    for node in parts["rates"].value:
        try:
            values = dict(zip(Rate.model_fields, (part.value for part in node.value), strict=True))
            rate = Rate.model_validate(values)
            key = (rate.method, rate.profile, rate.anatomy, rate.device)
            if rate.source not in sources or key in rows:
                raise ValueError(f"{', '.join(key)} stands twice" if key in rows else f"no source {rate.source!r}")
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))} {first['input']!r}: {first['msg']}"
            raise RatesError(f"{path}, line {node.start_mark.line + 1}: {what}") from error
        except ValueError as error:
            raise RatesError(f"{path}, line {node.start_mark.line + 1}: {error}") from error
        rows[key] = rate
    return Rates(sources, tuple(rows.values()))


def measured(records: Sequence[Record], source: str) -> Iterator[Rate]:
    """Yield the rates of finished cells, the mean over seeds, for the file: what ``just rates RUN`` prints.

    Variants are left out. Seconds are those of the clock times the threads: nothing else should run on the machine.
    """
    cells: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        if "@" not in record.cell.method:
            device = "cpu" if record.cost.device == "cpu" else "gpu"
            key = (record.cell.method, record.profile, record.data.anatomy, device)
            cells.setdefault(key, []).append(record)
    for (method, profile, anatomy, device), found in sorted(cells.items()):
        costs = [record.cost for record in found]
        threads = costs[0].threads if device == "cpu" else 1
        yield Rate.model_validate(
            {
                "method": method,
                "profile": profile,
                "anatomy": anatomy,
                "device": device,
                "fit_s": threads * fmean(cost.fit_s for cost in costs),
                "slice_s": threads * fmean(cost.s_per_slice for cost in costs),
                "slices": round(costs[0].score_s / costs[0].s_per_slice) if costs[0].s_per_slice else 0,
                "source": source,
            }
        )


def shown(hours: Sequence[float | None]) -> str:
    """Return hours of several profiles as one narrow cell.

    >>> shown((0.0042, 0.163, None)), shown((2e-5, None, 132.4))
    ('0.004 0.16 –', '<0.001 – 132')
    """

    def text(hour: float | None) -> str:
        if hour is None:
            return "–"
        if hour >= 10:
            return f"{hour:.0f}"
        return "<0.001" if hour < 0.001 else f"{hour:.1g}" if hour < 0.1 else f"{hour:.2g}"

    return " ".join(map(text, hours))
