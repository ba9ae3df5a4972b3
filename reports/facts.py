"""What the tables say of a method beside its numbers: its kind, its profile, and the flags of every number."""

from collections.abc import Sequence
from typing import NamedTuple

from ..benchmark.protocols.catalogue import PROTOCOLS, is_oracle
from ..benchmark.runs.records import MethodInfo, Record
from ..benchmark.scoring.metrics import METRICS


class MethodOnData(NamedTuple):
    """Which method on which data, over all seeds."""

    method: str
    dataset: str
    train: str


class Facts(NamedTuple):
    """What the tables say about a method beside its numbers; ``untrusted`` are cases whose spacing is not trusted."""

    method: MethodInfo
    profile: str
    flags: frozenset[str]
    untrusted: frozenset[str] = frozenset()


def facts(records: Sequence[Record]) -> dict[MethodOnData, Facts]:
    """Return the facts of every method; a flag counts when any of its records has it."""
    found: dict[MethodOnData, Facts] = {}
    for record in records:
        where = MethodOnData(record.cell.method, record.cell.dataset, record.cell.train)
        known = found.get(where)
        flags, untrusted = (frozenset(), frozenset()) if known is None else (known.flags, known.untrusted)
        untrusted |= {case for case, trust in record.data.trust.items() if not trust.spacing_trusted}
        found[where] = Facts(record.method, record.profile, flags | record_flags(record), untrusted)
    return found


def record_flags(record: Record) -> set[str]:
    """Return the flags that hold for every number of a record."""
    method = record.method
    holds = {
        "phantom": record.data.phantom is not None,
        "smoke": record.profile == "smoke",
        "transductive": method.uses == "unlabelled-test",
        "topline": method.uses == "labels" or method.supervision == "full",
        "trivial": method.trivial,
        "near-chance": method.near_chance,
        "undertrained": method.undertrained and record.profile != "paper",
    }
    return {flag for flag, held in holds.items() if held}


def number_flags(known: Facts, protocol: str, metric: str, case: str | None = None) -> set[str]:
    """Return the flags of a number, of one case or of all: those of its method, its protocol and its metric."""
    flags = {*known.flags}
    if is_oracle(protocol):
        flags.add("oracle")
    tuned = protocol in PROTOCOLS and PROTOCOLS[protocol].post_processes
    counted = metric in METRICS and METRICS[metric].unit in ("ml", "mm")
    if known.untrusted and (tuned or (counted and (case is None or case in known.untrusted))):
        flags.add("untrusted-spacing")
    return flags
