"""The specification of a phantom: every number with its source, and the hash that records carry."""

import hashlib
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import resources
from typing import Any, Self

import numpy as np
import yaml
from scipy.special import ndtr, ndtri

from ...common.errors import DataError
from ...common.source_hash import closure_hash

PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class SizePlan:
    """How much is written: patients per set, lesion-free patients among the lesion set, grid, slice spacing in mm.

    ``nodules`` counts the healthy scans that have annotated nodules (lung).
    """

    healthy: int
    lesion: int
    free: int
    pixels: int
    slices: int
    spacing_mm: float
    nodules: int = 0


@dataclass(frozen=True)
class Stratified:
    """Quantiles of a patient's disease, drawn for all patients of a set together, each from its own stratum.

    Two phantom seeds are then about equally hard although a set has few patients.
    """

    @classmethod
    def strata(cls, rng: np.random.Generator, patients: int) -> list[Self]:
        """Draw one stratum per patient and quantity."""
        columns = [(rng.permutation(patients) + rng.uniform(size=patients)) / max(patients, 1) for _ in fields(cls)]
        return [cls(*(float(value) for value in row)) for row in zip(*columns, strict=True)]

    @classmethod
    def deal(cls, rng: np.random.Generator, plan: SizePlan) -> list[Self | None]:
        """Return the strata of every lesion patient, None for those without lesion."""
        dealt: list[Self | None] = [*cls.strata(rng, plan.lesion - plan.free)]
        for place in sorted(rng.choice(plan.lesion, plan.free, replace=False).tolist()):
            dealt.insert(place, None)
        return dealt


def rounded(record: Any, **digits: int) -> dict[str, Any]:
    """Return the fields of a record of a lesion as plain values, its centre and those named rounded."""
    values = asdict(record)
    values["centre_mm"] = [round(c, 2) for c in values["centre_mm"]]
    return values | {name: round(values[name], places) for name, places in digits.items()}


@dataclass(frozen=True, eq=False)
class Spec:
    """A specification file.

    Attributes:
        version: number that its author raises with every change.
        digest: hash of the file's text, so that no number, and no source, can change unseen.
    """

    version: int
    digest: str
    values: dict[str, Any]

    def entry(self, name: str) -> dict[str, Any]:
        """Return the entry of a dotted name, such as ``hu.fat``."""
        node: Any = self.values
        for part in name.split("."):
            node = node[part]
        return node

    def draw(self, rng: np.random.Generator, name: str) -> Any:
        """Draw a quantity from its distribution; a fixed value is returned as it is and uses no random number."""
        entry = self.entry(name)
        if "value" in entry:
            return entry["value"]
        if "choice" in entry:
            return entry["choice"][int(rng.integers(len(entry["choice"])))]
        if "uniform" in entry:
            return float(rng.uniform(*entry["uniform"]))
        low, high = entry["clip"]
        middle, spread = entry.get("lognormal") or entry["normal"]
        for _ in range(1000):
            step = spread * rng.standard_normal()
            value = float(middle * np.exp(step) if "lognormal" in entry else middle + step)
            if low <= value <= high:
                return value
        raise ValueError(f"{name}: the range {low} … {high} is never drawn")

    def quantile(self, name: str, share: float) -> float:
        """Return the value below which ``share`` of a clipped normal or log-normal quantity lies."""
        entry = self.entry(name)
        middle, sd = entry.get("normal") or (np.log(entry["lognormal"][0]), entry["lognormal"][1])
        bounds = entry["clip"] if "normal" in entry else np.log(entry["clip"])
        low, high = (float(ndtr((bound - middle) / sd)) for bound in bounds)
        value = float(middle + sd * ndtri(low + share * (high - low)))
        return value if "normal" in entry else float(np.exp(value))

    def size(self, name: str) -> SizePlan:
        if name not in self.values["sizes"]:
            raise DataError(f"phantom size {name!r} is unknown; use one of {', '.join(self.values['sizes'])}")
        return SizePlan(**self.values["sizes"][name])


def parse_spec(text: str) -> Spec:
    """Read a specification from YAML text; an entry without a known source is a ValueError."""
    values = yaml.safe_load(text)
    for section in values.keys() - {"name", "version", "sources", "styles", "sizes"}:
        _check_sources(values[section], section, values["sources"])
    for style, entries in values["styles"].items():
        _check_sources(entries, f"styles.{style}", values["sources"])
    digest = hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()[:16]
    return Spec(version=int(values["version"]), digest=digest, values=values)


def _check_sources(entries: dict[str, Any], where: str, sources: dict[str, str]) -> None:
    for name, entry in entries.items():
        for key in {"source", "within"} & entry.keys() | {"source"}:
            if entry.get(key) not in sources:
                raise ValueError(f"{where}.{name}: {key} {entry.get(key)!r} is not listed under sources")


def spec_text(name: str = "liver") -> str:
    """Return the text of a phantom's specification file."""
    return resources.files(PACKAGE).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


@cache
def read_spec(name: str) -> Spec:
    """Return the specification of a phantom."""
    return parse_spec(spec_text(name))


@cache
def generator_digest(module: str) -> str:
    """Hash the source that makes a phantom, so that a changed generator never reuses an old cache.

    Covers the import closures of its module and of the one that writes the files.
    """
    sources = [closure_hash(name) for name in (module, f"{PACKAGE}.disk")]
    return hashlib.sha256("".join(sources).encode()).hexdigest()[:16]
