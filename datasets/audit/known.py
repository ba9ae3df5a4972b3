"""What is published about cases of public sets, from ``known.yaml``."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).with_name("known.yaml")


class Finding(BaseModel, frozen=True):
    """One published fact about a set or some of its cases; docs/datasets.md tells what each ``advice`` asks for."""

    model_config = ConfigDict(extra="forbid")

    set: str
    advice: Literal["remark", "keep", "twin"]
    text: str
    source: str
    cases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    """A finding, and which cases that are there it concerns; all of them where it names none."""

    finding: Finding
    cases: tuple[str, ...]


@cache
def findings() -> tuple[Finding, ...]:
    """Return all findings, in the order of the file."""
    rows = yaml.safe_load(FILE.read_text(encoding="utf-8"))["findings"]
    return tuple(Finding.model_validate(row) for row in rows)


def told_of(dataset: str, cases: Collection[str]) -> list[Told]:
    """Return what is known of a set of which these cases are there."""
    rows = [finding for finding in findings() if finding.set == dataset]
    there = [(row, tuple(case for case in cases if not row.cases or case in row.cases)) for row in rows]
    return [Told(row, concerned) for row, concerned in there if concerned or not row.cases or row.advice == "keep"]
