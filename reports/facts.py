"""What the tables say of a method beside its numbers: its kind, its profile, and the flags of every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..benchmark.protocols.catalogue import is_oracle
from ..benchmark.runs.records import MethodInfo, Record


class MethodOnData(NamedTuple):
    """Which method on which data, over all seeds."""

    method: str
    dataset: str
    train: str


class Facts(NamedTuple):
    """What the tables say about a method beside its numbers."""

    method: MethodInfo
    profile: str
    flags: frozenset[str]


def facts(records: Sequence[Record]) -> dict[MethodOnData, Facts]:
    """Return the facts of every method; a flag counts when any of its records has it."""
    found: dict[MethodOnData, Facts] = {}
    for record in records:
        where = MethodOnData(record.cell.method, record.cell.dataset, record.cell.train)
        flags = found[where].flags if where in found else frozenset()
        found[where] = Facts(record.method, record.profile, flags | record_flags(record))
    return found


def record_flags(record: Record) -> set[str]:
    """Return the flags that hold for every number of a record."""
    flags = set()
    if record.data.phantom is not None:
        flags.add("phantom")
    if record.profile == "smoke":
        flags.add("smoke")
    if record.method.uses == "unlabelled-test":
        flags.add("transductive")
    if record.method.uses == "labels" or record.method.supervision == "full":
        flags.add("topline")
    if record.method.trivial:
        flags.add("trivial")
    if record.method.near_chance:
        flags.add("near-chance")
    if record.method.undertrained and record.profile != "paper":
        flags.add("undertrained")
    return flags


def protocol_flags(protocol: str) -> set[str]:
    """Return the flags that a protocol brings with it."""
    return {"oracle"} if is_oracle(protocol) else set()
