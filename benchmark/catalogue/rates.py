"""What methods cost by profile, in core- and GPU-seconds, from ``rates.yaml``: for lists and plans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ...common.errors import UasbenchError
from ...methods.config import Profile
from ..refinement.prompts import base_of

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


class Source(BaseModel):
    """Where rates come from: hardware, date and data in words; on a CPU the seconds that the probe took there.

    ``train_slices`` are the slices that fits learned from, by organ: a training that is counted in epochs takes longer
    on more; ``slice_voxels`` those of the region of interest in a scored slice. ``stage_s`` is what a stage takes
    around the method (a process, imports, digests), ``measure_s`` a million voxels of regions of interest that are
    measured, ``refine_s`` a slice that SAM looks at, by file of weights, and ``tables_s`` tables and report of a cell;
    core-seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    probe_s: float | None = None
    train_slices: Mapping[str, int] = {}
    slice_voxels: Mapping[str, int] = {}
    stage_s: float = 0.0
    measure_s: float | None = None
    refine_s: Mapping[str, float] = {}
    tables_s: float = 0.0


@dataclass(frozen=True)
class Rates:
    """All rates and their sources."""

    sources: Mapping[str, Source]
    rows: tuple[Rate, ...]

    def find(self, method: str, profile: str, anatomy: str, device: str) -> Rate | None:
        """Return the rate of a cell, that of another organ where this one has none, or None."""
        found = [r for r in self.rows if (r.method, r.profile, r.device) == (method, profile, device)]
        return min(found, key=lambda rate: rate.anatomy != anatomy, default=None)

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
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    parts = {key.value: node for key, node in root.value}
    try:
        sources = {name: Source.model_validate(of) for name, of in yaml.safe_load(text)["sources"].items()}
    except ValidationError as error:
        raise RatesError(f"{path}, sources: {_said(error)}") from error
    rows: dict[tuple[str, ...], Rate] = {}
    for node in parts["rates"].value:
        try:
            values = dict(zip(Rate.model_fields, (part.value for part in node.value), strict=True))
            rate = Rate.model_validate(values)
            key = (rate.method, rate.profile, rate.anatomy, rate.device)
            if rate.source not in sources or key in rows:
                raise ValueError(f"{', '.join(key)} stands twice" if key in rows else f"no source {rate.source!r}")
        except ValidationError as error:
            raise RatesError(f"{path}, line {node.start_mark.line + 1}: {_said(error)}") from error
        except ValueError as error:
            raise RatesError(f"{path}, line {node.start_mark.line + 1}: {error}") from error
        rows[key] = rate
    return Rates(sources, tuple(rows.values()))


def _said(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))} {first['input']!r}: {first['msg']}"


def measured(records: Sequence[Record], source: str) -> Iterator[Rate]:
    """Yield the rates of finished cells, the mean over seeds, for the file: what ``just rates RUN`` prints.

    Variants, refined rows and cells whose fits compiled networks are left out. Seconds are those of the clock times the
    threads: nothing else should run on the machine.
    """
    cells: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in records:
        if not (record.cost.compiled or "@" in record.cell.method or base_of(record.cell.method)):
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


def harness(records: Sequence[Record], timing: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the ``stage_s`` and ``measure_s`` of a :class:`Source` from a run that had the machine to itself.

    ``timing`` is that of ``run.json``, one entry per call.
    """
    spent = {stage: sum(call["stage_s"][stage] for call in timing) for stage in ("fit", "map", "measure")}
    stages = len(records) + len({fit for record in records for fit in record.ids.fits})
    around = spent["fit"] + spent["map"] - sum(call["fit_and_score_s"] for call in timing)
    stage_s = max(0.0, around / stages)
    facts = [case for record in records for case in (record.data.facts or {}).values()]
    voxels = sum(1e3 * case.organ_ml / math.prod(case.spacing) for case in facts)
    measure_s = max(0.0, spent["measure"] - len(records) * stage_s) / (voxels / 1e6)
    return {"stage_s": float(f"{stage_s:.3g}"), "measure_s": float(f"{measure_s:.2g}")}


def shown(hours: Sequence[float | None]) -> str:
    """Return hours of several profiles as one narrow cell.

    >>> shown((0.0042, 0.163, None)), shown((2e-5, None, 132.4))
    ('0.004 0.16 –', '<0.001 – 132')
    """

    def text(hour: float | None) -> str:
        if hour is None:
            return "–"
        if hour == 0:
            return "0"
        if hour >= 10:
            return f"{hour:.0f}"
        return "<0.001" if hour < 0.001 else f"{hour:.1g}" if hour < 0.1 else f"{hour:.2g}"

    return " ".join(map(text, hours))
